"""What an alignment of an utterance is."""

from __future__ import annotations

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
