"""CTC decoding in plain Python and float64: by all alignments, and by a beam of prefixes in a dictionary."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import numpy as np


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = np.asarray(logits, np.float64)
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def every_alignment(logits: np.ndarray, blank: int = 0) -> dict[tuple[int, ...], float]:
    """Return the log probability of everything that the logits [T, V] can spell."""
    log_probs = log_softmax(logits)
    found = defaultdict(lambda: -math.inf)
    for path in itertools.product(range(logits.shape[1]), repeat=len(logits)):
        spelled = tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != blank)
        log_prob = sum(log_probs[frame, symbol] for frame, symbol in enumerate(path))
        found[spelled] = np.logaddexp(found[spelled], log_prob)
    return dict(found)


def beam_of_prefixes(logits: np.ndarray, beam: int, candidates: int, blank: int = 0) -> list[tuple[tuple, float]]:
    """Return the prefixes of logits [T, V] that are left after the last frame, the likeliest first, with log
    probabilities.

    A new prefix begins only with one of a frame's likeliest labels.
    """
    kept = {(): (0.0, -math.inf)}
    for frame in log_softmax(logits):
        labels = sorted((label for label in range(len(frame)) if label != blank), key=lambda label: -frame[label])
        after = defaultdict(lambda: [-math.inf, -math.inf])
        for prefix, (ends_blank, ends_label) in kept.items():
            total = np.logaddexp(ends_blank, ends_label)
            same = after[prefix]
            same[0] = np.logaddexp(same[0], total + frame[blank])
            if prefix:
                same[1] = np.logaddexp(same[1], ends_label + frame[prefix[-1]])
            for rank, label in enumerate(labels):
                longer = (*prefix, label)
                if rank < candidates or longer in kept:
                    from_here = ends_blank if prefix[-1:] == (label,) else total
                    after[longer][1] = np.logaddexp(after[longer][1], from_here + frame[label])
        likeliest = sorted(after.items(), key=lambda item: -np.logaddexp(*item[1]))
        kept = {prefix: tuple(ends) for prefix, ends in likeliest[:beam] if np.logaddexp(*ends) > -math.inf}
    scored = [(prefix, float(np.logaddexp(*ends))) for prefix, ends in kept.items()]
    return sorted(scored, key=lambda item: -item[1])
