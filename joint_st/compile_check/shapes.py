"""The shapes of the heaviest step of a config, without its data.

That step has the longest bucket of speech together with the longest of text. Where buckets are planned from data, their
longest is at most `data.max_seconds`, slowed down as far as `data.augmentation` may, and `data.max_text_units`; labels and
units are bounded here by fast speech.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from joint_st.config import Config
from joint_st.data.augmentation import make_augmentation
from joint_st.data.buckets import LABEL_MULTIPLE, Buckets
from joint_st.data.paths import expand
from joint_st.data.symbols import SymbolSizes
from joint_st.data.tokenizers import load_tokenizer
from joint_st.models.text_encoder import most_frames

PER_SECOND = {"characters": 20, "phonemes": 18}
"""Labels or units per second of fast speech, boundaries between words included: 200 words a minute, of 6 characters or
5.4 phonemes each."""

INVENTORY = {"characters": 32, "phonemes": 128}
"""Number of labels or units where neither the config nor the command states it: 26 letters and a few more; phonemes of
a few languages."""


class Sizes(NamedTuple):
    """The sizes of a run's inventories."""

    sizes: SymbolSizes
    assumed: tuple[str, ...]
    """Which sizes were assumed, in words."""


def sizes(config: Config, labels: int | None = None, units: int | None = None) -> Sizes:
    """Return the sizes that were given, else those of the config, else assumed ones."""
    data, assumed = config.data, []

    def size(kind: str, wordpieces: int, option: str) -> int:
        if kind == "sentencepiece":
            return wordpieces
        assumed.append(f"{INVENTORY[kind]} {kind} (--{option} N)")
        return INVENTORY[kind]

    if labels is None and data.tokenizer.path:
        labels = load_tokenizer(expand(data.tokenizer.path)).size
    if labels is None:
        labels = size(data.tokenizer.kind, data.tokenizer.vocabulary_size, "labels")
    if data.units.kind == "none":
        units = 0
    elif units is None:
        units = size(data.units.kind, data.units.vocabulary_size, "units")
    return Sizes(SymbolSizes(labels, units), tuple(assumed))


def per_second(kind: str, wordpieces: int) -> float:
    """Return labels or units per second of fast speech.

    A wordpiece of an inventory of V is taken to have log2(V) / 4 characters. In 5,900 English sentences it had 1.4,
    2.1, 2.9 and 4.0 at 64, 256, 1024 and 4096 wordpieces; in one sentence of a hundred 1.1, 1.5, 2.0 and 2.6 or fewer.
    """
    if kind == "sentencepiece":
        return PER_SECOND["characters"] / max(math.log2(wordpieces) / 4, 1)
    return PER_SECOND[kind]


def heaviest(config: Config) -> dict[str, Buckets]:
    """Return, by part of the batch, the longest bucket of speech, and of text where the config reads text alone."""
    data, features = config.data, config.model.features
    samples = math.ceil(data.max_seconds * features.sample_rate)
    if augmentation := make_augmentation(data.augmentation):
        samples = int(augmentation.planned(np.array([samples]))[0])
    frames = features.frames(samples)
    label_rate = per_second(data.tokenizer.kind, data.tokenizer.vocabulary_size)
    has_units = data.units.kind != "none"
    unit_rate = per_second(data.units.kind, data.units.vocabulary_size) if has_units else 0
    labels = min(data.max_seconds * label_rate, frames)
    units = min(data.max_seconds * unit_rate, data.max_text_units)
    speech = Buckets(
        bounds=(frames * features.samples_per_frame,),
        label_bounds=(rounded(labels),),
        batch_sizes=(data.batch_size,),
        unit_bounds=(rounded(units),) if has_units else (),
    )
    if not data.text_batch_size:
        return {"paired": speech}
    units = rounded(data.max_text_units)
    labels = min(units * label_rate / unit_rate, most_frames(config.text, units))
    text = Buckets((units,), (rounded(labels),), (data.text_batch_size,), (units,))
    return {"paired": speech, "text": text}


def rounded(count: float) -> int:
    """Return a bound rounded up as the bounds of buckets are."""
    return math.ceil(count / LABEL_MULTIPLE) * LABEL_MULTIPLE


def describe_batch(config: Config, buckets: dict[str, Buckets]) -> str:
    """Return the batch in words."""
    speech, text = buckets["paired"], buckets.get("text")
    seconds = config.model.features.seconds(speech.bounds[0])
    units = f", {speech.unit_bounds[0]} text units" if speech.unit_bounds else ""
    line = f"{speech.batch_sizes[0]} × {seconds:.4g} s of speech with {speech.label_bounds[0]} labels{units}"
    if text:
        line += f"; {text.batch_sizes[0]} texts of {text.bounds[0]} text units, {text.label_bounds[0]} labels"
    return line
