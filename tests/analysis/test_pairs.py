"""Wrong texts: never the own one, of about the same length, each taken about once."""

import dataclasses

import numpy as np
import pytest

from joint_st.analysis.pairs import ExamplePair, spread, wrong_texts


def test_neighbours_by_length_change_places():
    assert wrong_texts(["a", "b", "c", "d"], [9, 1, 8, 2]).tolist() == [2, 3, 0, 1]


@pytest.mark.parametrize("count", [2, 3, 40, 41])
def test_every_text_differs_and_is_about_as_long(count):
    lengths = np.random.default_rng(count).integers(5, 60, count)
    wrong = wrong_texts([str(n) for n in range(count)], lengths)
    assert all(wrong[n] != n for n in range(count))
    if count % 2 == 0:
        assert sorted(wrong) == list(range(count))
    ordered = np.sort(lengths)
    assert np.abs(lengths[wrong] - lengths).max() <= 2 * np.diff(ordered).max()


def test_equal_texts_are_not_wrong_for_each_other():
    texts = ["yes", "yes", "yes", "no", "no", "maybe"]
    wrong = wrong_texts(texts, [3, 3, 3, 2, 2, 5])
    assert all(texts[n] != texts[m] for n, m in enumerate(wrong))


def test_where_all_texts_are_equal_none_is_wrong():
    assert wrong_texts(["yes", "yes"], [3, 3]).tolist() == [-1, -1]
    assert wrong_texts(["alone"], [5]).tolist() == [-1]


def test_words_that_are_written_as_one_are_one_in_a_figure():
    nan = np.nan
    example = ExamplePair(
        id="a",
        text="eighteen twenty six",
        layers=("encoders",),
        costs=np.zeros((1, 6, 6)),
        positions=np.zeros((1, 6), int),
        unit=np.array([0, 1, 2, 2, 3, 4]),
        symbols=("e", " ", "t", " ", "s"),
        words=np.array([0, -1, 1, -1, 2]),
        word_times=np.array([[0.1, 0.5], [0.6, nan], [nan, 1.5]]),
        frame_seconds=0.04,
    )
    assert example.spoken_words() == ["eighteen", "twenty six"]
    assert example.spoken_times().tolist() == [[0.1, 0.5], [0.6, 1.5]]
    assert example.word_spans() == [(0, 1), (2, 6)]
    unknown = dataclasses.replace(example, word_times=None)
    assert unknown.spoken_words() == ["eighteen", "twenty", "six"] and unknown.spoken_times() is None
    assert unknown.word_spans() == [(0, 1), (2, 4), (5, 6)]


def test_utterances_are_spread_over_those_that_may_be_taken():
    assert spread(np.array([2, 5, 7, 9, 11]), 3).tolist() == [2, 7, 11]
    assert spread(np.array([4]), 3).tolist() == [4] and not len(spread(np.zeros(0, int), 3))
