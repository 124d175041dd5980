"""Intervals against SciPy's bootstrap, the normal approximation, and their coverage."""

import numpy as np
import pytest
import scipy.stats

from joint_st.evaluation.bootstrap import paired_difference, rate_interval


def counts(seed, utterances=300, rate=0.2):
    """Errors and words [N]; utterances differ in length and difficulty."""
    rng = np.random.default_rng(seed)
    words = rng.integers(1, 20, utterances)
    return rng.binomial(words, np.clip(rng.beta(1, 1 / rate - 1, utterances), 0, 1)), words


def test_interval_equals_scipy():
    errors, words = counts(0)
    low, high = rate_interval(errors, words, samples=20_000)
    expected = scipy.stats.bootstrap(
        (errors, words),
        lambda e, w, axis: e.sum(axis) / w.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        batch=1000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    width = expected.high - expected.low
    assert low == pytest.approx(expected.low, abs=0.03 * width)
    assert high == pytest.approx(expected.high, abs=0.03 * width)


def test_interval_of_equal_lengths_is_the_normal_one():
    """With words all alike, the rate is a mean: 1.96 standard errors to each side."""
    errors = np.random.default_rng(2).poisson(3.0, 2000)
    low, high = rate_interval(errors, np.full(2000, 10), samples=10_000)
    half = 1.96 * errors.std() / 10 / np.sqrt(2000)
    assert low == pytest.approx(errors.mean() / 10 - half, abs=0.05 * half)
    assert high == pytest.approx(errors.mean() / 10 + half, abs=0.05 * half)


def test_interval_covers_the_truth_95_times_in_100():
    covered = []
    for seed in range(200):
        low, high = rate_interval(*counts(seed, utterances=150), samples=400, seed=seed)
        covered.append(low <= 0.2 <= high)
    assert 0.90 <= np.mean(covered) <= 0.99


def test_seed_alone_decides_and_samples_do_not_depend_on_their_chunks(monkeypatch):
    errors, words = counts(3)
    whole = rate_interval(errors, words, seed=5)
    assert whole == rate_interval(errors, words, seed=5) != rate_interval(errors, words, seed=6)
    monkeypatch.setattr("joint_st.evaluation.bootstrap._CHUNK", 7 * len(errors))
    assert whole == rate_interval(errors, words, seed=5)


def test_few_words_or_none():
    assert rate_interval([], []) is None
    assert rate_interval([2, 0], [0, 0]) is None
    assert rate_interval([1], [4]) == (0.25, 0.25)
    # Resamples without the one utterance that has words have no rate.
    assert rate_interval([1, 0], [4, 0]) == (0.25, 0.25)
    assert rate_interval([0, 0], [3, 4]) == (0.0, 0.0)


def test_paired_difference_equals_scipy():
    errors, words = counts(4)
    better = np.random.default_rng(5).binomial(errors, 0.9)
    found = paired_difference(better, errors, words, samples=20_000)
    expected = scipy.stats.bootstrap(
        (better, errors, words),
        lambda a, b, w, axis: (a.sum(axis) - b.sum(axis)) / w.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        batch=1000,
        method="percentile",
        rng=np.random.default_rng(1),
    )
    interval = expected.confidence_interval
    width = interval.high - interval.low
    assert found.difference == pytest.approx((better.sum() - errors.sum()) / words.sum())
    assert found.low == pytest.approx(interval.low, abs=0.03 * width)
    assert found.high == pytest.approx(interval.high, abs=0.03 * width)
    assert found.a_is_lower == pytest.approx(np.mean(expected.bootstrap_distribution < 0), abs=0.01)


def test_pairing_finds_what_two_intervals_hide():
    """One error less in a fourth of the utterances: the intervals overlap, the difference is not 0."""
    errors, words = counts(6)
    better = np.where(np.arange(len(errors)) % 4 == 0, np.maximum(errors - 1, 0), errors)
    assert rate_interval(better, words)[1] > rate_interval(errors, words)[0]
    found = paired_difference(better, errors, words)
    assert found.high < 0 and found.a_is_lower == 1
    swapped = paired_difference(errors, better, words)
    assert swapped[:3] == pytest.approx((-found.difference, -found.high, -found.low))
    assert paired_difference(errors, errors, words) == (0, 0, 0, 0)
    assert paired_difference([1], [0], [0]) is None
