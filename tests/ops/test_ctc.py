"""CTC against enumeration of all paths, PyTorch, Optax and finite differences."""

import itertools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from joint_st.ops.ctc import ctc_loss, frames_needed


@jax.jit
def losses_and_gradient(logits, *rest):
    """Losses [B], feasible [B], and the gradient [B, T, V] of the losses' sum."""

    def total(logits):
        losses, feasible = ctc_loss(logits, *rest)
        return losses.sum(), (losses, feasible)

    gradient, (losses, feasible) = jax.grad(total, has_aux=True)(logits)
    return losses, feasible, gradient


def random_batch(seed, batch, frames, vocabulary, labels, scale=2.0):
    """Return a feasible batch with many repeats among few labels, of ragged lengths."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, scale, (batch, frames, vocabulary)).astype(np.float32)
    ids = rng.integers(1, vocabulary, (batch, labels)).astype(np.int32)
    ids = np.where(rng.random(ids.shape) < 0.3, np.roll(ids, 1, 1), ids)
    id_lengths = rng.integers(1, labels + 1, batch).astype(np.int32)
    needed = np.asarray(frames_needed(ids, id_lengths))
    assert needed.max() <= frames
    logit_lengths = rng.integers(needed, frames + 1).astype(np.int32)
    logit_lengths[0], logit_lengths[-1] = frames, needed[-1]
    return logits, logit_lengths, ids, id_lengths


def collapsed(path, blank=0):
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != blank)


def enumerated(logits, frames, labels, blank=0):
    """-log of the summed probability of every path that collapses to the labels, in float64."""
    x = logits[:frames].astype(np.float64)
    probabilities = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    total = 0.0
    for path in itertools.product(range(x.shape[1]), repeat=frames):
        if collapsed(path, blank) == tuple(labels):
            total += np.prod(probabilities[np.arange(frames), list(path)])
    return -np.log(total) if total else np.inf


def by_torch(logits, logit_lengths, labels, label_lengths):
    """PyTorch's losses and gradient, in float64."""
    torch = pytest.importorskip("torch")
    x = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    losses = torch.nn.functional.ctc_loss(
        x.log_softmax(-1).transpose(0, 1),
        torch.tensor(labels),
        torch.tensor(logit_lengths),
        torch.tensor(label_lengths),
        reduction="none",
    )
    losses.sum().backward()
    return losses.detach().numpy(), x.grad.numpy()


def by_optax(logits, logit_lengths, labels, label_lengths):
    """Optax's losses and gradient, in float64: in float32 its own gradient is up to 1e-3 off."""
    with jax.enable_x64(True):
        pad_frames = np.arange(logits.shape[1]) >= logit_lengths[:, None]
        pad_labels = np.arange(labels.shape[1]) >= label_lengths[:, None]

        def total(x):
            losses = optax.ctc_loss(x, pad_frames.astype(np.float64), labels, pad_labels.astype(np.float64))
            return losses.sum(), losses

        gradient, losses = jax.grad(total, has_aux=True)(jnp.asarray(logits, jnp.float64))
        return np.asarray(losses), np.asarray(gradient)


def relative(ours, reference):
    """Norm of the difference over the norm of the reference."""
    return np.linalg.norm(ours - reference) / np.linalg.norm(reference)


@pytest.mark.parametrize("blank", [0, 2])
def test_equals_enumeration_of_all_paths(blank):
    rng = np.random.default_rng(0)
    symbols = [symbol for symbol in range(4) if symbol != blank]
    cases = [
        (frames, labels)
        for frames in range(1, 6)
        for count in (1, 2, 3)
        for labels in itertools.product(symbols[:2], repeat=count)
    ]
    logits = rng.normal(0, 1.5, (len(cases), 5, 4)).astype(np.float32)
    labels = np.zeros((len(cases), 3), np.int32)
    for row, (_, case) in enumerate(cases):
        labels[row, : len(case)] = case
    expected = np.array([enumerated(x, frames, case, blank) for x, (frames, case) in zip(logits, cases)])
    frames = np.array([case[0] for case in cases], np.int32)
    label_lengths = np.array([len(case[1]) for case in cases], np.int32)

    losses, feasible = jax.jit(ctc_loss, static_argnums=4)(logits, frames, labels, label_lengths, blank)

    possible = np.isfinite(expected)
    assert 0 < possible.sum() < len(cases)
    np.testing.assert_array_equal(feasible, possible)
    np.testing.assert_allclose(losses, np.where(possible, expected, 0), rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("reference", [by_torch, by_optax])
def test_equals_libraries(reference, seed):
    batch = random_batch(seed, batch=12, frames=60, vocabulary=9, labels=20)
    losses, feasible, gradient = losses_and_gradient(*batch)
    expected_losses, expected_gradient = reference(*batch)
    assert feasible.all()
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    for ours, theirs in zip(gradient, expected_gradient):
        assert relative(ours, theirs) < 1e-5
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-5)


def test_stays_exact_over_a_thousand_frames():
    """PyTorch's float32 gradient is 2e-2 off here in its worst value, Optax's 1e-2."""
    batch = random_batch(7, batch=4, frames=1000, vocabulary=256, labels=100, scale=8.0)
    losses, _, gradient = losses_and_gradient(*batch)
    expected_losses, expected_gradient = by_torch(*batch)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-6)
    assert relative(gradient, expected_gradient) < 3e-5
    np.testing.assert_allclose(gradient, expected_gradient, atol=3e-4)


def test_gradient_is_the_finite_difference():
    """Along random directions; the enumeration in float64 stands for the loss."""
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 1, (1, 5, 3)).astype(np.float32)
    labels = np.array([[1, 1, 2]], np.int32)
    _, feasible, gradient = losses_and_gradient(logits, np.array([5]), labels, np.array([3]))
    assert feasible.all()
    for _ in range(5):
        direction = rng.normal(0, 1, logits[0].shape)
        step = 1e-5 * direction
        up, down = (enumerated(logits[0].astype(np.float64) + s, 5, labels[0]) for s in (step, -step))
        assert np.sum(gradient[0] * direction) == pytest.approx((up - down) / 2e-5, rel=1e-5)


def test_gradient_is_scaled_by_its_cotangent():
    batch = random_batch(1, batch=3, frames=12, vocabulary=5, labels=4)
    weights = jnp.array([0.0, -2.0, 0.5])
    weighted = jax.jit(jax.grad(lambda x: (ctc_loss(x, *batch[1:])[0] * weights).sum()))(batch[0])
    plain = losses_and_gradient(*batch)[2]
    np.testing.assert_allclose(weighted, plain * weights[:, None, None], rtol=1e-6)


def test_frames_needed_counts_repeats_within_the_length():
    labels = np.array([[1, 2, 3, 3], [1, 1, 1, 1], [1, 1, 1, 1], [5, 5, 6, 6], [0, 0, 0, 0]])
    lengths = np.array([4, 4, 2, 3, 0])
    expected = np.array([5, 7, 3, 4, 0], np.int32)
    for on_host, array in ((True, np.asarray), (False, jnp.asarray)):
        needed = frames_needed(array(labels), array(lengths))
        assert isinstance(needed, np.ndarray) == on_host and needed.dtype == np.int32
        np.testing.assert_array_equal(needed, expected)
        assert frames_needed(array([1, 1, 2, 2, 2])) == 8 and frames_needed(array(labels[0, :0])) == 0


def test_infeasible_and_empty_utterances_have_no_loss_and_no_gradient():
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 3, (6, 4, 5)).astype(np.float32)
    logits[2] = np.nan
    labels = np.array([[1, 2, 3], [1, 1, 2], [1, 1, 1], [1, 2, 3], [1, 2, 3], [0, 0, 0]], np.int32)
    logit_lengths = np.array([4, 4, 4, 2, 0, 0], np.int32)
    label_lengths = np.array([3, 3, 3, 3, 3, 0], np.int32)
    losses, feasible, gradient = losses_and_gradient(logits, logit_lengths, labels, label_lengths)
    np.testing.assert_array_equal(feasible, [True, True, False, False, False, False])
    assert (np.asarray(losses[:2]) > 0).all() and np.abs(gradient[:2]).max(axis=(1, 2)).min() > 0
    np.testing.assert_array_equal(losses[2:], 0)
    np.testing.assert_array_equal(gradient[2:], 0)


def test_no_labels_are_not_feasible():
    losses, feasible, gradient = losses_and_gradient(
        np.ones((1, 4, 3), np.float32), np.array([4]), np.array([[1, 2]]), np.array([0])
    )
    assert losses[0] == 0 and not feasible[0] and not np.any(gradient)


def test_padding_changes_nothing():
    batch = logits, logit_lengths, labels, label_lengths = random_batch(2, batch=8, frames=30, vocabulary=7, labels=10)
    in_audio = np.arange(30) < logit_lengths[:, None]
    in_labels = np.arange(10) < label_lengths[:, None]
    clean = losses_and_gradient(*batch)
    for junk, junk_label in [(np.nan, -7), (np.inf, 10**6), (-1e38, 0), (1e38, 3)]:
        padded = (
            np.where(in_audio[..., None], logits, np.float32(junk)),
            logit_lengths,
            np.where(in_labels, labels, np.int32(junk_label)),
            label_lengths,
        )
        for ours, reference in zip(losses_and_gradient(*padded), clean):
            np.testing.assert_array_equal(ours, reference)
    np.testing.assert_array_equal(clean[2][~in_audio], 0)
    assert np.all(np.any(clean[2] != 0, axis=2) == in_audio)


def test_a_wider_padding_changes_nothing():
    logits, logit_lengths, labels, label_lengths = random_batch(4, batch=4, frames=20, vocabulary=6, labels=6)
    wide_logits, wide_labels = np.pad(logits, ((0, 0), (0, 9), (0, 0))), np.pad(labels, ((0, 0), (0, 5)))
    wide = wide_logits, logit_lengths, wide_labels, label_lengths
    losses, _, gradient = losses_and_gradient(logits, logit_lengths, labels, label_lengths)
    wide_losses, _, wide_gradient = losses_and_gradient(*wide)
    np.testing.assert_allclose(wide_losses, losses, rtol=1e-6)
    np.testing.assert_allclose(wide_gradient[:, :20], gradient, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_or_infinity_in_a_valid_frame_is_not_hidden(value):
    logits, *rest = random_batch(2, batch=3, frames=12, vocabulary=5, labels=4)
    logits[1, 2, 3] = value
    losses, feasible, gradient = losses_and_gradient(logits, *rest)
    np.testing.assert_array_equal(np.isnan(losses), [False, True, False])
    assert feasible.all() and np.isfinite(gradient[::2]).all()


def test_a_symbol_ruled_out_by_minus_infinity():
    logits, logit_lengths, labels, label_lengths = random_batch(6, batch=3, frames=12, vocabulary=5, labels=4)
    wider = np.concatenate([logits, np.full((3, 12, 1), -np.inf, np.float32)], axis=2)
    expected = losses_and_gradient(logits, logit_lengths, labels, label_lengths)
    losses, _, gradient = losses_and_gradient(wider, logit_lengths, labels, label_lengths)
    np.testing.assert_allclose(losses, expected[0], rtol=1e-6)
    np.testing.assert_allclose(gradient[..., :5], expected[2], atol=1e-6)
    np.testing.assert_array_equal(gradient[..., 5], 0)


@pytest.mark.parametrize("confidence", [20.0, 80.0, 1e4])
def test_certain_utterances_cost_nothing_and_never_less(confidence):
    labels = np.tile(np.arange(1, 9, dtype=np.int32), (2, 1))
    path = np.repeat(labels, 3, axis=1)
    path[:, 2::3] = 0
    logits = (confidence * np.eye(9)[path]).astype(np.float32)
    lengths = np.array([24, 24]), labels, np.array([8, 8])
    losses, _, gradient = losses_and_gradient(logits, *lengths)
    assert (0 <= np.asarray(losses)).all() and (np.asarray(losses) < 1e-6).all()
    assert np.abs(gradient).max() < 1e-6
    losses, _, gradient = losses_and_gradient(-logits, *lengths)
    assert np.isfinite(losses).all() and np.isfinite(gradient).all()


def test_bfloat16_is_computed_in_float32():
    logits, *rest = random_batch(8, batch=4, frames=40, vocabulary=8, labels=10)
    low = jnp.asarray(logits, jnp.bfloat16)
    losses, _, gradient = losses_and_gradient(low, *rest)
    expected_losses, _, expected_gradient = losses_and_gradient(low.astype(jnp.float32), *rest)
    assert losses.dtype == jnp.float32 and gradient.dtype == jnp.bfloat16
    np.testing.assert_array_equal(losses, expected_losses)
    np.testing.assert_array_equal(gradient, expected_gradient.astype(jnp.bfloat16))


@pytest.mark.parametrize("frames, labels", [(0, 3), (5, 0), (0, 0)])
def test_shapes_of_size_zero(frames, labels):
    losses, feasible, gradient = losses_and_gradient(
        np.ones((2, frames, 4), np.float32),
        np.full(2, frames),
        np.ones((2, labels), np.int32),
        np.full(2, labels),
    )
    assert not np.any(losses) and not np.any(feasible) and not np.any(gradient)
    assert gradient.shape == (2, frames, 4)


SHARDED = """
import jax, numpy as np, sys
from jax.sharding import AxisType, PartitionSpec
from joint_st.ops.ctc import ctc_loss
batch = [np.load(path) for path in sys.argv[1:5]]

def summed(loss):
    def total(*batch):
        losses, feasible = loss(*batch)
        return losses.sum(), losses
    return jax.jit(jax.grad(total, has_aux=True))

alone, alone_losses = summed(ctc_loss)(*batch)
for axis_type, check_vma in ((AxisType.Auto, True), (AxisType.Explicit, False)):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(axis_type,))
    spec = PartitionSpec("data")
    sharded = jax.shard_map(ctc_loss, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=check_vma)
    step = summed(sharded).lower(*jax.device_put(batch, jax.NamedSharding(mesh, spec))).compile()
    gradient, losses = step(*jax.device_put(batch, jax.NamedSharding(mesh, spec)))
    assert gradient.sharding.spec[0] == "data", gradient.sharding
    np.testing.assert_allclose(losses, alone_losses, rtol=1e-6)
    np.testing.assert_allclose(gradient, alone, atol=1e-6)
    program = step.as_text()
    for collective in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
        assert collective not in program, collective
print("the same on", jax.device_count())
"""


def test_sharded_over_four_devices_without_a_collective(tmp_path):
    paths = []
    for name, array in zip("abcd", random_batch(9, batch=8, frames=20, vocabulary=6, labels=6)):
        paths.append(tmp_path / f"{name}.npy")
        np.save(paths[-1], array)
    four_devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", SHARDED, *map(str, paths)]
    done = subprocess.run(command, env=os.environ | four_devices, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "the same on 4"
