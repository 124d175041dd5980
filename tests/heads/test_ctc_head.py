import itertools

import jax.numpy as jnp
import numpy as np
from joint_st.decoding.greedy import greedy


def spelled(path, blank):
    return [symbol for symbol, _ in itertools.groupby(path) if symbol != blank]


def test_collapses_repeats_then_drops_blanks():
    ids = np.array([[1, 1, 0, 1, 2, 2, 3], [0, 0, 3, 3, 0, 0, 3], [5, 5, 5, 5, 5, 5, 5], [0] * 7])
    found = greedy(ids, np.array([7, 7, 7, 7]))
    assert [row.tolist() for row in found] == [[1, 1, 2, 3], [3, 3], [5], []]
    assert all(row.dtype == np.int32 for row in found)


def test_reads_nothing_beyond_the_length():
    ids = np.array([[1, 2, 2, 9], [1, 2, 2, 9], [1, 2, 2, 9]])
    assert [row.tolist() for row in greedy(ids, np.array([0, 2, 3]))] == [[], [1, 2], [1, 2]]


def test_takes_logits_of_any_precision_and_any_blank():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20, 30, 4)).astype(np.float32)
    lengths = rng.integers(0, 31, 20)
    for blank in (0, 3):
        expected = [spelled(row[:n].argmax(1), blank) for row, n in zip(logits, lengths)]
        assert [row.tolist() for row in greedy(logits, lengths, blank)] == expected
        assert [row.tolist() for row in greedy(jnp.asarray(logits), jnp.asarray(lengths), blank)] == expected
        assert [row.tolist() for row in greedy(logits.argmax(2), lengths, blank)] == expected
    low = jnp.asarray(logits, jnp.bfloat16)
    expected = [spelled(row[:n], 0) for row, n in zip(np.asarray(low.argmax(2)), lengths)]
    assert [row.tolist() for row in greedy(low, lengths)] == expected


def test_shapes_of_size_zero():
    assert [row.tolist() for row in greedy(np.zeros((2, 0), int), np.zeros(2, int))] == [[], []]
    assert greedy(np.zeros((0, 5), int), np.zeros(0, int)) == []
