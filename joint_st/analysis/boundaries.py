"""The times of words that an alignment of audio frames with text units implies, against the true ones."""

from __future__ import annotations

import numpy as np


def word_frames(words: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """First frame and frame after the last, int64 [W, 2], of each word under a monotonic alignment.

    words: the word each unit belongs to, [U], -1 for boundaries between words. unit: the unit each audio frame is
    matched with, [T], non-decreasing. A word that no frame is matched with begins and ends where the alignment
    passes it by.
    """
    words = np.asarray(words)
    # Word k stands at 2 k in the order of the text, a boundary behind it at 2 k + 1.
    place = 2 * np.maximum.accumulate(words) + (words < 0)
    of_frame = place[np.asarray(unit)]
    word = 2 * np.arange(words.max(initial=-1) + 1)
    return np.stack([np.searchsorted(of_frame, word, "left"), np.searchsorted(of_frame, word, "right")], axis=1)


def boundary_errors(words: np.ndarray, unit: np.ndarray, true: np.ndarray, frame_seconds: float) -> np.ndarray:
    """Absolute errors in seconds, [2 W - 2], of where words begin and end; `true` [W, 2] in seconds.

    Where the first word begins and the last one ends is left out: alignments are anchored there, at the first and the
    last frame, so that the error is the silence around the sentence under any of them.
    """
    return np.abs(word_frames(words, unit) * frame_seconds - np.asarray(true)).ravel()[1:-1]
