"""Decoding with more than labels: their times, their probabilities, and alternative hypotheses.

Times and probabilities come from `Head.label_spans` for the labels that a decoder has chosen, in the same way for a
beam and for greedy decoding. They describe what the head heard: a language model chooses among labels, but makes none
of them more certain.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from joint_st.decoding.decoders import Beam, Greedy, join_labels
from joint_st.distributed.mesh import over_batch


class Alternative(NamedTuple):
    """One of the hypotheses that were kept for an utterance."""

    labels: np.ndarray
    """int32 [U]."""
    score: float
    """Log probability in nats, including fusion and rescoring; for greedy decoding, that of the likeliest path."""


class TimedLabels(NamedTuple):
    """The decoded labels of an utterance with their times."""

    labels: np.ndarray
    """The best hypothesis, int32 [U]."""
    starts: np.ndarray
    """First frame of each label, int [U]."""
    ends: np.ndarray
    """Frame after the last one of each label, int [U]."""
    peaks: np.ndarray
    """Largest probability of each label in one of its frames, float32 [U]."""
    alternatives: tuple[Alternative, ...]
    """The best hypotheses, the best first; greedy decoding has one."""


@dataclasses.dataclass(frozen=True)
class Timed:
    """A decoder that returns `TimedLabels`, with the same labels as `decoder`."""

    decoder: Greedy | Beam
    best: int = 1
    """Number of hypotheses to return, at most as many as a beam keeps."""
    text: Callable[[np.ndarray], str] | None = dataclasses.field(default=None, compare=False)
    """The text of labels int32 [U]: of hypotheses with the same text, only the best is returned. None: all differ."""

    @property
    def name(self) -> str:
        return self.decoder.name

    @property
    def tables(self):
        return self.decoder.tables

    def start(self, tables):
        return self.decoder.start(tables)

    def on_device(self, heads, emissions, mask, mesh, tables, piece=None):
        locate = over_batch(lambda head, *rows: head.label_spans(*rows), mesh, whole=1)
        found = []
        every = self.decoder.n_best(heads, emissions, mask, mesh, tables, self._most, piece)
        for head, own, ranked in zip(heads, emissions, every, strict=True):
            spans = locate(head, own, mask, ranked.labels[:, 0], ranked.lengths[:, 0])
            scores = spans.log_prob[:, None] if ranked.scores is None else ranked.scores
            rows = ranked.labels, ranked.lengths, scores, spans.starts, spans.ends, spans.peaks
            found.append(rows if piece is None else (rows, ranked.context))
        return tuple(found)

    def on_host(self, fetched, whole=True) -> list[TimedLabels]:
        rows = []
        for labels, lengths, scores, starts, ends, own in zip(*map(np.asarray, fetched), strict=True):
            # Minus infinity marks an empty place of the beam; the first place is never empty.
            there = [n for n in range(len(lengths)) if n == 0 or np.isfinite(scores[n])]
            found = (Alternative(labels[n, : lengths[n]], float(scores[n])) for n in there)
            kept = self._distinct(found) if whole else tuple(found)
            spelled = slice(lengths[0])
            rows.append(TimedLabels(kept[0].labels, starts[spelled], ends[spelled], own[spelled], kept))
        return rows

    def join(self, pieces: Sequence[tuple[int, TimedLabels]]) -> TimedLabels:
        """Join pieces: the best hypotheses of the whole are the best combinations of theirs. What several combinations
        spell has the best of their scores.

        Only whole texts are compared as texts: a space at either end of a piece separates words of the whole.
        """
        alternatives = (Alternative(join_labels([]), 0.0),)
        for n, (_, found) in enumerate(pieces, 1):
            choices = itertools.product(alternatives, found.alternatives)
            ranked = sorted(choices, key=lambda both: both[0].score + both[1].score, reverse=True)
            joined = (
                Alternative(join_labels([one.labels, other.labels]), one.score + other.score) for one, other in ranked
            )
            alternatives = self._distinct(joined) if n == len(pieces) else _differing(joined, self._most)
        return TimedLabels(
            join_labels([found.labels for _, found in pieces]),
            join_labels([first + found.starts for first, found in pieces]),
            join_labels([first + found.ends for first, found in pieces]),
            np.concatenate([np.zeros(0, np.float32), *(found.peaks for _, found in pieces)]),
            alternatives,
        )

    @property
    def _most(self) -> int:
        """Number of hypotheses that are kept until texts are compared: some of them may spell the same text."""
        several = self.best > 1 and self.text is not None and isinstance(self.decoder, Beam)
        return self.decoder.beam if several else self.best

    def _distinct(self, ranked: Iterable[Alternative]) -> tuple[Alternative, ...]:
        """Return the first `best` hypotheses that spell different texts."""
        return _differing(ranked, self.best, self.text)


def _differing(
    ranked: Iterable[Alternative], most: int, text: Callable[[np.ndarray], str] | None = None
) -> tuple[Alternative, ...]:
    """Return the first `most` hypotheses that differ in their texts, or in their labels where `text` is None."""
    kept: dict[str | bytes, Alternative] = {}
    for one in ranked:
        kept.setdefault(text(one.labels) if text else one.labels.tobytes(), one)
        if len(kept) == most:
            break
    return tuple(kept.values())


def timed(
    decoders: Sequence[Greedy | Beam], best: int = 1, text: Callable[[np.ndarray], str] | None = None
) -> list[Timed]:
    """Return the decoders with times, and with up to `best` hypotheses each; `text`: see `Timed`."""
    return [Timed(one, best, text) for one in decoders]
