"""`joint-st data inspect`: what a config reads, in utterances and hours, what is left out and why, buckets and
padding."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import tqdm

from joint_st import storage
from joint_st.config import Config, FeaturesConfig, Source
from joint_st.data.audio import UnreadableAudio
from joint_st.data.dataset import Dataset, open_paired, open_texts
from joint_st.data.index import AUDIO, Entries
from joint_st.data.normalizers import misfit, normalizer
from joint_st.data.plan import text_plan, training_plan
from joint_st.data.sources import read_whole
from joint_st.data.texts import learn_from_texts, open_indexes


def inspect(config: Config) -> Iterator[str]:
    """Yield lines about each split as soon as they are known; no audio is decoded."""
    data, features = config.data, config.model.features
    normalize = normalizer(data.normalizer)
    indexes = open_indexes(config)
    symbols, vocabulary = learn_from_texts(config, indexes)
    tokenizer, units = symbols.labels, symbols.units
    yield f"tokenizer: {tokenizer.kind}, {tokenizer.size} labels, the CTC blank included"
    if units:
        yield f"text units: {data.units.kind}, {units.size}, padding and unknown included"
    yield f"words: {len(vocabulary.heard)} in training audio, {len(vocabulary.read)} in training text alone"

    for name, sources in _splits(config).items():
        if not sources:
            continue
        training = name == "train"
        made_with = data, features, normalize, tokenizer, units
        prepared = open_paired(sources, *made_with, training=training, indexes=indexes)
        yield f"{name}: {prepared.describe()}"
        if units:
            total = int(prepared.unit_lengths.sum())
            rate = f", {total / prepared.seconds:.1f} per second" if prepared.seconds else ""
            yield f"  {total / len(prepared):.1f} text units per utterance{rate}"
        if training:
            yield f"  {_density(prepared, features)}"
            plan = training_plan(prepared, data, config.seed)
            yield f"  {plan.describe(features.sample_rate, 's')}"
    if data.text_batch_size:
        assert units is not None  # the schema
        texts = open_texts(data, normalize, tokenizer, units, indexes=indexes)
        yield f"text: {texts.describe()}"
        yield f"  {text_plan(texts, data, config.seed).describe(1, 'text units')}"
    if remark := misfit(data.normalizer, (*symbols.languages, *data.units.languages)):
        yield f"warning: {remark}"
    for unused in config.unused:
        yield f"warning: {unused}"


DENSE = 0.6
"""Share of the frames that CTC needs for the labels of half of the utterances from which on there is a hint: shorter frames
removed a tenth of the errors of a reader whose labels need 0.62 (`configs/sweeps/recorded_read.py`)."""


def _density(prepared: Dataset, features: FeaturesConfig) -> str:
    """Say how dense the labels are: where they fill the frames, CTC has nearly one path, and little to learn from."""
    labels = int(prepared.label_lengths.sum(dtype=np.int64))
    shares = prepared.frames_needed / np.maximum(features.frames(prepared.lengths), 1)
    usual, dense = np.quantile(shares, (0.5, 0.99))
    hint = "; shorter frames (model.features.hop_ms) or wordpieces leave it more choice" if usual > DENSE else ""
    return (
        f"{labels / prepared.seconds:.1f} labels per second; CTC needs at least {usual:.0%} of the frames of "
        f"{features.frame_ms:g} ms for them, and {dense:.0%} in one utterance of a hundred{hint}"
    )


def _splits(config: Config) -> dict[str, tuple[Source, ...]]:
    """Return the sources of utterances by their purpose."""
    data = config.data
    return {"train": data.train, "dev": data.dev} | {f"test.{name}": (one,) for name, one in data.test.items()}


TOGETHER = 1024
"""Number of utterances that are given to the threads at a time."""


class Bad(NamedTuple):
    """An utterance that cannot be read, or whose audio is not as stated."""

    splits: str
    where: str
    id: str
    why: str

    def __str__(self) -> str:
        return storage.printable_text(f"{self.splits}: {self.where}: {self.id}: {self.why}")


class DecodedAll(NamedTuple):
    """The outcome of decoding all utterances."""

    utterances: int
    seconds: float
    bad: list[Bad]

    def __str__(self) -> str:
        return f"decoded {self.utterances} utterances, {self.seconds / 3600:.2f} h; {len(self.bad)} cannot be read"


def decode_all(config: Config) -> DecodedAll:
    """Decode every utterance of a config once as training would, including those that training leaves out."""
    data, indexes = config.data, open_indexes(config)
    splits: dict[str, list[str]] = {}
    opened: dict[str, Entries] = {}
    for name, sources in _splits(config).items():
        for source in sources:
            own = source.model_dump_json()
            splits.setdefault(own, []).append(name)
            opened[own] = indexes.entries(source)
    rows = {own: np.flatnonzero(entries.flags & AUDIO) for own, entries in opened.items()}
    bad, seconds = [], 0.0

    def listen(entries: Entries, row: int) -> tuple[float, str]:
        """Return the seconds of an utterance, and why it is bad; empty where it is good."""
        try:
            stated = float(entries.seconds[row])
            one = read_whole(entries, row, entries.id(row), stated, data.length_tolerance)
        except UnreadableAudio as error:
            return 0.0, error.why if error.path == entries.id(row) else f"{error.path}: {error.why}"
        return len(one.audio) / one.sample_rate if one.sample_rate else 0.0, ""

    total = sum(map(len, rows.values()))
    bar = tqdm.tqdm(total=total, desc="decoding", unit=" utterances", delay=1, leave=False, disable=None)
    with bar, ThreadPoolExecutor(data.read_threads) as readers:
        for own, entries in opened.items():
            for start in range(0, len(rows[own]), TOGETHER):
                some = rows[own][start : start + TOGETHER].tolist()
                for row, (length, why) in zip(some, readers.map(functools.partial(listen, entries), some)):
                    seconds += length
                    bar.update()
                    if why:
                        names = ", ".join(splits[own])
                        bad.append(Bad(names, entries.where(row), entries.id(row), why))
    return DecodedAll(total, seconds, bad)
