"""The times of words and units in an utterance: alignments, transcripts, and how they are computed from frames of
labels."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from joint_st.data.scripts import Token


class Span(NamedTuple):
    """A word or a text unit, and when it is spoken."""

    text: str
    start: float
    """Time in seconds from the beginning of the utterance."""
    end: float
    """Time in seconds at which it ends."""
    confidence: float
    """Confidence, 0 to 1. In an alignment of a known text: its mean posterior probability over the
    frames that spell it; the blanks between them do not count. In a transcript: see `joint_st.word_times.confidence`.
    """
    word: int
    """Number of the word in the text that it is or belongs to, from 0."""
    joined: bool = False
    """Whether no space stands between it and the span before it, as between the characters of a Chinese text."""

    def record(self) -> dict:
        """Return times and confidence for JSON."""
        # A microsecond is less than a sample.
        return {name: round(getattr(self, name), 6) for name in ("start", "end", "confidence")}


class TimedText(Protocol):
    """The interface of alignments and transcripts that `joint_st.word_times.writers` writes."""

    id: str
    seconds: float
    """Length of the audio in seconds."""
    words: tuple[Span, ...]
    written: tuple[Span, ...]
    """The words as written for a reader."""
    units: tuple[Span, ...] | None
    channel: int
    """Number of the channel of its file, counted from 1."""

    def record(self) -> dict:
        """Return all of it as a dictionary for JSON."""
        ...


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
    """Every word of `text`, in order; in scripts without spaces, every character (`joint_st.data.scripts.tokens_of`)."""
    written: tuple[Span, ...]
    """The words as the source writes them, with case and punctuation, if they can be matched with the normalised words,
    otherwise `words`; the field `word` is the number of the first normalised word of each."""
    units: tuple[Span, ...] | None = None
    """Text units (mostly phonemes) without boundaries between words; None where the run has no head for units, or where
    there are more units than frames can hold."""
    true: tuple[np.ndarray, np.ndarray] | None = None
    """True times in seconds at which each word of `text` begins and ends, [words] each, NaN between words that are
    written as one; None where the source does not have them or they cannot be matched with the words, and for a text in
    a script without spaces."""
    states_times: bool = False
    """Whether the source states times of words, also where `true` is None."""
    channel: int = 1
    """Number of the channel of its file, counted from 1; see `joint_st.data.utterance.Entry`."""

    def record(self) -> dict:
        """Return `id`, `seconds`, `text`, `head`, `log_prob` (mean over frames), `words` and, where known, `units`.

        Each word and unit has `start` and `end` in seconds and a `confidence`; a unit also says which `word` it is in.
        """
        record = {
            "id": self.id,
            "seconds": round(self.seconds, 6),
            "text": self.text,
            "head": self.head,
            "log_prob": None if self.log_prob is None else round(self.log_prob, 6),
            "words": [{"word": span.text, **span.record()} for span in self.words],
        }
        if self.units is not None:
            record["units"] = [{"unit": span.text, **span.record(), "word": span.word} for span in self.units]
        return record


@dataclass(frozen=True)
class Failed:
    """An utterance that cannot be aligned."""

    id: str
    why: str
    """One line that says what is wrong and what to do."""


class CannotAlign(Exception):
    """Raised where an utterance cannot be aligned; the message, one line, says why, and does not name the utterance."""


class Frames(NamedTuple):
    """The frames of an utterance's labels; see `joint_st.heads.LabelSpans`."""

    starts: np.ndarray
    """First frame of each label, int [U]."""
    ends: np.ndarray
    """Frame after the last one of each label, int [U]."""
    scores: np.ndarray
    """Probability of each label, float [U]."""


def divided(frames: Frames, label: np.ndarray) -> Frames:
    """Return the frames of parts of labels, float [P]: those of each label, divided evenly among its parts.

    label: the label of each part, int [P], in order.
    """
    parts = np.bincount(label, minlength=len(frames.starts))[label]
    done = np.arange(len(label)) - np.searchsorted(label, label)
    starts, lengths = frames.starts[label], (frames.ends - frames.starts)[label]
    return Frames(starts + lengths * (done / parts), starts + lengths * ((done + 1) / parts), frames.scores[label])


def mean_posterior(scores: np.ndarray, frames: np.ndarray) -> float:
    """Return the mean over frames of the probabilities of a word's labels, [labels] each."""
    return float(np.average(scores, weights=frames))


def word_spans(
    words: Sequence[Token],
    word: np.ndarray,
    frames: Frames,
    frame_s: float,
    seconds: float,
    confidence: Callable[[np.ndarray, np.ndarray], float] = mean_posterior,
) -> tuple[Span, ...]:
    """Return the spans of the words that have labels, each from the first frame of its first label to the last frame of
    its last label.

    word: the word each label belongs to, int [U], -1 for boundaries. frame_s: seconds of a frame. seconds: length of
    the audio; the last frame may reach beyond it. confidence: function that computes a word's confidence from the
    probabilities of its labels and the number of frames of each.
    """
    spans = []
    for n, (text, joined) in enumerate(words):
        own = np.flatnonzero(word == n)
        if len(own):
            lengths = frames.ends[own] - frames.starts[own]
            start, end = frames.starts[own[0]] * frame_s, frames.ends[own[-1]] * frame_s
            sure = confidence(frames.scores[own], lengths)
            spans.append(Span(text, *_within(start, end, seconds), sure, n, joined))
    return tuple(spans)


def _within(start: float, end: float, seconds: float) -> tuple[float, float]:
    """Return two times in the audio, whose last frame may reach beyond its end."""
    return min(float(start), seconds), min(float(end), seconds)


def unit_spans(
    symbols: Sequence[str], word: np.ndarray, frames: Frames, frame_s: float, seconds: float
) -> tuple[Span, ...]:
    """Return the spans of the text units, written as in `symbols` [U], without boundaries between words.

    The other arguments are those of `word_spans`.
    """
    return tuple(
        Span(symbol.strip(), *_within(start * frame_s, end * frame_s, seconds), float(score), int(n))
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


def every_word(words: Sequence[str], spans: Sequence[Span]) -> tuple[Span, ...]:
    """Return the spans of all `words`, in order: those given, and for each word without one a span without length and
    with confidence 0, where the word before it ends (at 0 if there is none)."""
    of_word = {span.word: span for span in spans}
    found: list[Span] = []
    for n, text in enumerate(words):
        until = found[-1].end if found else 0.0
        found.append(of_word.get(n, Span(text, until, until, 0.0, n)))
    return tuple(found)
