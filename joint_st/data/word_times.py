"""Times of words, in seconds and in encoder frames."""

from __future__ import annotations

import numpy as np

from joint_st.data.utterance import Utterance


def word_times(utterance: Utterance, text: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the seconds at which each word of the normalised `text` begins and ends, float64 [words] each.

    None where the source does not state them, or has another number of words than `text`.
    """
    if utterance.word_times is None:
        return None
    starts, ends = utterance.word_times
    words = len(text.split())
    return (starts, ends) if words and len(starts) == len(ends) == words else None


def unit_ends(words: np.ndarray, starts: np.ndarray, ends: np.ndarray, frame_s: float, frames: int) -> np.ndarray:
    """Return the encoder frame (exclusive) at which each unit ends, int32 [U], non-decreasing and at most `frames`.

    `words` [U]: the word of each unit, -1 for boundaries; `starts` and `ends` [words] in seconds. The units of a word
    divide its time evenly; a boundary ends where the next word begins, and a final one with the last word. A
    frame is `frame_s` seconds long, and ends are rounded to the nearest.
    """
    count = np.bincount(words[words >= 0], minlength=len(starts))
    passed = np.zeros(len(starts), int)
    seconds, until = [], 0.0
    for u, word in enumerate(words):
        following = words[u + 1] if u + 1 < len(words) else -1
        if word >= 0:
            passed[word] += 1
            until = starts[word] + (ends[word] - starts[word]) * passed[word] / count[word]
        elif following >= 0:
            until = starts[following]
        seconds.append(until)
    nearest = np.rint(np.array(seconds) / frame_s)
    return np.minimum(np.maximum.accumulate(nearest), frames).astype(np.int32)
