"""How well speech and text agree: retrieval of one by the other, and the times of words that an alignment implies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

DEPTHS = (1, 5, 10)
"""Ranks at which recall is reported."""


class Retrieval(NamedTuple):
    """How well queries retrieve their own text, as means over the queries."""

    recall: dict[int, float]
    """Share of queries that retrieve their own text at this rank or a better one, by rank."""
    reciprocal_rank: float
    """Mean of the reciprocal rank."""


def retrieve(queries: np.ndarray, items: np.ndarray, texts: Sequence[str]) -> Retrieval:
    """Return how well `queries` [N, D] retrieve their own among `items` [N, D] by cosine; `texts` [N] are those of
    both.

    Any item with the text of the query counts, since nothing in the text tells them apart.
    """
    found = ranks(queries, items, texts)
    return Retrieval({k: float(np.mean(found <= k)) for k in DEPTHS}, float(np.mean(1 / found)))


def chance(texts: Sequence[str]) -> float:
    """Return the recall at rank 1 that a random order of the items gives: above 1 / N where a text occurs several
    times."""
    counts = np.unique(np.asarray(texts), return_counts=True)[1]
    return float(np.sum((counts / len(texts)) ** 2))


def ranks(queries: np.ndarray, items: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    """Return the rank [N], from 1, of the nearest item with the query's text among the items with another text.

    Of equally near items the right one comes last, so that embeddings that are all the same retrieve nothing, and
    neither do those that are NaN.
    """
    similarity = np.nan_to_num(_normalised(queries) @ _normalised(items).T, nan=-np.inf)
    same = np.unique(np.asarray(texts), return_inverse=True)[1]
    own = same[:, None] == same[None, :]
    right = np.where(own, similarity, -np.inf).max(axis=1, keepdims=True)
    # Rounding must not decide between equal distances.
    return 1 + np.count_nonzero(~own & (similarity >= right - 1e-9), axis=1)


def _normalised(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-30)


def word_frames(words: np.ndarray, unit: np.ndarray, count: int | None = None) -> np.ndarray:
    """Return the first frame and the one after the last, int64 [W, 2], of each word under a monotonic alignment.

    words: the word each unit belongs to, [U], -1 for boundaries between words. unit: the unit each audio frame is
    matched with, [T], non-decreasing. count: the number of words, W; by default, up to the last that has units. A word
    that no frame is matched with, or that has no units, begins and ends where the alignment skips it.
    """
    words = np.asarray(words)
    # In the order of the text, word k has the number 2 k, and the boundary after it 2 k + 1.
    place = 2 * np.maximum.accumulate(words) + (words < 0)
    of_frame = place[np.asarray(unit)]
    word = 2 * np.arange(words.max(initial=-1) + 1 if count is None else count)
    return np.stack([np.searchsorted(of_frame, word, "left"), np.searchsorted(of_frame, word, "right")], axis=1)


def absolute_boundary_errors(words: np.ndarray, unit: np.ndarray, true: np.ndarray, frame_seconds: float) -> np.ndarray:
    """Return absolute errors in seconds, [2 W - 2], of where words begin and end; `true` [W, 2] is in seconds, NaN where
    it is unknown, as is then the error.

    The beginning of the first word and the end of the last are left out: alignments are anchored there, at the first
    and the last frame, so that the error is the silence around the sentence under any of them.
    """
    return np.abs(word_frames(words, unit, len(true)) * frame_seconds - np.asarray(true)).ravel()[1:-1]
