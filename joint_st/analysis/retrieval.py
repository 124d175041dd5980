"""Whether an embedding of one modality finds its own utterance among the embeddings of the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

DEPTHS = (1, 5, 10)
"""Recall is reported at these ranks."""


class Retrieval(NamedTuple):
    """Means over the queries."""

    recall: dict[int, float]
    """Share of queries that find their own text at this rank or before."""
    reciprocal_rank: float
    """Mean of 1 over the rank."""


def retrieve(queries: np.ndarray, items: np.ndarray, texts: Sequence[str]) -> Retrieval:
    """How well `queries` [N, D] find their own among `items` [N, D] by cosine; `texts` [N] are those of both.

    Any item with the text of the query counts as found, since nothing in the text tells them apart.
    """
    found = ranks(queries, items, texts)
    return Retrieval({k: float(np.mean(found <= k)) for k in DEPTHS}, float(np.mean(1 / found)))


def ranks(queries: np.ndarray, items: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    """Rank [N] from 1 of the nearest item that has the query's text, among those that have another.

    An item as near as the right one stands before it: embeddings that are all the same find nothing.
    """
    similarity = _normalised(queries) @ _normalised(items).T
    same = np.unique(np.asarray(texts), return_inverse=True)[1]
    own = same[:, None] == same[None, :]
    right = np.where(own, similarity, -np.inf).max(axis=1, keepdims=True)
    # Rounding must not decide between what is equal.
    return 1 + np.count_nonzero(~own & (similarity >= right - 1e-9), axis=1)


def _normalised(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-30)
