"""Retrieval against sorting by hand and on embeddings whose ranks are known; word times implied by alignments."""

import numpy as np
import pytest

from joint_st.analysis.scores import absolute_boundary_errors, chance, ranks, retrieve, word_frames


def rank_by_sorting(queries, items, texts):
    """Sort the items from near to far, and find the first with the query's text."""
    found = []
    for query, text in zip(queries, texts):
        cosines = [query @ item / np.linalg.norm(query) / np.linalg.norm(item) for item in items]
        order = sorted(range(len(items)), key=lambda n: -cosines[n])
        found.append(1 + next(at for at, n in enumerate(order) if texts[n] == text))
    return found


def test_ranks_are_places_in_the_sorted_list():
    generator = np.random.default_rng(0)
    items = generator.normal(size=(30, 5))
    queries = items + generator.normal(size=items.shape)
    texts = [f"text {n % 23}" for n in range(30)]  # seven of them twice
    expected = rank_by_sorting(queries, items, texts)
    assert ranks(queries, items, texts).tolist() == expected
    assert 1 in expected and max(expected) > 10
    found = retrieve(queries, items, texts)
    for k in (1, 5, 10):
        assert found.recall[k] == pytest.approx(np.mean([rank <= k for rank in expected]))
    assert found.reciprocal_rank == pytest.approx(np.mean([1 / rank for rank in expected]))


def test_equal_embeddings_find_their_own_whatever_their_length():
    x = np.random.default_rng(1).normal(size=(12, 4))
    found = retrieve(x, 7.0 * x, [str(n) for n in range(12)])
    assert found.recall == {1: 1.0, 5: 1.0, 10: 1.0} and found.reciprocal_rank == 1.0


def test_embeddings_that_are_all_the_same_find_nothing():
    same = np.ones((12, 4))
    assert ranks(same, same, [str(n) for n in range(12)]).tolist() == [12] * 12
    # An equal text is as good as the own one: 2 of 12 have it, and 10 stand before them.
    assert ranks(same, same, ["once", "once", *map(str, range(10))])[:2].tolist() == [11, 11]


def test_embeddings_that_are_nan_retrieve_nothing():
    texts = list("abcd")
    good, bad = np.eye(4), np.full((4, 4), np.nan)
    assert ranks(bad, good, texts).tolist() == ranks(good, bad, texts).tolist() == [4] * 4
    assert retrieve(bad, bad, texts).recall[1] == 0
    # One item alone harms only its own query.
    bad = np.where(np.arange(4)[:, None] == 2, np.nan, good)
    assert ranks(good, bad, texts).tolist() == [1, 1, 4, 1]


def test_chance_is_the_recall_of_a_random_order():
    assert chance(list("abcd")) == 0.25
    texts = list("aaabbc")
    generator = np.random.default_rng(0)
    queries, items = generator.normal(size=(2, 2000, 6, 8))
    drawn = [np.mean(ranks(*pair, texts) == 1) for pair in zip(queries, items)]
    assert chance(texts) == pytest.approx(14 / 36) == pytest.approx(np.mean(drawn), abs=0.02)


#                 t  o     s   e   e     m   e
WORDS = np.array([0, 0, -1, 1, 1, 1, -1, 2, 2])


def test_a_word_lasts_from_its_first_frame_to_its_last():
    unit = [0, 0, 1, 2, 2, 3, 4, 5, 6, 7, 7, 8]
    assert word_frames(WORDS, unit).tolist() == [[0, 3], [5, 8], [9, 12]]


def test_a_word_without_frames_lies_where_it_is_passed_by():
    assert word_frames(WORDS, [0, 1, 2, 7, 8]).tolist() == [[0, 2], [3, 3], [3, 5]]
    assert word_frames(WORDS, [4, 4]).tolist() == [[0, 0], [0, 2], [2, 2]]


def test_boundaries_at_the_ends_of_the_text_belong_to_no_word():
    assert word_frames(np.array([-1, 0, 0, -1]), [0, 0, 1, 2, 3]).tolist() == [[2, 4]]


def test_without_boundaries_words_meet():
    assert word_frames(np.array([0, 0, 1]), [0, 1, 1, 2]).tolist() == [[0, 3], [3, 4]]


def test_a_text_of_boundaries_alone_has_no_words():
    assert word_frames(np.array([-1]), [0, 0]).shape == (0, 2)


def test_errors_are_in_seconds_between_the_anchored_ends():
    true = [[0.3, 0.12], [0.25, 0.3], [0.36, 0.6]]
    errors = absolute_boundary_errors(WORDS, [0, 0, 1, 2, 2, 3, 4, 5, 6, 7, 7, 8], true, 0.04)
    assert errors == pytest.approx([0, 0.05, 0.02, 0])
    assert absolute_boundary_errors(np.array([0, 0]), [0, 1], [[0.1, 0.2]], 0.04).size == 0


def test_words_at_the_end_without_units_end_with_the_audio():
    # `one two …`: espeak-ng has no phonemes for the last word.
    true = [[0.0, 0.08], [0.08, 0.2], [0.2, 0.24]]
    errors = absolute_boundary_errors(np.array([0, -1, 1]), [0, 0, 1, 2, 2, 2], true, 0.04)
    assert errors == pytest.approx([0, 0.04, 0.04, 0.04])
    # One word with units must not stand for both.
    assert absolute_boundary_errors(np.array([0, 0]), [0, 1], [[0.0, 0.04], [0.04, 0.12]], 0.04) == pytest.approx(
        [0.04, 0.04]
    )
