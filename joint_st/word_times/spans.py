"""From frames of labels to times of words and units."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from joint_st.word_times.result import Span


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
