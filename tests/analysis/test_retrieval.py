"""Retrieval against sorting by hand, and on embeddings whose ranks are known."""

import numpy as np
import pytest

from joint_st.analysis.retrieval import ranks, retrieve


def rank_by_sorting(queries, items, texts):
    """Sorts the items from near to far, and looks for the first with the query's text."""
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
