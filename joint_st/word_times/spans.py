"""The times of words and units in an utterance: what an alignment is, and how it follows from frames of labels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Span(NamedTuple):
    """A word or a text unit, and when it is spoken."""

    text: str
    start: float
    """Time in seconds from the beginning of the utterance."""
    end: float
    """Time in seconds at which it is over."""
    confidence: float
    """Mean posterior probability over the frames that spell it, 0 to 1; the blanks between them do not count."""
    word: int
    """Number of the word in the normalised text that it is or belongs to, from 0."""


@dataclass(frozen=True)
class Aligned:
    """An utterance and the times of its words."""

    id: str
    seconds: float
    """Length of the audio in seconds."""
    text: str
    """The normalised text."""
    head: str
    """Head whose labels were aligned, `full_context` or `streaming`, or `layer K` for an alignment by embeddings."""
    log_prob: float | None
    """Mean over frames of the log probability of the path; None for an alignment by embeddings."""
    words: tuple[Span, ...]
    """Every word of `text`, in order."""
    written: tuple[Span, ...]
    """The words as the source writes them, with case and punctuation, where they can be told apart, else `words`; the
    field `word` is the first normalised word that each one means."""
    units: tuple[Span, ...] | None = None
    """Text units (mostly phonemes) without boundaries between words; None where the run has no head for units, or where
    there are more units than frames can hold."""
    true: tuple[np.ndarray, np.ndarray] | None = None
    """True times in seconds at which each word of `text` begins and ends, [words] each; None where the source does not
    have them."""


@dataclass(frozen=True)
class Failed:
    """An utterance that cannot be aligned."""

    id: str
    why: str
    """One line that says what is wrong and what to do."""


class CannotAlign(Exception):
    """Raised where an utterance cannot be aligned; its one line says why, and does not name the utterance."""


class Frames(NamedTuple):
    """The frames of an utterance's labels on its path; see `joint_st.ops.forced_alignment`."""

    starts: np.ndarray
    """First frame of each label, int [U]."""
    ends: np.ndarray
    """Frame after the last one of each label, int [U]."""
    scores: np.ndarray
    """Mean posterior of each label over its frames, float [U]."""


def word_spans(
    words: Sequence[str], word: np.ndarray, frames: Frames, frame_s: float, seconds: float
) -> tuple[Span, ...]:
    """Return the spans of the words that have labels, each from the first frame of its first label to the last of its
    last.

    word: the word each label belongs to, int [U], -1 for boundaries. frame_s: seconds of a frame. seconds: length of
    the audio; the last frame may reach beyond it.
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
    """Return the spans of the text units, written as in `symbols` [U], without boundaries between words.

    The other arguments are those of `word_spans`.
    """
    return tuple(
        Span(symbol.strip(), float(start * frame_s), min(float(end * frame_s), seconds), float(score), int(n))
        for symbol, n, start, end, score in zip(symbols, word, *frames, strict=True)
        if n >= 0
    )


def words_of_units(words: Sequence[str], units: Sequence[Span]) -> tuple[Span, ...]:
    """Return the spans of the words that have text units, from the beginning of a word's first one to the end of its
    last."""
    spans = []
    for n, group in itertools.groupby(units, key=lambda unit: unit.word):
        own = list(group)
        lengths = [unit.end - unit.start for unit in own]
        # A unit that no frame is matched with has no length.
        confidence = float(np.average([unit.confidence for unit in own], weights=lengths if any(lengths) else None))
        spans.append(Span(words[n], own[0].start, own[-1].end, confidence, n))
    return tuple(spans)
