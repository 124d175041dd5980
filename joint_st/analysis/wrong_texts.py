"""For every utterance a text that is not its own, as a baseline for distances to its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def wrong_texts(texts: Sequence[str], lengths: Sequence[int]) -> np.ndarray:
    """For each of `N` texts the index of another one that differs, int64 [N]; -1 where all are equal.

    Neighbours by length change places, because the best alignment gains from every text frame it may choose from:
    a longer wrong text would be nearer, and a shorter one farther, for no other reason. So each text is the wrong one
    of about one utterance (exactly one, if no text is found twice and `N` is even). Nothing is drawn.
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
