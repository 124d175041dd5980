"""Calibration of confidences: are 80 % of the words with confidence 80 % correct?

A word of a hypothesis is correct where the alignment with the reference has the same word. Two numbers describe
confidences: the expected calibration error (ECE; Naeini et al., AAAI 2015) over 15 bins of as many words each (equal
mass, as Nguyen and O'Connor, EMNLP 2015, argue for), 0 where each bin's mean confidence is its share of correct words;
and the area under the ROC curve (AUC), the probability that a correct word has a higher confidence than a wrong one,
0.5 by chance. The first says whether confidences can be read as probabilities, the second whether they separate correct
from wrong words.

With few words, an ECE is above 0 by chance even if the confidences are right: `ece_by_chance` is its mean value in that
case.

A temperature (Guo et al., ICML 2017; `joint_st.word_times.confidence`) is fitted by maximum likelihood on one half of
the data, and judged on the other. No speaker is in both halves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from joint_st.evaluation.bootstrap import LEVEL, Estimate, resamples
from joint_st.word_times.confidence import LEAST, tempered

BINS = 15
"""Bins of the expected calibration error."""

COLDEST, HOTTEST = 1 / 64, 64.0
"""Bounds of a temperature."""

DRAWS = 200
"""Draws behind the calibration error by chance."""


class JudgedWords(NamedTuple):
    """The words of some hypotheses."""

    confidences: np.ndarray
    """0 to 1, float64 [M]."""
    correct: np.ndarray
    """bool [M]."""
    utterance: np.ndarray
    """Number of the utterance of each, from 0, int [M]."""


class Quality(NamedTuple):
    """Quality of confidences, with 95 % intervals of the bootstrap over utterances; one utterance has none.

    Chance adds to an ECE, and once more to that of a resample, so the interval of the ECE is the reflected one (basic
    bootstrap): as far below the value as the resamples lie above it. That of the AUC is the percentile one.
    """

    ece: Estimate
    auc: Estimate | None
    """None where all words are correct, or none is."""
    ece_by_chance: float
    """Mean calibration error if each word were correct with the probability that its confidence states."""


class Bin(NamedTuple):
    """A bin of a reliability diagram."""

    confidence: float
    """Mean confidence."""
    correct: float
    """Share of correct words."""
    words: int


def expected_calibration_error(confidences: np.ndarray, correct: np.ndarray, bins: int = BINS) -> float:
    """Return the mean over words of the distance of their bin's mean confidence from its share of correct words.

    confidences, correct: [M]; the bins hold as many words each, or one more. Words with equal confidence are averaged,
    so that their order does not matter.
    """
    order = np.argsort(confidences, kind="stable")
    return _ece(*_level(confidences[order], correct[order]), bins)


def area_under_curve(confidences: np.ndarray, correct: np.ndarray) -> float | None:
    """Return the area under the ROC curve, equal confidences counting half; None where all are correct or none is."""
    order = np.argsort(confidences, kind="stable")
    return _auc(confidences[order], correct[order])


def reliability(confidences: np.ndarray, correct: np.ndarray, bins: int = BINS) -> list[Bin]:
    """Return the bins behind the expected calibration error, by ascending confidence."""
    order = np.argsort(confidences, kind="stable")
    sure, right = _level(confidences[order], correct[order])
    parts = zip(*(np.array_split(x, min(bins, max(len(order), 1))) for x in (sure, right)))
    return [Bin(float(c.mean()), float(y.mean()), len(c)) for c, y in parts if len(c)]


def judge(words: JudgedWords, samples: int = 1000, seed: int = 0) -> Quality | None:
    """Return how good confidences are; None where there are no words. samples: number of resamples."""
    if not len(words.confidences):
        return None
    order = np.argsort(words.confidences, kind="stable")
    sure, correct = words.confidences[order], words.correct[order]
    _, utterance = np.unique(words.utterance[order], return_inverse=True)
    count = int(utterance.max()) + 1
    eces, aucs = [], []
    for drawn in resamples(count, samples, seed):
        for row in drawn:
            # Drawn words stay in order, so nothing is sorted again.
            again = np.repeat(np.arange(len(sure)), np.bincount(row, minlength=count)[utterance])
            if len(again):
                eces.append(_ece(*_level(sure[again], correct[again]), BINS))
                aucs.append(_auc(sure[again], correct[again]))
    generator = np.random.default_rng([seed, 2])
    chance = [_ece(*_level(sure, generator.random(len(sure)) < sure), BINS) for _ in range(DRAWS)]
    ece, auc = _ece(*_level(sure, correct), BINS), _auc(sure, correct)
    aucs = [one for one in aucs if one is not None]
    if count == 1:  # all resamples are alike
        alone = None if auc is None else Estimate(auc, None, None)
        return Quality(Estimate(ece, None, None), alone, float(np.mean(chance)))
    low, high = _interval(eces)
    return Quality(
        Estimate(ece, min(max(2 * ece - high, 0.0), ece), max(2 * ece - low, ece)),
        None if auc is None else Estimate(auc, *_interval(aucs)),
        float(np.mean(chance)),
    )


def fit_temperature(confidences: np.ndarray, correct: np.ndarray) -> float:
    """Return the temperature with the highest likelihood of which words are correct, from `COLDEST` to `HOTTEST`; 1
    without words.

    confidences, correct: [M]. With p the confidence to the power of 1 / T, it maximises the sum of log(p) over correct
    words and of log(1 - p) over the others. The sum is concave in 1 / T, so a ternary search finds the maximum.
    """
    if not len(confidences):
        return 1.0
    logs = np.log(np.clip(confidences, LEAST, 1 - LEAST))
    right = np.asarray(correct, bool)

    def log_likelihood(power: float) -> float:
        return power * logs[right].sum() + np.log(-np.expm1(power * logs[~right])).sum()

    low, high = 1 / HOTTEST, 1 / COLDEST
    while high - low > 1e-6 * high:
        one, other = low + (high - low) / 3, high - (high - low) / 3
        low, high = (one, high) if log_likelihood(one) < log_likelihood(other) else (low, other)
    return float(2 / (low + high))


def first_half(names: Sequence[str], sizes: Sequence[int]) -> np.ndarray:
    """Return which of N utterances belong to the half that a temperature is fitted on, bool [N].

    names: speakers (or utterances where no speaker is known); all utterances of one are in the same half, and their
    order does not matter. sizes: words of each utterance. The halves are about even, without a search for the best cut.
    """
    words: dict[str, int] = {}
    for name, size in zip(names, sizes, strict=True):
        words[name] = words.get(name, 0) + size
    halves = {True: 0, False: 0}
    first = set()
    # By size, so that small ones remain for the end, then by a hash, which has nothing to do with the names' order.
    for name in sorted(words, key=lambda name: (-words[name], hashlib.sha256(name.encode()).digest())):
        half = halves[True] <= halves[False]
        halves[half] += words[name]
        if half:
            first.add(name)
    return np.array([name in first for name in names], bool)


def calibrated(words: JudgedWords, temperature: float) -> JudgedWords:
    """Return the words with calibrated confidences."""
    return words._replace(confidences=tempered(words.confidences, temperature))


# The functions below take words sorted by confidence.


def _groups(sure: np.ndarray) -> np.ndarray:
    """Return where each group of equal confidences begins."""
    return np.flatnonzero(np.concatenate([[True], sure[1:] != sure[:-1]]))


def _level(sure: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the confidences, and the share of correct words among those of the same confidence, [M] each."""
    if not len(sure):
        return sure, correct.astype(np.float64)
    starts = _groups(sure)
    counts = np.diff(np.append(starts, len(sure)))
    return sure, np.repeat(np.add.reduceat(correct.astype(np.float64), starts) / counts, counts)


def _ece(sure: np.ndarray, right: np.ndarray, bins: int) -> float:
    count = len(sure)
    bins = min(bins, count)
    if not bins:
        return 0.0
    edges = (np.arange(bins) * (count // bins) + np.minimum(np.arange(bins), count % bins)).astype(int)
    return float(np.abs(np.add.reduceat(sure - right, edges)).sum() / count)


def _auc(sure: np.ndarray, correct: np.ndarray) -> float | None:
    right = correct.astype(np.float64)
    positives = right.sum()
    negatives = len(right) - positives
    if not positives or not negatives:
        return None
    starts = _groups(sure)
    above, below = np.add.reduceat(right, starts), np.add.reduceat(1 - right, starts)
    before = np.cumsum(below) - below
    return float((above * (before + below / 2)).sum() / (positives * negatives))


def _interval(values: Sequence[float]) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
