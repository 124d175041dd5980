"""Intervals against SciPy's bootstrap, the normal approximation, and their coverage."""

import numpy as np
import pytest
import scipy.stats

from joint_st.evaluation.bootstrap import (
    by_speaker,
    paired_difference,
    rate_interval,
    rates_over_seeds,
    relative_changes,
)


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


def test_speakers_are_drawn_with_all_their_utterances():
    speakers = ["b", "a", "b", "c", "a"]
    counts = np.arange(10).reshape(2, 5)
    assert by_speaker(counts, speakers).tolist() == [[5, 2, 3], [15, 12, 8]]
    assert by_speaker([1, 2], ["same", "same"]).tolist() == [3]


def test_interval_over_speakers_covers_the_truth_where_that_over_utterances_does_not():
    """Thirty speakers of forty utterances each, whose error rates differ."""
    generator, covered = np.random.default_rng(0), {"utterances": 0, "speakers": 0}
    speakers, words = np.repeat(np.arange(30), 40).astype(str), np.full(1200, 10)
    for trial in range(200):
        rates = generator.beta(4, 16, 30)  # mean 0.2
        errors = generator.binomial(10, np.repeat(rates, 40))
        for name, counts in (
            ("utterances", (errors, words)),
            ("speakers", (by_speaker(errors, speakers), by_speaker(words, speakers))),
        ):
            low, high = rate_interval(*counts, samples=200, seed=trial)
            covered[name] += low <= 0.2 <= high
    assert covered["speakers"] >= 170 and covered["utterances"] < 130, covered


def test_interval_of_equal_lengths_is_the_normal_one():
    """If all utterances have equally many words, the rate is a mean: 1.96 standard errors to each side."""
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
    # One utterance with words does not tell how far others would be.
    assert rate_interval([1], [4]) is None
    assert rate_interval([1, 0], [4, 0]) is None
    # Resamples without either of the two that have words have no rate.
    assert rate_interval([1, 3, 0], [4, 4, 0]) == (0.25, 0.75)
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
    """With one error less in a quarter of the utterances, the intervals overlap, but the difference excludes zero."""
    errors, words = counts(6)
    better = np.where(np.arange(len(errors)) % 4 == 0, np.maximum(errors - 1, 0), errors)
    assert rate_interval(better, words)[1] > rate_interval(errors, words)[0]
    found = paired_difference(better, errors, words)
    assert found.high < 0 and found.a_is_lower == 1
    swapped = paired_difference(errors, better, words)
    assert swapped[:3] == pytest.approx((-found.difference, -found.high, -found.low))
    assert paired_difference(errors, errors, words) == (0, 0, 0, 0, 1)
    assert paired_difference([1], [0], [0]) is None


def seeds_and_utterances(seed, seeds=4, utterances=60, rate=0.5):
    """Errors [2, S, N] of two kinds of words and their numbers [2, N]; seeds and utterances differ in difficulty."""
    rng = np.random.default_rng(seed)
    words = rng.integers(1, 6, (2, utterances))
    hard = rng.uniform(0.3, 1.7, (2, 1, utterances)) * rng.uniform(0.8, 1.2, (2, seeds, 1))
    return rng.binomial(words[:, None].repeat(seeds, 1), np.clip(rate * hard, 0, 1)), words


def drawn_slowly(statistic, seeds, utterances, samples=4000):
    """Return the statistic of so many draws of seeds and of utterances, one after the other: its 95 % interval."""
    rng = np.random.default_rng(11)
    values = []
    for _ in range(samples):
        s, n = rng.integers(0, seeds, seeds), rng.integers(0, utterances, utterances)
        values.append(statistic(lambda counts: sum(counts[i, j] for i in s for j in n)))
    return np.quantile(values, [0.025, 0.975])


def test_seeds_and_utterances_drawn_one_by_one():
    errors, words = seeds_and_utterances(0, seeds=3, utterances=12)
    better = np.random.default_rng(1).binomial(errors, 0.5)
    everywhere = np.broadcast_to(words[:, None], errors.shape)
    rates = rates_over_seeds(errors, words, samples=20_000)
    changes = relative_changes(better, errors, samples=20_000)
    for kind in range(2):
        e, b, w = errors[kind], better[kind], everywhere[kind]
        assert rates[kind].value == pytest.approx(e.sum() / w.sum())
        assert changes[kind].value == pytest.approx(b.sum() / e.sum() - 1)
        expected = drawn_slowly(lambda total: total(e) / total(w), 3, 12)
        assert rates[kind][1:] == pytest.approx(expected, abs=0.05 * np.ptp(expected))
        expected = drawn_slowly(lambda total: total(b) / total(e) - 1, 3, 12)
        assert changes[kind][1:] == pytest.approx(expected, abs=0.05 * np.ptp(expected))


def test_other_seeds_of_two_systems_are_drawn_apart():
    errors, _ = seeds_and_utterances(0, seeds=5, utterances=12)
    a, b = errors[:, :2], errors[:, 2:]
    rng, (found, _) = np.random.default_rng(3), relative_changes(a, b, samples=20_000, paired=False)
    assert found.value == pytest.approx(a[0].sum() / 2 / (b[0].sum() / 3) - 1)
    values = []
    for _ in range(4000):
        n = rng.integers(0, 12, 12)
        of_a, of_b = (one[0][rng.integers(0, len(one[0]), len(one[0]))][:, n].mean(axis=0).sum() for one in (a, b))
        values.append(of_a / of_b - 1)
    expected = np.quantile(values, [0.025, 0.975])
    assert found[1:] == pytest.approx(expected, abs=0.05 * np.ptp(expected))
    # As many seeds, but not the same: a draw of A's says nothing of B's.
    low, high = relative_changes(errors, errors, paired=False)[0][1:]
    assert low < 0 < high


def test_variances_of_seeds_and_of_utterances_add_up():
    """If their effects are additive, the interval is 1.96 times the root of the sum of the separate variances."""
    rng = np.random.default_rng(7)
    of_seeds, of_utterances = rng.normal(0, 0.2, 30), rng.normal(0, 3.0, 900)
    errors = 10 + of_seeds[:, None] + of_utterances
    (found,) = rates_over_seeds(errors[None], np.full((1, 900), 10), samples=20_000)
    half = 1.96 * np.sqrt(of_seeds.var() / 30 + of_utterances.var() / 900) / 10
    assert found.value == pytest.approx(errors.mean() / 10)
    assert found.low == pytest.approx(found.value - half, abs=0.05 * half)
    assert found.high == pytest.approx(found.value + half, abs=0.05 * half)


def test_one_seed_is_the_interval_over_utterances():
    errors, words = counts(8)
    (found,) = rates_over_seeds(errors[None, None], words[None])
    assert found[1:] == pytest.approx(rate_interval(errors, words))


def test_what_both_systems_share_cancels_in_their_change():
    errors, words = seeds_and_utterances(9)
    assert relative_changes(errors, errors) == [(0, 0, 0)] * 2
    half = relative_changes(errors, 2 * errors)
    assert [estimate[:3] for estimate in half] == [pytest.approx((-0.5, -0.5, -0.5))] * 2
    # Other seeds of A: no longer paired with B's, though the totals stay.
    low, high = relative_changes(errors[:, ::-1], errors)[0][1:]
    assert low < 0 < high


def test_chunks_and_kinds_do_not_change_the_draws(monkeypatch):
    errors, words = seeds_and_utterances(10)
    whole = rates_over_seeds(errors, words, seed=5)
    assert rates_over_seeds(errors[1:], words[1:], seed=5)[0] == pytest.approx(whole[1])
    assert whole != rates_over_seeds(errors, words, seed=6)
    monkeypatch.setattr("joint_st.evaluation.bootstrap._CHUNK", 7 * errors.shape[-1])
    for estimate, expected in zip(rates_over_seeds(errors, words, seed=5), whole, strict=True):
        assert estimate == pytest.approx(expected)


def test_no_words_or_no_errors_over_seeds():
    nothing = np.zeros((1, 2, 3), int)
    assert rates_over_seeds(nothing, nothing[:, 0]) == [None]
    assert rates_over_seeds(nothing, nothing[:, 0] + 1) == [(0, 0, 0)]
    assert relative_changes(nothing + 1, nothing) == [None]


def test_one_utterance_has_no_interval_over_seeds():
    errors = np.array([[[3, 0], [1, 0]]])
    assert rates_over_seeds(errors, np.array([[4, 0]])) == [(0.5, None, None)]
    assert relative_changes(errors, 2 * errors) == [(-0.5, None, None)]
    assert rates_over_seeds(errors, np.array([[4, 4]]))[0].low == 0


@pytest.mark.parametrize("utterances, decided", [(2, False), (5, False), (6, True)])
def test_few_utterances_decide_no_relative_change(utterances, decided):
    (found,) = relative_changes(np.full((1, 3, utterances), 1), np.full((1, 3, utterances), 2))
    assert found == (-0.5, -0.5, -0.5 if decided else 0)


def test_what_is_heard_in_silence_decides():
    """Ten of forty utterances are silent, and A hears something in each of them."""
    silent = np.arange(40) < 10
    found = paired_difference(4 * silent, 0 * silent, np.where(silent, 0, 4))
    assert found.verdict == "b_lower" and found.low > 0


@pytest.mark.parametrize("utterances", range(1, 9))
def test_few_utterances_decide_nothing_alone(utterances):
    """All of n utterances favour one system with a probability of 2^(1 - n), if none is better."""
    a, b, words = np.full(utterances, 10), np.full(utterances, 11), np.full(utterances, 100)
    alike, unspoken = np.full(30, 5), np.zeros(4, int)  # utterances that say nothing about which is better
    for more in ([], [alike]):
        found = paired_difference(
            *(np.concatenate([counts, *more, unspoken]) for counts in (a, b)),
            np.concatenate([words, *more, unspoken]),
            10_000,
        )
        assert found.p_value >= 2.0 ** (1 - utterances) and (more or found.p_value == 2.0 ** (1 - utterances))
        assert found.verdict == ("a_lower" if utterances > 5 else "undecided")
        if utterances == 1 and not more:
            assert found == (-0.01, None, None, 1.0, 1.0)
        else:
            assert (found.low > 0 or found.high < 0) == (found.verdict != "undecided")


@pytest.mark.parametrize("utterances, most", [(1, 0), (2, 0), (3, 0), (5, 0), (8, 0.15)])
def test_systems_of_one_error_rate_are_seldom_told_apart(utterances, most):
    rng = np.random.default_rng(utterances)
    found = []
    for _ in range(300):
        words = rng.integers(5, 20, utterances)
        a, b = rng.binomial(words, 0.2), rng.binomial(words, 0.2)
        found.append(paired_difference(a, b, words, 400).verdict != "undecided")
    assert np.mean(found) <= most


def paired_counts(effect, seed=0, utterances=400):
    """Errors of A and B and words [N]: both share the difficulty of an utterance, and B makes more errors."""
    rng = np.random.default_rng(seed)
    words = rng.integers(4, 20, utterances)
    hard = rng.beta(1, 4, utterances)
    return rng.binomial(words, hard), rng.binomial(words, np.minimum(hard + effect, 1)), words


@pytest.mark.parametrize("effect", [0.0, 0.01, 0.02, 0.03])
def test_p_value_is_near_that_of_a_permutation_test(effect):
    a, b, words = paired_counts(effect)
    found = paired_difference(a, b, words, samples=8_000)
    expected = scipy.stats.permutation_test(
        (a, b),
        lambda x, y, axis: (x - y).sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=8_000,
        batch=1000,
        rng=np.random.default_rng(1),
    ).pvalue
    assert found.p_value == pytest.approx(expected, rel=0.25, abs=0.02)


def test_p_value_and_interval_by_all_resamples():
    """There are 5^5 resamples of 5 utterances, each as likely as the other."""
    a, b, words = np.array([3, 1, 0, 2, 4]), np.array([1, 0, 2, 1, 1]), np.array([5, 4, 6, 3, 7])
    every = np.stack(np.meshgrid(*[np.arange(5)] * 5), axis=-1).reshape(-1, 5)
    differences = (a - b)[every].sum(axis=1) / words[every].sum(axis=1)
    expected = 2 * min(np.mean(differences <= 0), np.mean(differences >= 0))
    found = paired_difference(a, b, words, samples=100_000)
    assert 0.05 < expected < 0.9
    assert found.p_value == pytest.approx(expected, abs=0.01)
    assert (found.low, found.high) == pytest.approx(np.quantile(differences, [0.025, 0.975]), abs=0.01)


def test_p_value_agrees_with_the_interval_and_is_never_zero():
    for effect in (0.0, 0.01, 0.015, 0.02, 0.1):
        for seed in range(5):
            found = paired_difference(*paired_counts(effect, seed))
            assert (found.p_value < 0.05) == (found.low > 0 or found.high < 0) or 0.045 < found.p_value < 0.055
            assert 0 < found.p_value <= 1
    a, b, words = paired_counts(0.3)
    assert paired_difference(a, b, words, samples=999).p_value == 2 / 1000
    assert paired_difference(a, a, words).p_value == 1
