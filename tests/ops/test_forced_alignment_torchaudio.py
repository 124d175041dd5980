"""Forced alignment against torchaudio's `forced_align`, on the same emissions."""

import warnings

import jax
import numpy as np
import pytest

from joint_st.ops.forced_alignment import forced_alignment

# The tests' environment has none: its wheels need PyTorch's with CUDA, some GB.
torch = pytest.importorskip("torch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    functional = pytest.importorskip("torchaudio", exc_type=(ImportError, OSError)).functional


@pytest.mark.parametrize("scale", [0.5, 2.0, 8.0])
def test_paths_spans_and_scores_are_those_of_torchaudio(scale):
    """Ragged batches of random emissions, of which some have hardly a frame too many; no two paths tie."""
    rng = np.random.default_rng(int(10 * scale))
    batch, frames, most, vocabulary = 32, 90, 30, 6
    labels = rng.integers(1, vocabulary, (batch, most)).astype(np.int32)
    label_lengths = rng.integers(1, most + 1, batch).astype(np.int32)
    repeats = [int((row[1:n] == row[: n - 1]).sum()) for row, n in zip(labels, label_lengths)]
    lengths = np.minimum(label_lengths + repeats + rng.integers(0, 50, batch), frames).astype(np.int32)
    logits = rng.normal(0, scale, (batch, frames, vocabulary)).astype(np.float32)
    log_probs = np.asarray(jax.nn.log_softmax(logits))
    ours = jax.device_get(jax.jit(forced_alignment)(logits, lengths, labels, label_lengths))
    assert ours.feasible.all()
    for b, (length, count) in enumerate(zip(lengths, label_lengths)):
        path, scores = functional.forced_align(
            torch.from_numpy(log_probs[b : b + 1, :length].copy()), torch.from_numpy(labels[b : b + 1, :count].copy())
        )
        symbols = np.where(ours.label[b, :length] >= 0, labels[b, np.maximum(ours.label[b, :length], 0)], 0)
        assert symbols.tolist() == path[0].tolist()
        np.testing.assert_allclose(ours.log_prob[b], scores.sum().item(), rtol=1e-5)
        spans = functional.merge_tokens(path[0], scores[0].exp())
        assert [span.token for span in spans] == labels[b, :count].tolist()
        assert [span.start for span in spans] == ours.starts[b, :count].tolist()
        assert [span.end for span in spans] == ours.ends[b, :count].tolist()
        np.testing.assert_allclose(ours.scores[b, :count], [span.score for span in spans], rtol=1e-4, atol=1e-7)
