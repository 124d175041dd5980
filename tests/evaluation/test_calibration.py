"""Calibration error, AUC, temperatures and halves, against brute force and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from joint_st.evaluation.calibration import (
    JudgedWords,
    area_under_curve,
    calibrated,
    expected_calibration_error,
    first_half,
    fit_temperature,
    judge,
    reliability,
)

sklearn_metrics = pytest.importorskip("sklearn.metrics")  # librosa, of the test extra, brings it


def words(seed, count, ties=False, power=1.0):
    rng = np.random.default_rng(seed)
    confidences = rng.beta(1.2, 0.7, count)
    if ties:
        confidences = np.round(confidences, 1)
    return confidences, rng.random(count) < confidences**power


def slow_error(confidences, correct, bins):
    """Compute it by the definition: sort the words and put them into bins, of which the first ones have one word
    more."""
    rows = sorted(zip(confidences.tolist(), correct.tolist()))
    total, at = 0.0, 0
    for k in range(bins):
        size = len(rows) // bins + (k < len(rows) % bins)
        own = rows[at : at + size]
        at += size
        total += abs(sum(c for c, _ in own) - sum(y for _, y in own))
    return total / len(rows)


@pytest.mark.parametrize("count", [1, 14, 15, 16, 100, 1000])
def test_the_calibration_error_is_that_of_the_definition(count):
    confidences, correct = words(count, count)
    expected = slow_error(confidences, correct, min(15, count))
    assert expected_calibration_error(confidences, correct) == pytest.approx(expected)
    bins = reliability(confidences, correct)
    assert sum(bin.words for bin in bins) == count and len(bins) == min(15, count)
    assert sum(bin.words * abs(bin.confidence - bin.correct) for bin in bins) / count == pytest.approx(expected)


def test_the_calibration_error_by_hand_and_whatever_the_order_of_equals():
    assert expected_calibration_error(np.array([0.2, 0.9]), np.array([False, True])) == pytest.approx(0.15)
    assert expected_calibration_error(np.array([0.2, 0.9]), np.array([False, True]), 1) == pytest.approx(0.05)
    assert expected_calibration_error(np.zeros(0), np.zeros(0, bool)) == 0
    confidences, correct = words(3, 200, ties=True)
    found = {
        round(expected_calibration_error(confidences[order], correct[order]), 12)
        for order in (np.random.default_rng(seed).permutation(200) for seed in range(5))
    }
    assert len(found) == 1
    # Where all of a confidence are in the same state, ties make no difference.
    same = confidences > 0.5
    assert found != {0.0} and expected_calibration_error(confidences, same) == pytest.approx(
        slow_error(confidences, same, 15)
    )


@pytest.mark.parametrize("ties", [False, True])
def test_the_area_under_the_curve_is_that_of_all_pairs_and_of_scikit_learn(ties):
    for seed in range(5):
        confidences, correct = words(seed, 150, ties)
        pairs = [(x > y) + (x == y) / 2 for x in confidences[correct] for y in confidences[~correct]]
        found = area_under_curve(confidences, correct)
        assert found == pytest.approx(np.mean(pairs))
        assert found == pytest.approx(sklearn_metrics.roc_auc_score(correct, confidences))
    assert area_under_curve(confidences, np.ones(150, bool)) is None
    assert area_under_curve(np.zeros(0), np.zeros(0, bool)) is None


@pytest.mark.parametrize("power", [0.3, 1.0, 2.5])
def test_a_temperature_makes_up_for_a_power_and_is_the_likeliest(power):
    """For words that are correct with probability c^(1/T), T is found, and no temperature of a fine grid has a higher
    likelihood."""
    confidences, correct = words(0, 20_000, power=power)
    found = fit_temperature(confidences, correct)
    assert found == pytest.approx(1 / power, rel=0.05)

    def loss(temperature):
        p = np.clip(confidences, 1e-6, 1 - 1e-6) ** (1 / temperature)
        return sklearn_metrics.log_loss(correct, p)

    assert loss(found) <= min(map(loss, np.geomspace(1 / 64, 64, 200))) + 1e-9
    after = expected_calibration_error(confidences ** (1 / found), correct)
    assert after < 0.015
    if power != 1:
        assert after < expected_calibration_error(confidences, correct) / 5
    assert fit_temperature(np.zeros(0), np.zeros(0, bool)) == 1


def test_temperatures_of_odd_words_are_finite():
    everything = np.array([0.0, 1.0, 0.5, 1e-30])
    for correct in ([True] * 4, [False] * 4, [True, False, True, False]):
        assert 1 / 64.01 <= fit_temperature(everything, np.array(correct)) <= 64.01


def test_intervals_are_those_of_resampled_utterances():
    """Compared with brute force: utterances drawn with the same generator, all their words scored again each time."""
    confidences, correct = words(1, 300)
    utterance = np.sort(np.random.default_rng(2).integers(0, 40, 300))
    quality = judge(JudgedWords(confidences, correct, utterance), samples=200, seed=7)
    ids = np.unique(utterance)
    drawn = np.random.default_rng(7).integers(0, len(ids), (200, len(ids)), dtype=np.int32)
    eces, aucs = [], []
    for row in drawn:
        picked = np.concatenate([np.flatnonzero(utterance == ids[k]) for k in row])
        eces.append(expected_calibration_error(confidences[picked], correct[picked]))
        aucs.append(sklearn_metrics.roc_auc_score(correct[picked], confidences[picked]))
    ece = expected_calibration_error(confidences, correct)
    low, high = np.quantile(eces, [0.025, 0.975])
    assert quality.ece == pytest.approx((ece, max(2 * ece - high, 0), max(2 * ece - low, ece)))
    assert quality.auc[1:] == pytest.approx(np.quantile(aucs, [0.025, 0.975]))
    assert quality.auc.value == pytest.approx(area_under_curve(confidences, correct))
    # These are right as they are: the error is what chance makes of 300 words.
    assert quality.ece_by_chance == pytest.approx(ece, rel=0.4) and 0.03 < quality.ece_by_chance < 0.09
    assert judge(JudgedWords(*(np.zeros(0),) * 3)) is None
    # All resamples of one utterance are alike.
    alone = judge(JudgedWords(confidences, correct, np.zeros(300, int)), samples=50)
    assert alone.ece == (pytest.approx(ece), None, None) and alone.auc == (quality.auc.value, None, None)
    after = calibrated(JudgedWords(confidences, correct, utterance), 3.0)
    assert judge(after, samples=50).auc.value == pytest.approx(quality.auc.value), "no temperature changes an order"


def test_halves_share_no_speaker_and_are_about_even():
    rng = np.random.default_rng(0)
    names = [f"speaker {k}" for k in rng.integers(0, 9, 400)]
    sizes = rng.integers(1, 12, 400)
    half = first_half(names, sizes)
    assert not {n for n, h in zip(names, half) if h} & {n for n, h in zip(names, half) if not h}
    assert sizes[half].sum() == pytest.approx(sizes.sum() / 2, rel=0.1)
    order = rng.permutation(400)
    np.testing.assert_array_equal(first_half([names[k] for k in order], sizes[order]), half[order])
    assert first_half(["one"], [5]).tolist() == [True] and first_half([], []).tolist() == []
