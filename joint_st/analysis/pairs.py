"""The pairs of speech and text that an analysis compares, chosen from a dataset.

Each pair also has a text that is not its own, as a baseline for the distance to its own. An `ExamplePair` is a pair to
look at: the distances of its audio from its text, and how they are aligned.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from joint_st.data.audio import UnreadableAudio
from joint_st.data.dataset import Dataset
from joint_st.data.word_times import not_compared, states_times, timed_groups, word_times
from joint_st.errors import UserError

log = logging.getLogger(__name__)

UNIT_MULTIPLE = 8
"""The padded number of units is a multiple of this."""


@dataclass(frozen=True)
class Pairs:
    """`N` utterances; lists and arrays [N, ...] are in their order in the dataset."""

    index: np.ndarray
    """Numbers of the utterances in the dataset, int64 [N]."""
    texts: list[str]
    """Normalised texts, [N]."""
    units: np.ndarray
    """Text units, int32 [N, U], zero in the padding."""
    unit_lengths: np.ndarray
    """Number of text units, int32 [N]."""
    words: list[np.ndarray]
    """The word of each unit, int32 [unit_lengths[n]]; -1 for boundaries between words."""
    word_times: list[np.ndarray | None]
    """Seconds at which each word begins and ends, [words, 2], where the source says so; NaN between words that are
    written as one."""
    wrong: np.ndarray
    """Number of an utterance with another text, int64 [N]; -1 where all texts are equal."""


def spread(among: np.ndarray, most: int) -> np.ndarray:
    """Return up to `most` of the numbers `among`, evenly spread over them."""
    return among[np.unique(np.linspace(0, len(among) - 1, min(most, len(among))).round().astype(np.int64))]


class NothingToCompare(UserError):
    """No utterance of a dataset has a text whose units its speech can be compared with."""


def choose_pairs(dataset: Dataset, some: np.ndarray) -> Pairs:
    """Choose the utterances among `some` (numbers, ascending) whose texts have units.

    Raises `NothingToCompare` where none has.
    """
    languages = {int(n): dataset.language(int(n)) for n in some}
    texts = {n: dataset.text(n) for n in languages}
    units = {n: dataset.units.encode(texts[n], languages[n]) for n in languages}
    index = [n for n in languages if len(units[n])]
    if not index:
        raise NothingToCompare(f"{dataset.corpus.name}: no utterance has a text to compare its speech with")
    if without := len(languages) - len(index):
        log.warning("%s: left out %d of %d, whose texts have no units", dataset.corpus.name, without, len(languages))
    lengths = np.array([len(units[n]) for n in index], np.int32)
    table = np.zeros((len(index), -(-int(lengths.max()) // UNIT_MULTIPLE) * UNIT_MULTIPLE), np.int32)
    for row, n in enumerate(index):
        table[row, : lengths[row]] = units[n]
    texts_kept = [texts[n] for n in index]
    times = [_times(dataset, n, texts[n]) for n in index]
    if count := sum(own is None and stated for own, stated in times):
        log.warning("%s: %s", dataset.corpus.name, not_compared(count, len(index)))
    return Pairs(
        index=np.array(index),
        texts=texts_kept,
        units=table,
        unit_lengths=lengths,
        words=[dataset.units.words(texts[n], languages[n]) for n in index],
        word_times=[own for own, _ in times],
        wrong=wrong_texts(texts_kept, lengths),
    )


def _times(dataset: Dataset, n: int, text: str) -> tuple[np.ndarray | None, bool]:
    """Return the times of the words of an utterance, and whether its source states any."""
    try:
        utterance = dataset.utterance(n)
    except UnreadableAudio:
        return None, False  # the pipeline reports it when it is about to compare it
    times = word_times(utterance, text, dataset.normalizer)
    return None if times is None else np.stack(times, axis=1), states_times(utterance)


def wrong_texts(texts: Sequence[str], lengths: Sequence[int]) -> np.ndarray:
    """Return for each of `N` texts the index of another one that differs, int64 [N]; -1 where all are equal.

    Neighbours by length exchange their texts, because the best alignment profits from every text frame that it may
    choose: a longer wrong text would be nearer, and a shorter one farther, for that reason alone. So each text is the
    wrong one of about one utterance (exactly one, if no text occurs twice and `N` is even). Nothing is drawn at random.
    """
    wrong = np.full(len(texts), -1, np.int64)
    by_length = [int(n) for n in np.argsort(lengths, kind="stable")]
    waiting = list(by_length)
    while waiting:
        n = waiting.pop(0)
        partner = next((m for m in waiting if texts[m] != texts[n]), None)
        if partner is not None:
            wrong[n], wrong[partner] = partner, n
            waiting.remove(partner)
            continue
        others = [m for m in by_length if texts[m] != texts[n]]
        wrong[n] = min(others, key=lambda m: abs(lengths[m] - lengths[n]), default=-1)
    return wrong


@dataclass(frozen=True)
class ExamplePair:
    """A pair in a figure: `T` audio frames and `R` text frames that repeat `U` units, at `L` layers."""

    id: str
    text: str
    layers: tuple[str, ...]
    """Names of the layers, [L]."""
    costs: np.ndarray
    """Distance of each audio frame from each text frame, [L, T, R]."""
    positions: np.ndarray
    """The text frame that the best alignment matches with each audio frame, int [L, T]."""
    unit: np.ndarray
    """The unit that each text frame repeats, int [R]."""
    symbols: tuple[str, ...]
    """Symbols of the units, [U]."""
    words: np.ndarray
    """The word each unit belongs to, int [U]; -1 for boundaries."""
    word_times: np.ndarray | None
    """True start and end of each word in seconds, [W, 2]; NaN between words that are written as one."""
    frame_seconds: float

    def spoken_words(self) -> list[str]:
        """Return the words; those whose times are only known together are one."""
        words, group = self.text.split(), self._group()
        return [
            " ".join(word for word, own in zip(words, group) if own == n) for n in range(max(group, default=-1) + 1)
        ]

    def spoken_times(self) -> np.ndarray | None:
        """Return when each of `spoken_words` begins and ends, in seconds, [spoken words, 2]; None where that is
        unknown."""
        if self.word_times is None:
            return None
        starts, ends = self.word_times.T
        return np.stack([starts[~np.isnan(starts)], ends[~np.isnan(ends)]], axis=1)

    def word_spans(self) -> list[tuple[int, int]]:
        """Return the first text frame of each of `spoken_words` and the one after its last."""
        words, group = np.asarray(self.words), np.array([*self._group(), -1])
        of_frame = group[words][self.unit]
        found = [np.flatnonzero(of_frame == word) for word in range(group.max() + 1)]
        return [(int(f[0]), int(f[-1]) + 1) if len(f) else (0, 0) for f in found]

    def _group(self) -> list[int]:
        """Return for each word which one of `spoken_words` it belongs to."""
        if self.word_times is None:
            return list(range(len(self.text.split())))
        return timed_groups(self.word_times[:, 0]).tolist()
