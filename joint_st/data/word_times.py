"""Times of words, in seconds and in encoder frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from joint_st.data.normalizers import Normalizer
from joint_st.data.utterance import Utterance


def word_times(utterance: Utterance, text: str, normalizer: Normalizer) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the seconds at which each word of the normalised `text` begins and ends, float64 [words] each.

    A word that is written as one but normalised to several (`twenty-six`) has a start for the first and an end for the
    last of them; what lies between is unknown, NaN. Written words that are normalised to nothing are left out. None
    where the source does not state the times, has another number of them than there are written words, or where the
    normaliser does not treat the written words one by one.
    """
    if utterance.word_times is None:
        return None
    starts, ends = utterance.word_times
    written, words = utterance.text.split(), text.split()
    if not words or not len(starts) == len(ends) == len(written):
        return None
    counts = words_of_each(written, normalizer, words)
    if counts is None:
        return None
    said = np.flatnonzero(counts)
    last = np.cumsum(counts)[said]
    known = np.full((2, len(words)), np.nan)
    known[0, last - counts[said]] = starts[said]
    known[1, last - 1] = ends[said]
    return known[0], known[1]


def states_times(utterance: Utterance) -> bool:
    """Return whether the source of an utterance states when words are spoken."""
    return utterance.word_times is not None and len(utterance.word_times[0]) > 0


def words_of_each(
    written: Sequence[str],
    normalizer: Normalizer,
    words: Sequence[str],
    split: Callable[[str], list[str]] = str.split,
) -> np.ndarray | None:
    """Return how many of the normalised `words` stand for each written word, int [written]; None where the normaliser
    makes other words of the whole text than of one written word after the other."""
    if list(written) == list(words):  # the usual case in training, where each utterance passes here in each epoch
        return np.ones(len(written), int)
    meant = [split(normalizer(one)) for one in written]
    if [word for some in meant for word in some] != list(words):
        return None
    return np.array([len(some) for some in meant], int)


def timed_groups(starts: np.ndarray) -> np.ndarray:
    """Return the number of each word, int [words], where words whose times are only known together count as one; see
    `word_times`."""
    return np.cumsum(~np.isnan(starts)) - 1


def not_compared(count: int, of: int) -> str:
    """Return in one line that the stated times of some utterances are not compared, and why."""
    return (
        f"the word times of {count} of {of} utterances are not compared: give word_starts and word_ends one number for "
        "each written word, and words that the normaliser changes one by one"
    )


def unit_ends(words: np.ndarray, starts: np.ndarray, ends: np.ndarray, frame_s: float, frames: int) -> np.ndarray:
    """Return the encoder frame (exclusive) at which each unit ends, int32 [U], non-decreasing and at most `frames`.

    `words` [U]: the word of each unit, -1 for boundaries; `starts` and `ends` [words] in seconds, as `word_times` has
    them. The units of a word divide its time evenly, and so do those of words whose times are only known together; a
    boundary ends where the next word begins, and a final one with the last word. A frame is `frame_s` seconds long, and
    ends are rounded to the nearest.
    """
    words = np.asarray(words)
    if len(starts):
        words = np.where(words >= 0, timed_groups(starts)[words], -1)
    starts, ends = starts[~np.isnan(starts)], ends[~np.isnan(ends)]
    count = np.bincount(words[words >= 0], minlength=len(starts))
    passed = np.zeros(len(starts), int)
    seconds, until = [], 0.0
    for u, word in enumerate(words):
        following = words[u + 1] if u + 1 < len(words) else -1
        if word >= 0:
            passed[word] += 1
            until = starts[word] + (ends[word] - starts[word]) * passed[word] / count[word]
        elif following >= 0 and not passed[following]:
            until = starts[following]
        seconds.append(until)
    nearest = np.rint(np.array(seconds) / frame_s)
    return np.minimum(np.maximum.accumulate(nearest), frames).astype(np.int32)
