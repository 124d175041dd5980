"""Every dynamic program on inputs that hypothesis generates, against its slow reference: ties, certain and impossible
symbols, equal embeddings, lengths of 0, texts that do not fit.

One shape for each program, so that each is compiled once.
"""

from __future__ import annotations

import itertools

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from joint_st.ops.ctc import ctc_loss, frames_needed
from joint_st.ops.forced_alignment import forced_alignment
from joint_st.ops.prefix_beam import prefix_beam_search
from tests.ops.matching_reference import (
    distances,
    dtw_distance,
    loss_and_gradient,
    monotonic_maps,
    skip_distance,
    step_distance,
    warping_paths,
)
from tests.ops.prefix_beam_reference import every_alignment

BATCH, FRAMES, SYMBOLS, LABELS, POSITIONS, WIDTH = 4, 5, 3, 3, 4, 2
PATHS = np.array(list(itertools.product(range(SYMBOLS), repeat=FRAMES)))

LOGITS = st.sampled_from([0.0, 0.0, 1.0, -1.0, 3.0, 0.1, 40.0, -40.0, 200.0, -200.0])
"""Equal ones, that all paths tie, and such that a symbol is certain or out of the question."""

quick = settings(max_examples=20, deadline=None)


@st.composite
def utterances(draw):
    """Logits [B, T, V], frames [B], labels [B, L] and their numbers [B]; symbol 0 is the blank."""
    logits = draw(arrays(np.float32, (BATCH, FRAMES, SYMBOLS), elements=LOGITS))
    frames = draw(arrays(np.int32, BATCH, elements=st.integers(0, FRAMES)))
    labels = draw(arrays(np.int32, (BATCH, LABELS), elements=st.integers(1, SYMBOLS - 1)))
    counts = draw(arrays(np.int32, BATCH, elements=st.integers(0, LABELS)))
    return logits, frames, labels, counts


def spelling(frames: int, text: tuple[int, ...]) -> np.ndarray:
    """Return the paths [N, frames] that spell a text."""
    paths = np.unique(PATHS[:, :frames], axis=0)
    spelled = [tuple(s for s, _ in itertools.groupby(path) if s) for path in paths.tolist()]
    return paths[[one == text for one in spelled]]


def each(batch):
    """Log probabilities [T, V], text and the paths that spell it, of each utterance."""
    logits, frames, labels, counts = batch
    for b in range(BATCH):
        text = tuple(labels[b, : counts[b]].tolist())
        log_probs = np.asarray(logits[b, : frames[b]], np.float64)
        log_probs = log_probs - np.logaddexp.reduce(log_probs, axis=-1, keepdims=True)
        paths = spelling(frames[b], text) if frames[b] and text else np.zeros((0, frames[b]), int)
        yield b, log_probs, text, log_probs[np.arange(frames[b]), paths].sum(axis=1), paths


loss_of = jax.jit(ctc_loss)
align = jax.jit(forced_alignment)


@quick
@given(utterances())
def test_ctc_is_the_sum_over_all_paths(batch):
    losses, feasible = loss_of(*batch)
    for b, _, text, scores, _ in each(batch):
        if text:
            assert (frames_needed(batch[2], batch[3])[b] <= batch[1][b]) == (len(scores) > 0)
        assert feasible[b] == (len(scores) > 0)
        expected = -np.logaddexp.reduce(scores) if len(scores) else 0.0
        np.testing.assert_allclose(losses[b], expected, rtol=1e-5, atol=1e-4)
        assert losses[b] >= 0


@quick
@given(utterances())
def test_a_forced_alignment_is_a_path_of_the_largest_sum(batch):
    found = align(*batch)
    for b, log_probs, text, scores, _ in each(batch):
        assert found.feasible[b] == (len(scores) > 0)
        path = np.asarray(found.label)[b]
        if not len(scores):
            assert (path == -1).all() and found.log_prob[b] == 0
            continue
        frames = len(log_probs)
        np.testing.assert_allclose(found.log_prob[b], scores.max(), rtol=1e-5, atol=1e-4)
        # Where paths tie any is right, but it spells the text.
        symbols = [0 if n < 0 else text[n] for n in path[:frames]]
        assert sorted(set(path[:frames].tolist()) - {-1}) == list(range(len(text))) and (path[frames:] == -1).all()
        taken = log_probs[np.arange(frames), symbols].sum()
        np.testing.assert_allclose(taken, scores.max(), rtol=1e-5, atol=1e-4)


@quick
@given(utterances())
def test_a_beam_that_holds_all_prefixes_has_the_sum_of_each(batch):
    logits, frames, _, _ = batch
    found = prefix_beam_search(logits, frames, beam=64, candidates=SYMBOLS)
    for b in range(BATCH):
        labels, lengths, scores = (np.asarray(part[b]) for part in found)
        there = {tuple(labels[i, : lengths[i]].tolist()): scores[i] for i in range(len(scores)) if scores[i] > -np.inf}
        expected = every_alignment(logits[b, : frames[b]])
        assert np.all(np.diff(scores[np.isfinite(scores)]) <= 1e-4), "the likeliest first"
        # What float32 rounds to nothing may be left out.
        for prefix, score in expected.items():
            if score > -80 or prefix in there:
                np.testing.assert_allclose(there[prefix], score, rtol=1e-4, atol=1e-3)


@st.composite
def pairs(draw):
    """Embeddings [B, T, D] and [B, R, D] on a coarse grid, where many are equal, and their lengths from 1 on."""
    grid = st.sampled_from([0.0, 0.0, 1.0, -1.0, 2.0, 0.5])
    audio = draw(arrays(np.float32, (BATCH, FRAMES, WIDTH), elements=grid))
    text = draw(arrays(np.float32, (BATCH, POSITIONS, WIDTH), elements=grid))
    lengths = [draw(arrays(np.int32, BATCH, elements=st.integers(1, most))) for most in (FRAMES, POSITIONS)]
    return audio, text, *lengths


@quick
@given(pairs())
def test_hard_alignments_have_the_least_sum_and_a_path_of_it(batch):
    references = {"skip": skip_distance, "step": step_distance, "dtw": dtw_distance}
    found = {name: loss_and_gradient(*batch, alignment=name) for name in references}
    for b, (audio, text, frames, positions) in enumerate(zip(*batch)):
        costs = distances(audio[:frames], text[:positions])
        for name, reference in references.items():
            loss, gradient = found[name]
            assert np.isfinite(gradient[0]).all() and np.isfinite(gradient[1]).all()
            if name == "step" and frames < positions:
                assert (loss.value[b], loss.frames[b]) == (0, 0)
                continue
            least = reference(costs)
            np.testing.assert_allclose(loss.value[b], least / frames, rtol=1e-5, atol=1e-6)
            position = np.asarray(loss.position[b, :frames])
            assert (np.diff(position) >= 0).all() and position.min() >= 0 and position.max() < positions
            if name != "dtw":
                np.testing.assert_allclose(costs[np.arange(frames), position].sum(), least, rtol=1e-5, atol=1e-5)
            else:
                best = [
                    path for path in warping_paths(frames, positions) if np.isclose(sum(costs[c] for c in path), least)
                ]
                assert any(all(any(c[0] == i for c in path) for i in range(frames)) for path in best)


@quick
@given(pairs())
def test_soft_alignment_is_the_mean_over_all_maps(batch):
    loss, gradient = loss_and_gradient(*batch, alignment="soft", temperature=1.0)
    assert np.isfinite(gradient[0]).all() and np.isfinite(gradient[1]).all()
    for b, (audio, text, frames, positions) in enumerate(zip(*batch)):
        costs = distances(audio[:frames], text[:positions])
        sums = np.array([costs[np.arange(frames), list(m)].sum() for m in monotonic_maps(frames, positions)])
        weights = np.exp(sums.min() - sums)
        np.testing.assert_allclose(loss.value[b], weights @ sums / weights.sum() / frames, rtol=1e-4, atol=1e-5)
