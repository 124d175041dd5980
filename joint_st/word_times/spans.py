"""The times of words and units in an utterance: what an alignment is, and how it follows from frames of labels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Span(NamedTuple):
    """A word or a unit, and when it is spoken."""

    text: str
    start: float
    """Seconds from the beginning of the utterance."""
    end: float
    """Seconds, exclusive."""
    confidence: float
    """Mean posterior probability over the frames that spell it, 0 to 1; the blanks between them do not count."""
    word: int
    """Which word of the normalised text it is, or belongs to, counted from 0."""


@dataclass(frozen=True)
class Aligned:
    """An utterance and the times of its words."""

    id: str
    seconds: float
    """Length of the audio."""
    text: str
    """Normalised, as the words are."""
    head: str
    """The head that was aligned, `full_context` or `streaming`; `layer K` where it was by embeddings."""
    log_prob: float | None
    """Log probability of the head's path, a mean over frames; None where it was by embeddings."""
    words: tuple[Span, ...]
    """Every word of `text`, in order."""
    written: tuple[Span, ...]
    """The words as the source writes them, with case and punctuation, or else `words`; `word` is the first meant."""
    units: tuple[Span, ...] | None = None
    """Units (phonemes, mostly) by the head that hears them, or by embeddings, boundaries between words left out; None
    where the run has no such head, or where the units are more than the frames can hold."""
    true: tuple[np.ndarray, np.ndarray] | None = None
    """Seconds at which each word of `text` truly begins and ends, [words] each; None where the source does not say."""


@dataclass(frozen=True)
class Failed:
    """An utterance that cannot be aligned."""

    id: str
    why: str
    """In a line, what is wrong with it and what to do."""


class CannotAlign(Exception):
    """Why an utterance cannot be aligned, in a line that does not name it."""


class Frames(NamedTuple):
    """The labels of one utterance on its path; see `joint_st.ops.forced_alignment`."""

    starts: np.ndarray
    """First frame of each label, int [U]."""
    ends: np.ndarray
    """The frame after its last, int [U]."""
    scores: np.ndarray
    """Mean posterior over its frames, float [U]."""


def word_spans(
    words: Sequence[str], word: np.ndarray, frames: Frames, frame_s: float, seconds: float
) -> tuple[Span, ...]:
    """The words that have labels: from the first frame of a word's first label to the last of its last.

    word: the word each label belongs to, int [U], -1 for boundaries. frame_s: seconds of a frame. seconds: length of
    the audio, behind which the last frame may reach.
    """
    spans = []
    for n, text in enumerate(words):
        own = np.flatnonzero(word == n)
        if len(own):
            lengths = frames.ends[own] - frames.starts[own]
            confidence = float(np.average(frames.scores[own], weights=lengths))
            start, end = frames.starts[own[0]] * frame_s, frames.ends[own[-1]] * frame_s
            spans.append(Span(text, float(start), min(float(end), seconds), confidence, n))
    return tuple(spans)


def unit_spans(
    symbols: Sequence[str], word: np.ndarray, frames: Frames, frame_s: float, seconds: float
) -> tuple[Span, ...]:
    """Each unit, written as in `symbols` [U], boundaries between words left out; the rest as for `word_spans`."""
    return tuple(
        Span(symbol.strip(), float(start * frame_s), min(float(end * frame_s), seconds), float(score), int(n))
        for symbol, n, start, end, score in zip(symbols, word, *frames, strict=True)
        if n >= 0
    )


def words_of_units(words: Sequence[str], units: Sequence[Span]) -> tuple[Span, ...]:
    """The words as their units have them, those without units left out."""
    spans = []
    for n, group in itertools.groupby(units, key=lambda unit: unit.word):
        own = list(group)
        lengths = [unit.end - unit.start for unit in own]
        # A unit that no frame is matched with has no length.
        confidence = float(np.average([unit.confidence for unit in own], weights=lengths if any(lengths) else None))
        spans.append(Span(words[n], own[0].start, own[-1].end, confidence, n))
    return tuple(spans)
