"""The TFDS builder `spoken_grammar`."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import fcntl
import io
import itertools
import os
import pathlib
import random
import shutil
import tempfile
import threading
from typing import Iterator

import numpy as np
import tensorflow_datasets as tfds
import tqdm

from joint_st.data.corpora.spoken_grammar import synthesis
from joint_st.data.corpora.spoken_grammar.espeak import Synthesizer
from joint_st.data.corpora.spoken_grammar.grammar import sentences
from joint_st.data.corpora.spoken_grammar.voices import voices
from joint_st.errors import UserError

AHEAD = 64
"""Utterances synthesised ahead of the one being written."""


@dataclasses.dataclass
class SpokenGrammarConfig(tfds.core.BuilderConfig):
    """Utterances of each split; `text` has no audio."""

    train: int = 8_000
    dev: int = 200
    test: int = 600
    text: int = 12_000


@dataclasses.dataclass(frozen=True)
class Script:
    """What is said, and by whom; an empty voice stands for text without audio."""

    id: str
    text: str
    voice: str


class SpokenGrammar(tfds.core.GeneratorBasedBuilder):
    """Short sentences over numbers, dates, names of people and of places, spoken by espeak-ng.

    Half of the names are never heard in `train` but occur in `text`, which has no audio. `dev` and `test` have
    voices of their own; half of their utterances have names heard in training only, half names only read.
    Each utterance comes with the true times of its words.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [
        SpokenGrammarConfig(name="default", description="About 5.5 hours of speech to train on."),
        SpokenGrammarConfig(
            name="tiny", description="A few utterances, for tests.", train=24, dev=8, test=8, text=40
        ),
    ]
    pkg_dir_path = None  # no files of TFDS's kind (README, TAGS, CITATIONS) lie beside this module
    bar: tqdm.tqdm | None = None
    """Told of each spoken utterance built."""

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=type(self).__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "audio": tfds.features.Tensor(shape=(None,), dtype=np.int16, encoding="bytes"),
                    "sample_rate": np.int32,
                    "num_samples": np.int32,
                    "text": tfds.features.Text(),
                    "language": tfds.features.Text(),
                    "speaker": tfds.features.Text(),
                    "word_starts": tfds.features.Tensor(shape=(None,), dtype=np.int32),
                    "word_ends": tfds.features.Tensor(shape=(None,), dtype=np.int32),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(said) for split, said in scripts(self.builder_config).items()}

    def _generate_examples(self, scripts: list[Script]) -> Iterator[tuple[str, dict]]:
        for script, spoken in zip(scripts, spoken_in_order(scripts)):
            if self.bar is not None and script.voice:
                self.bar.update()
            yield (
                script.id,
                {
                    "id": script.id,
                    "audio": spoken.audio,
                    "sample_rate": synthesis.SAMPLE_RATE,
                    "num_samples": len(spoken.audio),
                    "text": script.text,
                    "language": "en",
                    "speaker": script.voice,
                    "word_starts": spoken.word_starts,
                    "word_ends": spoken.word_ends,
                },
            )


def scripts(config: SpokenGrammarConfig) -> dict[str, list[Script]]:
    """The scripts of each split. No sentence occurs in two splits or twice in one."""
    streams = {
        "test": sentences("test", only_read_share=0.5, whole=True),
        "dev": sentences("dev", only_read_share=0.5, whole=True),
        "train": sentences("train", only_read_share=0),
        "text": sentences("text", only_read_share=0.6),
    }
    taken: set[str] = set()
    out = {}
    for split, stream in streams.items():
        fresh = []
        while len(fresh) < getattr(config, split):
            sentence = next(stream)
            if sentence not in taken:
                taken.add(sentence)
                fresh.append(sentence)
        deal = (itertools.repeat("") if split == "text" else cycle_shuffled(voices(split), split))
        out[split] = [Script(f"{split}_{i:05d}", text, voice) for i, (text, voice) in enumerate(zip(fresh, deal))]
    return {split: out[split] for split in ("train", "dev", "test", "text")}


def cycle_shuffled(items: tuple[str, ...], seed: str) -> Iterator[str]:
    """Endless items, each as often as the others, in an order drawn from `seed`."""
    rng = random.Random(f"voices of {seed}")
    while True:
        yield from rng.sample(items, len(items))


def spoken_in_order(scripts: list[Script]) -> Iterator[synthesis.Spoken]:
    """Speech of each script; threads synthesise ahead (espeak-ng and the resampler run outside Python's lock)."""
    own = threading.local()

    def speak(script: Script) -> synthesis.Spoken:
        if not script.voice:
            none = np.zeros(0, np.int32)
            return synthesis.Spoken(np.zeros(0, np.int16), none, none)
        if not hasattr(own, "synthesizer"):
            own.synthesizer = Synthesizer()
        return synthesis.speak(own.synthesizer, script.id, script.text, script.voice)

    with concurrent.futures.ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        ahead: collections.deque = collections.deque()
        for script in scripts:
            ahead.append(pool.submit(speak, script))
            if len(ahead) > AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def build(data_dir: str = "", config: str = "default", progress: bool = True) -> SpokenGrammar:
    """The builder, its dataset built if absent.

    Several processes may call this at once: one builds, the others wait. What a killed build left is removed.
    """
    known = [c.name for c in SpokenGrammar.BUILDER_CONFIGS]
    if config not in known:
        raise UserError(f"spoken_grammar has no config {config!r}; it has {', '.join(known)}")
    folder = os.path.expanduser(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    builder = SpokenGrammar(config=config, data_dir=folder, file_format=tfds.core.FileFormat.ARRAY_RECORD)
    if builder.data_path.exists():
        return builder
    versions = pathlib.Path(builder.data_path).parent
    versions.mkdir(parents=True, exist_ok=True)
    with open(versions / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released when the process ends, however it ends
        if not builder.data_path.exists():
            for left in versions.glob("incomplete.*"):
                shutil.rmtree(left)
            _prepare(builder, progress)
    return SpokenGrammar(config=config, data_dir=folder)


def _prepare(builder: SpokenGrammar, progress: bool) -> None:
    """Builds, with one progress bar on stderr in place of TFDS's several, and its messages on stdout."""
    config = builder.builder_config
    total = config.train + config.dev + config.test
    shown = tfds.core.utils.tqdm_utils._active
    with (
        tqdm.tqdm(total=total, desc=f"building {builder.info.full_name}", unit=" utterances", disable=not progress) as bar,
        tempfile.TemporaryDirectory(prefix="joint_st_") as nothing,
        contextlib.redirect_stdout(io.StringIO()),
    ):
        builder.bar = bar
        tfds.disable_progress_bar()
        try:
            builder.download_and_prepare(download_dir=nothing)
        finally:
            tfds.display_progress_bar(shown)
            builder.bar = None
