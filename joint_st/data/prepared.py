"""A dataset made ready for batches: what is in it, how long everything is, and what was left out and why."""

from __future__ import annotations

import hashlib
import logging
import math
from array import array
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import tqdm

from joint_st.config import DataConfig, FeaturesConfig, Source
from joint_st.data.audio import UnreadableAudio, resample
from joint_st.data.normalizers import Normalizer
from joint_st.data.sources import Concatenated, Corpus, open_source
from joint_st.data.text_units import Units
from joint_st.data.text_units.counting import UnitCounter
from joint_st.data.tokenizers import Tokenizer
from joint_st.data.utterance import Entry, Utterance
from joint_st.data.word_times import unit_ends, word_times
from joint_st.errors import UserError

log = logging.getLogger(__name__)

NAMED = 10
"""Unreadable utterances that the index names in warnings; it counts all."""


class Example(NamedTuple):
    """An utterance as training takes it."""

    audio: np.ndarray
    """int16 [samples] at the model's rate."""
    labels: np.ndarray
    """int32 [L]."""
    units: np.ndarray
    """int32 [U]; none where the utterance takes part with its audio alone."""
    unit_ends: np.ndarray
    """Encoder frame (exclusive) at which each unit ends, int32 [U]; zeros where the times of words are unknown."""
    language: str = ""
    """BCP 47 tag; empty where the source does not say."""


class TextExample(NamedTuple):
    """A text as training takes it."""

    labels: np.ndarray
    """int32 [L]."""
    units: np.ndarray
    """int32 [U]; none for a language model."""
    language: str = ""
    """BCP 47 tag; empty where the source does not say."""


class Prepared:
    """`N` utterances of a corpus, indexed in 20 bytes each; text and audio are read when asked for."""

    def __init__(
        self,
        corpus: Corpus,
        rows: np.ndarray,
        lengths: np.ndarray,
        label_lengths: np.ndarray,
        unit_lengths: np.ndarray,
        dropped: dict[str, int],
        features: FeaturesConfig,
        normalizer: Normalizer,
        tokenizer: Tokenizer,
        units: Units | None,
        strict: bool,
    ):
        self.corpus = corpus
        self.rows = rows
        """Row in the corpus of each utterance, int64 [N]."""
        self.lengths = lengths
        """Samples at the model's rate as the source states them, int32 [N]."""
        self.label_lengths = label_lengths
        """Labels, int32 [N]."""
        self.unit_lengths = unit_lengths
        """Units of the text encoder, int32 [N]; 0 where the utterance takes part with its audio alone."""
        self.dropped = dropped
        """How many utterances were left out, by reason."""
        self.unreadable: dict[int, str] = {}
        """Utterances that this host has failed to read so far, by number: which file, and why."""
        self.features = features
        self.normalizer = normalizer
        self.tokenizer = tokenizer
        self.units = units
        self.strict = strict

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def fingerprint(self) -> str:
        """Changes with the lengths of the utterances."""
        return hashlib.sha256(self.lengths.tobytes() + self.label_lengths.tobytes()).hexdigest()[:16]

    def entry(self, n: int) -> Entry:
        """Utterance `n` without its audio."""
        return self.corpus.entry(int(self.rows[n]))

    def id(self, n: int) -> str:
        """The id of utterance `n` in its corpus."""
        return self.entry(n).id

    def text(self, n: int) -> str:
        """The normalised transcript of utterance `n`."""
        return self.normalizer(self.entry(n).text)

    def utterance(self, n: int) -> Utterance:
        """Utterance `n` as its source holds it. Raises `UnreadableAudio`."""
        return self.corpus[int(self.rows[n])]

    def load(self, n: int) -> Example:
        """Utterance `n`, its audio decoded. Raises `UnreadableAudio`."""
        utterance = self.utterance(n)
        audio = resample(utterance.audio, utterance.sample_rate, self.features.sample_rate)
        text = self.normalizer(utterance.text)
        labels = self.tokenizer.encode(text)
        if self.units is None or not self.unit_lengths[n]:
            none = np.zeros(0, np.int32)
            return Example(audio, labels, none, none, utterance.language)
        units = self.units.encode(text, utterance.language)
        times = word_times(utterance, text)
        if times is None:
            return Example(audio, labels, units, np.zeros_like(units), utterance.language)
        frame_s = self.features.samples_per_frame / self.features.sample_rate
        words = self.units.words(text, utterance.language)
        ends = unit_ends(words, *times, frame_s, self.features.frames(len(audio)))
        return Example(audio, labels, units, ends, utterance.language)

    def note_unreadable(self, n: int, error: UnreadableAudio) -> None:
        """Counts utterance `n` as unreadable and warns, once; raises the error where the config is strict."""
        if self.strict:
            raise error
        message = f"{error.path}: {error.why}"
        # The one thread whose own string is kept is the first.
        if self.unreadable.setdefault(n, message) is message:
            log.warning("skipped %s", message)

    @property
    def seconds(self) -> float:
        """Length of the audio."""
        return int(self.lengths.sum(dtype=np.int64)) / self.features.sample_rate

    def describe(self) -> str:
        """What is in it and what was dropped, in one line."""
        dropped = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items())
        alone = np.count_nonzero(self.unit_lengths == 0) if self.units else 0
        without = f"; {alone} with audio alone, their units too many or none" if alone else ""
        return f"{len(self)} utterances, {self.seconds / 3600:.2f} h; dropped {dropped or 'none'}{without}"


def prepare(
    sources: Iterable[Source],
    data: DataConfig,
    features: FeaturesConfig,
    normalizer: Normalizer,
    tokenizer: Tokenizer,
    units: Units | None = None,
    *,
    training: bool,
) -> Prepared:
    """Goes once through the sources, without decoding audio, and computes the units of their texts.

    Left out are utterances without audio and those known to be unreadable; in training also those outside
    `min_seconds`..`max_seconds`, those without text, and those with more labels than CTC can emit in their
    frames (a repeated label needs a blank between). In training, those with more than `max_text_units` take part
    with their audio alone. Raises `UserError` where none is left, and, where the config is strict, for the first
    that is unreadable.
    """
    corpus = Concatenated([open_source(source) for source in sources])
    rows, lengths, label_lengths = array("q"), array("i"), array("i")
    counter = UnitCounter(units)
    dropped = Counter()
    what = f"indexing {corpus.name}"
    for i in tqdm.trange(len(corpus), desc=what, unit=" utterances", delay=1, leave=False, disable=None):
        entry = corpus.entry(i)
        text = normalizer(entry.text)
        labels = tokenizer.encode(text)
        # A duration of 0.3 s is 4800.000000000001 samples or so: not one more.
        samples = math.ceil(entry.seconds * features.sample_rate - 1e-3)
        if entry.problem and data.strict:
            raise UserError(f"{entry.problem}; mend it, take {entry.id} out of the data or unset data.strict")
        if not entry.has_audio:
            dropped["without audio"] += 1
        elif entry.problem:
            dropped["unreadable"] += 1
            if dropped["unreadable"] <= NAMED:
                log.warning("left out %s: %s", entry.id, entry.problem)
        elif training and entry.seconds < data.min_seconds:
            dropped["too short"] += 1
        elif training and entry.seconds > data.max_seconds:
            dropped["too long"] += 1
        elif training and not len(labels):
            dropped["with empty text"] += 1
        elif training and features.frames(samples) < frames_for_ctc(labels):
            dropped["too short for CTC"] += 1
        else:
            rows.append(i)
            lengths.append(samples)
            label_lengths.append(len(labels))
            counter.add(text, entry.language)
    if not rows:
        why = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "the sources are empty"
        raise UserError(f"data: no utterance of {corpus.name} is left ({why}); correct the sources")
    unit_lengths = counter.lengths()
    if training:
        unit_lengths[unit_lengths > data.max_text_units] = 0
    return Prepared(
        corpus,
        np.array(rows, np.int64),
        np.array(lengths, np.int32),
        np.array(label_lengths, np.int32),
        unit_lengths,
        dict(dropped),
        features,
        normalizer,
        tokenizer,
        units,
        data.strict,
    )


def frames_for_ctc(labels: np.ndarray) -> int:
    """Fewest frames in which CTC can emit labels [U]: one each, and a blank between equal neighbours."""
    return len(labels) + int(np.count_nonzero(labels[1:] == labels[:-1]))
