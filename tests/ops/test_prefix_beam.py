from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from joint_st.ops.prefix_beam import prefix_beam_search
from tests.ops.prefix_beam_reference import beam_of_prefixes, every_alignment


def prefixes(found, row: int) -> list[tuple[tuple[int, ...], float]]:
    """Return the n-best list of an utterance without empty places."""
    labels, lengths, scores = (np.asarray(part[row]) for part in found)
    there = [i for i in range(len(scores)) if scores[i] > -np.inf]
    assert there == list(range(len(there))) and not lengths[len(there) :].any()
    return [(tuple(labels[i, : lengths[i]].tolist()), float(scores[i])) for i in there]


def assert_same(found, expected, tolerance=1e-5):
    assert [prefix for prefix, _ in found] == [prefix for prefix, _ in expected]
    np.testing.assert_allclose([score for _, score in found], [score for _, score in expected], atol=tolerance)


@pytest.mark.parametrize("frames, symbols, blank", [(6, 3, 0), (4, 4, 2)])
def test_a_wide_beam_finds_all_that_can_be_spelled(frames, symbols, blank):
    """Utterances of 0 frames, 1 frame and more; more candidates than labels; room for all prefixes."""
    rng = np.random.default_rng(0)
    lengths = np.arange(frames + 1)
    logits = rng.normal(0, 2, (len(lengths), frames, symbols)).astype(np.float32)
    found = prefix_beam_search(logits, lengths, beam=128, candidates=9, blank=blank)
    for row, length in enumerate(lengths):
        expected = sorted(every_alignment(logits[row, :length], blank).items(), key=lambda item: -item[1])
        assert_same(prefixes(found, row), expected)
    assert prefixes(found, 0) == [((), 0.0)]
    assert (np.asarray(found.labels[0]) == blank).all()


def confident(rng, rows, frames, symbols, blank):
    """Logits [B, T, V] with clear winners, the blank among them half of the time, and labels that come again."""
    logits = rng.normal(0, 1.5, (rows, frames, symbols))
    winners = rng.integers(0, symbols, (rows, frames))
    winners[rng.random(winners.shape) < 0.5] = blank
    again = rng.random(winners.shape) < 0.3
    winners[:, 1:] = np.where(again[:, 1:], winners[:, :-1], winners[:, 1:])
    np.put_along_axis(logits, winners[..., None], 4 + rng.normal(size=(rows, frames, 1)), axis=2)
    return logits.astype(np.float32)


@pytest.mark.parametrize(
    "frames, symbols, beam, candidates, blank", [(60, 12, 8, 4, 0), (50, 4, 5, 2, 3), (30, 5, 1, 1, 0)]
)
def test_prunes_as_a_plain_search(frames, symbols, beam, candidates, blank):
    rng = np.random.default_rng(1)
    logits = confident(rng, 8, frames, symbols, blank)
    logits[4:] = rng.normal(0, 1, logits[4:].shape)
    lengths = np.array([frames, frames // 2, 1, frames - 1] * 2)
    found = prefix_beam_search(logits, lengths, beam=beam, candidates=candidates, blank=blank)
    for row, length in enumerate(lengths):
        expected = beam_of_prefixes(logits[row, :length], beam, candidates, blank)
        assert_same(prefixes(found, row), expected, tolerance=1e-4)
    assert max(len(prefix) for row in range(8) for prefix, _ in prefixes(found, row)) > 5


def test_neither_padding_nor_neighbours_change_anything():
    rng = np.random.default_rng(2)
    logits = confident(rng, 4, 25, 6, 0)
    lengths = np.array([25, 13, 0, 1])
    found = prefix_beam_search(logits, lengths, beam=6, candidates=3)
    padded = np.full((5, 40, 6), np.nan, np.float32)
    for row, length in enumerate(lengths):
        padded[4 - row, :length] = logits[row, :length]
    moved = prefix_beam_search(padded, np.array([0, *lengths[::-1]]), beam=6, candidates=3)
    for row in range(4):
        assert_same(prefixes(moved, 4 - row), prefixes(found, row), tolerance=1e-6)


def test_fewer_are_the_first_of_many_and_precision_is_float32():
    rng = np.random.default_rng(3)
    logits, lengths = jnp.asarray(confident(rng, 3, 20, 6, 0), jnp.bfloat16), np.array([20, 20, 11])
    every = prefix_beam_search(logits, lengths, beam=6, candidates=3)
    two = prefix_beam_search(logits, lengths, beam=6, candidates=3, best=2)
    assert two.labels.shape == (3, 2, 20) and two.scores.dtype == every.scores.dtype == np.float32
    for row, length in enumerate(lengths):
        assert_same(prefixes(two, row), prefixes(every, row)[:2], tolerance=1e-6)
        exact = beam_of_prefixes(np.asarray(logits[row, :length], np.float64), 6, 3)
        assert_same(prefixes(every, row), exact, tolerance=1e-4)


def test_what_is_ruled_out_is_never_spelled():
    """With logits of -inf, blanks alone spell nothing, and a certain label is spelled once without blanks."""
    logits = np.full((3, 5, 4), -np.inf, np.float32)
    logits[0, :, 0] = 1.0
    logits[1, :, 2] = 1.0
    logits[2, [0, 1, 2, 3, 4], [2, 0, 2, 2, 3]] = 1.0
    found = prefix_beam_search(logits, np.array([5, 5, 5]), beam=4, candidates=2)
    assert [prefixes(found, row) for row in range(3)] == [[((), 0.0)], [((2,), 0.0)], [((2, 2, 3), 0.0)]]


def test_shapes_of_size_zero_and_one():
    none = prefix_beam_search(np.zeros((2, 0, 4)), np.zeros(2, int), beam=3, candidates=2)
    assert none.labels.shape == (2, 3, 0)
    assert [prefixes(none, row) for row in range(2)] == [[((), 0.0)]] * 2
    assert prefix_beam_search(np.zeros((0, 5, 4)), np.zeros(0, int), beam=3).scores.shape == (0, 3)
    assert prefixes(prefix_beam_search(np.zeros((1, 3, 1)), np.array([3]), beam=3), 0) == [((), 0.0)]


@pytest.mark.parametrize("wrong", [{"beam": 0}, {"candidates": 0}, {"best": 0}, {"beam": 4, "best": 5}])
def test_sizes_that_mean_nothing(wrong):
    with pytest.raises(ValueError, match="all from 1 on"):
        prefix_beam_search(np.zeros((1, 2, 3)), np.array([2]), **wrong)
