"""Forced alignment against enumeration of all paths and against a slow Viterbi."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from joint_st.ops.forced_alignment import forced_alignment
from tests.ops.forced_alignment_reference import log_softmax, viterbi

align = jax.jit(forced_alignment, static_argnums=4)


def collapsed(path, blank=0):
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != blank)


def symbols(label, labels, blank=0):
    """Return the path of symbols that a path of label indices [T] stands for."""
    return [int(labels[n]) if n >= 0 else blank for n in label]


def check_spans(found, row, frames, log_probs, labels):
    """Starts, ends and scores of a row follow from its path."""
    path = np.asarray(found.label)[row]
    assert (path[frames:] == -1).all()
    for n, symbol in enumerate(labels):
        at = np.flatnonzero(path == n)
        assert (found.starts[row, n], found.ends[row, n]) == (at[0], at[-1] + 1)
        assert len(at) == at[-1] + 1 - at[0]
        np.testing.assert_allclose(found.scores[row, n], np.exp(log_probs[at, symbol]).mean(), rtol=1e-4, atol=1e-9)
        np.testing.assert_allclose(found.peaks[row, n], np.exp(log_probs[at, symbol]).max(), rtol=1e-4, atol=1e-9)
    for name in ("starts", "ends", "scores", "peaks"):
        assert (np.asarray(getattr(found, name))[row, len(labels) :] == 0).all()


def test_the_path_is_the_likeliest_of_all_that_spell_the_labels():
    """All utterances of 5 frames and 3 symbols with all labels are tried; those that no path spells are flagged."""
    frames, blank = 5, 2
    texts = [text for n in range(1, 5) for text in itertools.product((0, 1), repeat=n)]
    labels = np.zeros((len(texts), 4), np.int32)
    for row, text in zip(labels, texts):
        row[: len(text)] = text
    lengths = np.array([len(text) for text in texts])
    logits = np.random.default_rng(0).normal(0, 2, (len(texts), frames, 3)).astype(np.float32)
    found = align(logits, np.full(len(texts), frames), labels, lengths, blank)
    log_probs = log_softmax(logits)
    paths = np.array(list(itertools.product(range(3), repeat=frames)))
    spelled = [collapsed(path, blank) for path in paths.tolist()]
    flagged = 0
    for b, text in enumerate(texts):
        fitting = [path for path, spells in zip(paths, spelled) if spells == text]
        assert found.feasible[b] == bool(fitting)
        if not fitting:
            flagged += 1
            assert (np.asarray(found.label)[b] == -1).all() and found.log_prob[b] == 0
            assert not np.asarray(found.ends)[b].any() and not np.asarray(found.scores)[b].any()
            continue
        scores = [log_probs[b, np.arange(frames), path].sum() for path in fitting]
        best = int(np.argmax(scores))
        assert symbols(found.label[b], labels[b], blank) == fitting[best].tolist()
        np.testing.assert_allclose(found.log_prob[b], scores[best], rtol=1e-5)
        check_spans(found, b, frames, log_probs[b], text)
    assert flagged == 8, "four labels, of which two or more repeat the one before them, need 6 frames and more"


def test_it_is_a_slow_viterbi_on_ragged_batches_and_reads_no_padding():
    rng = np.random.default_rng(1)
    batch, frames, most, vocabulary = 12, 70, 20, 5
    labels = rng.integers(1, vocabulary, (batch, most)).astype(np.int32)
    lengths = rng.integers(1, most + 1, batch)
    audio = rng.integers(2 * lengths, frames + 1)
    logits = rng.normal(0, 2, (batch, frames, vocabulary)).astype(np.float32)
    logits[3] = 40 * rng.normal(0, 2, logits[3].shape)  # sure of itself
    logits[4, :, labels[4, 0]] = -np.inf  # its first label is ruled out
    logits[5, 1] = np.nan
    lengths[6], audio[7], audio[8] = 0, 0, lengths[8] - 1
    padded, ids = logits.copy(), labels.copy()
    for b in range(batch):
        padded[b, audio[b] :] = np.nan
        ids[b, lengths[b] :] = -7
    found = jax.device_get(align(jnp.asarray(padded), audio, ids, lengths, 0))
    infeasible = {4, 5, 6, 7, 8}
    assert set(np.flatnonzero(~found.feasible)) == infeasible
    for b in set(range(batch)) - infeasible:
        log_probs, own = log_softmax(logits[b, : audio[b]]), labels[b, : lengths[b]]
        path, score = viterbi(log_probs, own)
        assert found.label[b, : audio[b]].tolist() == path
        np.testing.assert_allclose(found.log_prob[b], score, rtol=1e-5)
        check_spans(found, b, audio[b], log_probs, own)
    for leaf in (found.label[list(infeasible)] + 1, *(x[list(infeasible)] for x in found[1:5])):
        assert not leaf.any()


def test_long_utterances_keep_their_precision():
    """Thousands of frames, of which all but one choice is a tie in float32 sums that are not shifted."""
    frames = 3000
    logits = np.full((1, frames, 3), -9.0, np.float32)
    logits[0, :, 0] = 0.0
    logits[0, 2500] = (-9.0, 1e-4, 0.0)
    logits[0, 2501] = (-9.0, 0.0, 1e-4)
    found = align(logits, np.array([frames]), np.array([[1, 2]], np.int32), np.array([2]), 0)
    assert np.flatnonzero(np.asarray(found.label)[0] == 0).tolist() == [2500]
    assert np.flatnonzero(np.asarray(found.label)[0] == 1).tolist() == [2501]


def test_a_batch_without_frames_or_without_labels_is_not_feasible():
    none = jnp.zeros(2, jnp.int32)
    for frames, labels in [(0, 3), (4, 0), (0, 0)]:
        lengths = jnp.full(2, frames), jnp.full(2, labels)
        found = align(jnp.zeros((2, frames, 5)), lengths[0], jnp.ones((2, labels), jnp.int32), lengths[1], 0)
        assert not found.feasible.any() and found.log_prob.tolist() == none.tolist()
        assert found.label.shape == (2, frames) and (found.label == -1).all()
        assert found.starts.shape == (2, labels) and not found.ends.any() and not found.scores.any()
