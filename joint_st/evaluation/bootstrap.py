"""Percentile bootstrap over utterances, for rates that are a sum over utterances divided by another.

An utterance is drawn with all its counts, so that a hard utterance's errors and words stay together
(Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004).

Utterances of one speaker resemble each other. Where there are enough speakers, all utterances of a speaker are drawn
together (`by_speaker`), as one block (Liu and Peng, "Statistical testing on ASR performance via blockwise bootstrap",
Interspeech 2020). What is said of utterances here then holds for speakers.

Where a system was trained with several seeds, both the seeds and the utterances are drawn, independently of each other,
and every drawn seed counts on every drawn utterance (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics
2007). This accounts for the separate effects of utterances and seeds on errors; the seeds' effect is underestimated by
a factor of 1 - 1 / S for S seeds, as in every bootstrap of few draws. Their interaction is counted up to three times.
Two systems with the same seeds are drawn with the same ones; with other seeds, each has draws of its own. A single seed
shows nothing of how seeds differ.

Few utterances vary less among themselves than where they come from, so that resamples of them agree too well: without
more care, two equal systems would be told apart on one utterance always, on three in one case of six. Therefore no
difference is decided by fewer than 6 utterances, since all of 5 point the same way by chance once in 16 times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
"""Share of the resamples that lie inside an interval."""

A_LOWER, B_LOWER, UNDECIDED = "a_lower", "b_lower", "undecided"
"""Verdicts on a difference."""

UTTERANCES, SPEAKERS = "utterances", "speakers"
"""What resamples draw."""

FEWEST = 20
"""Number of utterances below which intervals are too narrow to rely on."""

_CHUNK = 2**20


class Difference(NamedTuple):
    """The difference of two systems' rates on the same utterances: A's minus B's."""

    difference: float
    low: float | None
    """Lower end of the 95 % interval; None, like the upper one, where fewer than 2 utterances have words."""
    high: float | None
    a_is_lower: float
    """Share of resamples in which A's rate is the lower one."""
    p_value: float
    """Two-sided p-value of the hypothesis that the rates are equal: 1 - level of the widest interval that excludes 0,
    and at least 2^(1 - n) where the systems differ on n utterances: so often all of them favour the same system by
    chance."""

    @property
    def verdict(self) -> str:
        """Return which rate is lower, where the p-value is below 0.05."""
        if self.p_value >= 1 - LEVEL:
            return UNDECIDED
        return A_LOWER if self.difference < 0 else B_LOWER

    def record(self) -> dict:
        """Return the difference, its 95 % interval, the p-value and the verdict, for a row of a table."""
        return {
            "difference": self.difference,
            "low": self.low,
            "high": self.high,
            "p_value": self.p_value,
            "verdict": self.verdict,
        }


class Estimate(NamedTuple):
    """A quantity over all seeds and utterances, and its 95 % interval; None where there are too few for one."""

    value: float
    low: float | None
    high: float | None


def by_speaker(counts: np.ndarray, speakers: Sequence[str]) -> np.ndarray:
    """Return counts [..., N] of utterances as those of their M speakers, [..., M]. speakers: name of each utterance's."""
    counts = np.asarray(counts)
    names, places = np.unique(np.asarray(speakers, dtype=str), return_inverse=True)
    found = np.zeros((*counts.shape[:-1], len(names)), counts.dtype)
    np.add.at(found, (..., places), counts)
    return found


def rate_interval(
    numerators: np.ndarray, denominators: np.ndarray, samples: int = 1000, seed: int = 0
) -> tuple[float, float] | None:
    """Return the 95 % interval of `sum(numerators) / sum(denominators)`; None where fewer than 2 denominators are
    above 0.

    numerators, denominators: [N], counts of each utterance. samples: number of resamples of the N utterances.
    """
    numerators, denominators = np.asarray(numerators), np.asarray(denominators)
    if np.count_nonzero(denominators) < 2:
        return None
    drawn = resamples(len(numerators), samples, seed)
    return _interval(np.concatenate([_rates(numerators[i], denominators[i]) for i in drawn]))


def paired_difference(
    numerators_a: np.ndarray,
    numerators_b: np.ndarray,
    denominators: np.ndarray,
    samples: int = 1000,
    seed: int = 0,
    denominators_b: np.ndarray | None = None,
) -> Difference | None:
    """Compare two systems on the same utterances; None where the denominators of one are all 0.

    numerators_a, numerators_b: errors [N] of each system in each utterance. denominators: [N], words of the references;
    denominators_b: of B, where the words that count depend on the system. Both systems are resampled alike, so that the difficulty of an utterance for both cancels. Where they differ on too
    few utterances for a p-value below 0.05, the interval extends to 0.
    """
    a, b, denominators = np.asarray(numerators_a), np.asarray(numerators_b), np.asarray(denominators)
    of_b = denominators if denominators_b is None else np.asarray(denominators_b)
    if not (denominators.any() and of_b.any()):
        return None
    drawn = resamples(len(a), samples, seed)
    if same := np.array_equal(denominators, of_b):
        resampled = np.concatenate([_rates((a - b)[i], denominators[i]) for i in drawn])
    else:
        resampled = np.concatenate([_rate_gaps(a[i], denominators[i], b[i], of_b[i]) for i in drawn])
    difference = (a - b).sum() / of_b.sum() if same else a.sum() / denominators.sum() - b.sum() / of_b.sum()
    # Also where nothing is said, and one of them hears something.
    differing = np.count_nonzero((a != b) | (denominators != of_b))
    low, high = (None, None)
    if np.count_nonzero(denominators) > 1 and np.count_nonzero(of_b) > 1:
        low, high = _decided(*_interval(resampled), differing)
    # The difference itself counts as a resample, so that a p-value is never 0.
    beyond = 1 + min(np.count_nonzero(resampled <= 0), np.count_nonzero(resampled >= 0))
    return Difference(
        float(difference),
        low,
        high,
        float(np.mean(resampled < 0)),
        min(max(2 * beyond / (len(resampled) + 1), _least_p_value(differing)), 1.0),
    )


def rates_over_seeds(
    numerators: np.ndarray, denominators: np.ndarray, samples: int = 1000, seed: int = 0
) -> list[Estimate | None]:
    """Return the mean over seeds of K rates `sum(numerators) / sum(denominators)`; None where the denominators are all
    0.

    numerators: [K, S, N], such as the errors of K heads under S seeds in N utterances. denominators: [K, N], such as
    the words of the references. Utterances and seeds are resampled, for all K alike. A rate has no interval where fewer
    than 2 utterances have words.
    """
    numerators, denominators = np.asarray(numerators), np.asarray(denominators)
    above, below = numerators.mean(axis=1).sum(axis=-1), denominators.sum(axis=-1)
    every_seeds = np.broadcast_to(denominators[:, None], numerators.shape)
    sums = _resampled_sums(np.concatenate([numerators, every_seeds]), samples, seed)
    found = [_estimate(*pair) for pair in zip(above, below, *np.split(sums, 2), strict=True)]
    spoken = np.count_nonzero(denominators, axis=-1)
    return [one if count > 1 or one is None else Estimate(one.value, None, None) for one, count in zip(found, spoken)]


def relative_changes(
    numerators_a: np.ndarray, numerators_b: np.ndarray, samples: int = 1000, seed: int = 0, paired: bool = True
) -> list[Estimate | None]:
    """Return K changes of A's rate relative to B's: -0.4 where A makes 40 % fewer errors; None where B makes none.

    numerators_a, numerators_b: errors [K, S, N] of two systems in the same N utterances, so that the denominators cancel.
    Utterances are resampled alike for both, so that the difficulty of one for both cancels too. paired: both have the same
    S seeds, and these are resampled alike as well; otherwise A and B may have other numbers of seeds, and each has draws
    of its own. Resamples in which B makes no error have no change and are left out. A change has no interval where
    fewer than 2 utterances have errors, and where A and B differ on fewer than 6 the interval extends to 0.
    """
    a, b = np.asarray(numerators_a), np.asarray(numerators_b)
    if paired:
        sums = np.split(_resampled_sums(np.concatenate([a, b]), samples, seed), 2)
    else:
        sums = [_resampled_sums(one, samples, seed, system) for system, one in enumerate((a, b))]
    means = [one.mean(axis=1) for one in (a, b)]
    ratios = [_estimate(*pair) for pair in zip(*(one.sum(axis=-1) for one in means), *sums, strict=True)]
    wrong = np.count_nonzero(means[0] + means[1], axis=-1)
    differing = np.count_nonzero(a.sum(axis=1) * b.shape[1] != b.sum(axis=1) * a.shape[1], axis=-1)
    return [ratio and _change(ratio, *counts) for ratio, *counts in zip(ratios, wrong, differing, strict=True)]


def _change(ratio: Estimate, wrong: int, differing: int) -> Estimate:
    """Return a ratio of errors as a change; `wrong` utterances have errors, `differing` ones other numbers of them."""
    value, low, high = (one - 1 for one in ratio)
    return Estimate(value, *_decided(low, high, differing)) if wrong > 1 else Estimate(value, None, None)


def _estimate(above: float, below: float, resampled_above: np.ndarray, resampled_below: np.ndarray):
    """Return the ratio of two sums, and its interval from the resampled ones [samples]; None where `below` is 0."""
    if not below:
        return None
    there = resampled_below > 0
    return Estimate(float(above / below), *_interval(resampled_above[there] / resampled_below[there]))


def _resampled_sums(counts: np.ndarray, samples: int, seed: int, system: int = 0) -> np.ndarray:
    """Return means over drawn seeds of sums over drawn utterances: from counts [K, S, N] to [K, samples].

    Which utterances are drawn depends on their number and `seed` alone, not on the number of seeds, whose draws are others
    for another `system`.
    """
    kinds, seeds, utterances = counts.shape
    flat = counts.reshape(kinds * seeds, utterances).astype(np.float64)
    # Seeds are drawn from a separate stream, so that their draws differ from the utterances'.
    generator = np.random.default_rng([seed, 1 + system])
    found = []
    for drawn in resamples(utterances, samples, seed):
        rows = len(drawn)
        # How often each utterance was drawn, so that the sums are one product of matrices.
        places = drawn + np.arange(rows)[:, None] * utterances
        times = np.bincount(places.ravel(), minlength=rows * utterances).reshape(rows, utterances)
        by_seed = (flat @ times.T.astype(np.float64)).reshape(kinds, seeds, rows)
        share = generator.multinomial(seeds, np.full(seeds, 1 / seeds), rows) / seeds
        found.append(np.einsum("ksr,rs->kr", by_seed, share))
    return np.concatenate(found, axis=1)


def resamples(utterances: int, samples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield indices drawn with replacement, [some samples, N] at a time, so that memory stays bounded."""
    generator = np.random.default_rng(seed)
    rows = max(1, _CHUNK // utterances)
    for start in range(0, samples, rows):
        yield generator.integers(0, utterances, (min(rows, samples - start), utterances), dtype=np.int32)


def _rates(numerators, denominators):
    """Return rates of resampled counts [samples, N]; resamples whose denominator is 0 have none and are left out."""
    below = denominators.sum(axis=1)
    return numerators.sum(axis=1)[below > 0] / below[below > 0]


def _rate_gaps(numerators_a, denominators_a, numerators_b, denominators_b):
    """Return A's rate minus B's of resampled counts [samples, N]; resamples in which one has none are left out."""
    below_a, below_b = denominators_a.sum(axis=1), denominators_b.sum(axis=1)
    both = (below_a > 0) & (below_b > 0)
    above_a, above_b = numerators_a.sum(axis=1)[both], numerators_b.sum(axis=1)[both]
    return above_a / below_a[both] - above_b / below_b[both]


def _least_p_value(differing: int) -> float:
    """Return the lowest two-sided p-value that so many utterances can give: all of them favour the same system."""
    return 2.0 ** (1 - differing)


def _decided(low: float, high: float, differing: int) -> tuple[float, float]:
    """Return an interval of a difference, extended to 0 where so many utterances on which systems differ decide
    nothing."""
    return (low, high) if _least_p_value(differing) < 1 - LEVEL else (min(low, 0.0), max(high, 0.0))


def _interval(rates):
    low, high = np.quantile(rates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
