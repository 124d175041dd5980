"""Repetitions, durations and masked spans against plain loops and their expected frequencies."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from joint_st.ops.text_frames import (
    cover_missed,
    draw_insertions,
    draw_repetitions,
    draw_spans,
    draw_substitutes,
    durations,
    even_repetitions,
    frames_bound,
    position_by_durations,
    unit_of_frame,
)


def test_a_frame_repeats_the_unit_it_falls_in():
    repetitions = np.array([[2, 0, 3, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
    unit, mask = unit_of_frame(jnp.array(repetitions), 7)
    for row, counts in enumerate(repetitions):
        expected = np.repeat(np.arange(4), counts)
        assert np.asarray(unit)[row, : len(expected)].tolist() == expected.tolist()
        assert np.asarray(mask)[row].tolist() == [r < len(expected) for r in range(7)]


def test_even_repetitions_keep_the_mean():
    found = np.asarray(even_repetitions(jnp.array([5, 2]), 5, 1, 2))
    assert found.tolist() == [[1, 2, 1, 2, 1], [1, 2, 0, 0, 0]]
    assert np.asarray(even_repetitions(jnp.array([3]), 3, 4, 4)).tolist() == [[4, 4, 4]]


@pytest.mark.parametrize(("least", "most"), [(1, 4), (2, 3), (3, 3)])
def test_drawn_repetitions_are_uniform_and_never_cut_off(least, most):
    lengths = jnp.full(4_000, 30)
    drawn = np.asarray(draw_repetitions(jax.random.key(0), lengths, 32, least, most))
    assert not drawn[:, 30:].any()
    shares = np.bincount(drawn[:, :30].ravel(), minlength=most + 1)[least:] / (4_000 * 30)
    np.testing.assert_allclose(shares, 1 / (most - least + 1), atol=0.005)
    assert drawn.sum(axis=1).max() <= frames_bound(32, least, most) <= 32 * most


def test_a_row_beyond_the_bound_gets_even_repetitions():
    """So many draws that some exceed the bound of four standard deviations."""
    lengths = jnp.full(300_000, 22)
    drawn = np.asarray(draw_repetitions(jax.random.key(1), lengths, 22, 1, 9))
    bound = frames_bound(22, 1, 9)
    assert bound < 22 * 9
    assert drawn.sum(axis=1).max() <= bound
    even = np.asarray(even_repetitions(jnp.array([22]), 22, 1, 9))[0]
    assert 0 < (drawn == even).all(axis=1).sum() < 30


def test_durations_and_the_positions_they_give():
    """Units that end at frames 2, 2, 5 and 6 of 8; the last lasts to the end of the audio."""
    lasting, known = durations(jnp.array([[2, 2, 5, 6, 0], [0] * 5]), jnp.array([4, 3]), jnp.array([8, 6]))
    assert np.asarray(lasting).tolist() == [[2, 0, 3, 3, 0], [0] * 5]
    assert np.asarray(known).tolist() == [True, False]
    same = position_by_durations(lasting[:1], lasting[:1], 8)
    assert np.asarray(same)[0].tolist() == list(range(8))
    once = position_by_durations(lasting[:1], jnp.array([[1, 1, 1, 1, 0]]), 8)
    assert np.asarray(once)[0].tolist() == [0, 0, 2, 2, 2, 3, 3, 3]
    twice = position_by_durations(lasting[:1], jnp.array([[2, 2, 2, 2, 0]]), 8)
    assert np.asarray(twice)[0].tolist() == [0, 1, 4, 4, 5, 6, 6, 7]


def test_audio_shorter_than_its_stated_times():
    lasting, _ = durations(jnp.array([[4, 9]]), jnp.array([2]), jnp.array([3]))
    assert np.asarray(lasting).tolist() == [[3, 0]]


@pytest.mark.parametrize(("share", "span"), [(0.15, 5), (0.3, 1), (0.5, 10)])
def test_spans_mask_the_share_asked_for(share, span):
    mask = np.arange(60) < np.array([60, 40] * 2_000)[:, None]
    masked = np.asarray(draw_spans(jax.random.key(0), jnp.array(mask), share, span))
    assert not (masked & ~mask).any()
    by_frame = masked[::2].mean(axis=0)
    np.testing.assert_allclose(by_frame, share, atol=0.05)
    assert abs(masked[mask].mean() - share) < 0.01
    # Away from the ends, no run of masked frames is shorter than a span.
    for row in masked[:100:2]:
        edges = np.flatnonzero(np.diff(row.astype(int)))
        assert all(b - a >= span for a, b in zip(edges, edges[1:]) if row[a + 1])


def test_substitutes_are_drawn_from_all_units_and_blank():
    units = jnp.full((400, 50), 3)
    drawn = np.asarray(draw_substitutes(jax.random.key(0), units, 0.2, 6))
    counts = np.bincount(drawn.ravel(), minlength=6) / drawn.size
    sixth = 0.2 / 6
    np.testing.assert_allclose(counts, [2 * sixth, 0, sixth, 0.8 + sixth, sixth, sixth], atol=0.01)


@pytest.mark.parametrize("within", [False, True])
def test_units_are_inserted_as_often_as_asked_for(within):
    """Counted as a recogniser's are: repeats count once, and blanks not at all."""
    rows, units = 2_000, 20
    counts = np.random.default_rng(0).integers(1, 4, (rows, units))
    unit, mask = unit_of_frame(jnp.array(counts), int(counts.sum(axis=1).max()))
    taken = draw_insertions(jax.random.key(0), unit, mask, 0.05, within=within)
    extra = 0
    for row, inserted, valid in zip(np.asarray(unit), np.asarray(taken), np.asarray(mask)):
        first = np.r_[True, row[1:] != row[:-1]]
        blank = within & ~first
        read = np.where(inserted, -1, np.where(blank, -2, row))[valid]
        collapsed = read[np.r_[True, read[1:] != read[:-1]]]
        said = collapsed[collapsed != -2]
        assert [n for n in said if n >= 0] == list(range(units)), "no unit is lost or read twice"
        extra += len(said) - units
    assert extra / (rows * units) == pytest.approx(0.05, rel=0.06)


def test_missed_units_prolong_what_is_heard_next_to_them():
    units = jnp.array([[3, 4, 5, 6, 7, 0], [3, 4, 5, 0, 0, 0], [8, 0, 0, 0, 0, 0], [2, 3, 4, 5, 6, 7]])
    heard = jnp.array([[3, 0, 0, 9, 0, 0], [0, 0, 5, 0, 0, 0], [0, 0, 0, 0, 0, 0], [2, 3, 4, 5, 6, 7]])
    expected = [[3, 3, 3, 9, 9, 0], [5, 5, 5, 0, 0, 0], [0, 0, 0, 0, 0, 0], [2, 3, 4, 5, 6, 7]]
    assert cover_missed(heard, units).tolist() == expected
