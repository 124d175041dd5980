"""Percentile bootstrap over utterances, for rates that are a sum over utterances divided by another.

An utterance is drawn with all its counts, so that a hard utterance's errors and words stay together
(Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
"""Share of resamples inside an interval."""

_CHUNK = 2**20


class Difference(NamedTuple):
    """The rate of system A minus that of system B, on the same utterances."""

    difference: float
    low: float
    high: float
    a_is_lower: float
    """Share of resamples in which A's rate is the lower one."""


def rate_interval(
    numerators: np.ndarray, denominators: np.ndarray, samples: int = 1000, seed: int = 0
) -> tuple[float, float] | None:
    """The 95 % interval of `sum(numerators) / sum(denominators)`; None where the denominators are all 0.

    numerators, denominators: [N], counts of each utterance. samples: resamples of the N utterances.
    """
    numerators, denominators = np.asarray(numerators), np.asarray(denominators)
    if not denominators.any():
        return None
    resamples = _resamples(len(numerators), samples, seed)
    return _interval(np.concatenate([_rates(numerators[i], denominators[i]) for i in resamples]))


def paired_difference(
    numerators_a: np.ndarray,
    numerators_b: np.ndarray,
    denominators: np.ndarray,
    samples: int = 1000,
    seed: int = 0,
) -> Difference | None:
    """Compares two systems on the same utterances; None where the denominators are all 0.

    numerators_a, numerators_b: errors [N] of each system in each utterance. denominators: [N], words of the
    references. Both systems are resampled alike, so that what makes an utterance hard for both cancels.
    """
    a, b, denominators = np.asarray(numerators_a), np.asarray(numerators_b), np.asarray(denominators)
    if not denominators.any():
        return None
    gaps = a - b
    resamples = _resamples(len(gaps), samples, seed)
    resampled = np.concatenate([_rates(gaps[i], denominators[i]) for i in resamples])
    low, high = _interval(resampled)
    return Difference(float(gaps.sum() / denominators.sum()), low, high, float(np.mean(resampled < 0)))


def _resamples(utterances: int, samples: int, seed: int) -> Iterator[np.ndarray]:
    """Indices drawn with replacement, [some samples, N] at a time, so that memory stays bounded."""
    generator = np.random.default_rng(seed)
    rows = max(1, _CHUNK // utterances)
    for start in range(0, samples, rows):
        yield generator.integers(0, utterances, (min(rows, samples - start), utterances), dtype=np.int32)


def _rates(numerators, denominators):
    """Rates of resampled counts [samples, N]; resamples whose denominator is 0 have none and are left out."""
    below = denominators.sum(axis=1)
    return numerators.sum(axis=1)[below > 0] / below[below > 0]


def _interval(rates):
    low, high = np.quantile(rates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
