"""Measures of embeddings made by hand, and against NumPy in float64 over all alignments."""

import itertools

import jax
import numpy as np
import pytest

from joint_st.analysis.measure import cost_matrix, measure

measured = jax.jit(measure, static_argnames=("best", "cost"))

LAYERS, ROWS, FRAMES, TEXT_FRAMES, WIDTH = 2, 3, 6, 4, 5
AUDIO_LENGTHS, TEXT_LENGTHS, WRONG_LENGTHS = np.array([6, 4, 5]), np.array([4, 3, 2]), np.array([3, 4, 4])


def distance(a, t, cost):
    if cost == "cosine":
        return 1 - a @ t / np.linalg.norm(a) / np.linalg.norm(t)
    if cost == "normalized_l2":
        a, t = ((x - x.mean()) / np.sqrt(x.var() + 1e-6) for x in (a, t))
    return np.sum((a - t) ** 2)


def alignments(best, frames, positions):
    """Yield all monotonic maps of frames to positions, from the first to the last; `step` moves by one at most."""
    for path in itertools.combinations_with_replacement(range(positions), frames):
        steps = np.diff(path)
        if path[0] == 0 and path[-1] == positions - 1 and not (best == "step" and steps.max(initial=0) > 1):
            yield path


def along(audio, text, path, cost):
    return np.mean([distance(a, text[p], cost) for a, p in zip(audio, path)])


@pytest.fixture(scope="module")
def sides():
    """Audio, text and wrong text [L, B, ., D] with NaN behind their ends, and a random alignment [B, T]."""
    generator = np.random.default_rng(0)
    shapes = ((FRAMES, AUDIO_LENGTHS), (TEXT_FRAMES, TEXT_LENGTHS), (TEXT_FRAMES, WRONG_LENGTHS))
    made = []
    for frames, lengths in shapes:
        x = generator.normal(size=(LAYERS, ROWS, frames, WIDTH)).astype(np.float32)
        for row, length in enumerate(lengths):
            x[:, row, length:] = np.nan
        made.append(x)
    random = np.array([[0, 0, 2, 2, 3, 3], [0, 1, 1, 2, 0, 0], [0, 0, 0, 1, 1, 1]], np.int32)
    return (*made, random)


@pytest.mark.parametrize("best, cost", [("skip", "squared_l2"), ("step", "cosine"), ("skip", "normalized_l2")])
def test_measures_are_those_of_all_alignments_tried(sides, best, cost):
    lengths = AUDIO_LENGTHS, TEXT_LENGTHS, WRONG_LENGTHS
    found = measured(*sides[:3], *lengths, sides[3], best=best, cost=cost)
    for layer, row in np.ndindex(LAYERS, ROWS):
        lengths = AUDIO_LENGTHS[row], TEXT_LENGTHS[row], WRONG_LENGTHS[row]
        audio, text, wrong = (x[layer, row, :n].astype(np.float64) for x, n in zip(sides, lengths))
        straight = np.floor(np.arange(lengths[0]) * (lengths[1] - 1) / (lengths[0] - 1) + 0.5).astype(int)
        paths = list(alignments(best, lengths[0], lengths[1]))
        cheapest = min(paths, key=lambda path: along(audio, text, path, cost))
        expected = [
            along(audio, text, cheapest, cost),
            along(audio, text, straight, cost),
            along(audio, text, sides[3][row], cost),
            min(along(audio, wrong, path, cost) for path in alignments(best, lengths[0], lengths[2])),
        ]
        assert found.distances[layer, row] == pytest.approx(expected, rel=1e-5)
        assert found.positions[layer, row, 0, : lengths[0]].tolist() == list(cheapest)
        assert found.matched[layer, row] == pytest.approx(len(set(cheapest)) / lengths[1])
        norms = [np.mean(np.linalg.norm(x, axis=-1)) for x in (audio, text)]
        assert found.norms[layer, row] == pytest.approx(norms, rel=1e-5)
        assert found.pooled[layer, row] == pytest.approx(np.stack([audio.mean(0), text.mean(0)]), abs=1e-5)
        # What is compared has a squared norm of 1/2 under cosine, of the width under layer normalisation.
        squares = {"squared_l2": [np.mean(np.sum(x**2, -1)) for x in (audio, text)], "cosine": [0.5, 0.5]}
        assert found.square_norms[layer, row] == pytest.approx(squares.get(cost, [WIDTH, WIDTH]), rel=1e-4)
        if cost == "squared_l2":
            assert np.array_equal(found.centres[layer, row], found.pooled[layer, row])
        if cost == "cosine":
            units = [np.mean(x / np.linalg.norm(x, axis=-1, keepdims=True), axis=0) for x in (audio, text)]
            assert found.centres[layer, row] == pytest.approx(np.sqrt(0.5) * np.stack(units), abs=1e-5)
    assert found.feasible.all()


def test_text_that_is_the_audio_repeated_has_no_distance():
    text = np.random.default_rng(1).normal(size=(1, 1, TEXT_FRAMES, WIDTH)).astype(np.float32)
    repeated = np.array([[0, 0, 1, 2, 2, 2, 3]], np.int32)
    audio, wrong = text[:, :, repeated[0]], -text
    lengths = np.array([7]), np.array([TEXT_FRAMES]), np.array([TEXT_FRAMES])
    found = measured(audio, text, wrong, *lengths, repeated, best="skip", cost="squared_l2")
    assert found.distances[0, 0, [0, 2]] == pytest.approx([0, 0], abs=1e-12)
    assert found.distances[0, 0, 3] > 1
    assert found.positions[0, 0, 0].tolist() == repeated[0].tolist()
    assert found.matched[0, 0] == 1


def test_what_cannot_be_aligned_is_not_feasible(sides):
    audio, text, wrong, random = sides
    lengths = np.array([2, 4, 0]), TEXT_LENGTHS, np.array([2, 0, 2])
    found = measured(audio, text, wrong, *lengths, random, best="step", cost="cosine")
    expected = [[False, True, True, True], [True, True, True, False], [False] * 4]
    assert found.feasible.tolist() == [expected] * LAYERS


@pytest.mark.parametrize("cost", ["squared_l2", "cosine", "normalized_l2"])
def test_the_matrix_for_figures_holds_every_distance(cost):
    generator = np.random.default_rng(2)
    audio, text = generator.normal(size=(2, 3, WIDTH)), generator.normal(size=(2, 4, WIDTH))
    found = cost_matrix(audio.astype(np.float32), text.astype(np.float32), cost)
    for row, i, j in np.ndindex(2, 3, 4):
        assert found[row, i, j] == pytest.approx(distance(audio[row, i], text[row, j], cost), rel=1e-4)
