"""Attention and its gradient, compared with JAX's own, and with sums in float64."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from joint_st.ops.attention import _attend_on_cpu, attend
from joint_st.ops.fused_attention import TILE, attend_fused, block_sizes, splash
from joint_st.ops.masks import length_mask

SHAPE = 2, 5, 3, 4
"""Utterances, queries, heads, width of a head."""
KEYS = 7


def example(dtype=jnp.float32, queries_share_keys=False):
    rng = np.random.default_rng(0)
    batch, queries, heads, width = SHAPE
    q, g = (jnp.asarray(rng.normal(size=SHAPE), dtype) for _ in range(2))
    k, v = (jnp.asarray(rng.normal(size=(batch, KEYS, heads, width)), dtype) for _ in range(2))
    allowed = rng.random((batch, 1 if queries_share_keys else queries, KEYS)) < 0.6
    allowed[..., 0] = True
    return (q, k, v), jnp.asarray(allowed), g


def jaxs_own(q, k, v, allowed):
    return jax.nn.dot_product_attention(q, k, v, mask=allowed[:, None])


def results(form, arrays, allowed, g):
    y, pull = jax.vjp(lambda *arrays: form(*arrays, allowed), *arrays)
    return [np.asarray(x, np.float32) for x in (y, *pull(g))]


@pytest.mark.parametrize("shared", [False, True])
def test_values_and_gradients_equal_jaxs_own(shared):
    arrays, allowed, g = example(queries_share_keys=shared)
    for ours, other in zip(results(attend, arrays, allowed, g), results(jaxs_own, arrays, allowed, g)):
        np.testing.assert_allclose(ours, other, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("frames, groups", [(100, None), (250, 3), (400, 6)])
def test_rows_whose_scores_a_cache_does_not_hold_are_taken_one_after_the_other(frames, groups):
    rng = np.random.default_rng(0)
    *arrays, g = (jnp.asarray(rng.normal(size=(6, frames, 4, 4)), jnp.float32) for _ in range(4))
    allowed = jnp.asarray(rng.random((6, 1, frames)) < 0.8)
    for ours, other in zip(results(attend, arrays, allowed, g), results(jaxs_own, arrays, allowed, g)):
        np.testing.assert_allclose(ours, other, rtol=1e-4, atol=1e-5)
    text = str(jax.make_jaxpr(_attend_on_cpu)(*arrays, allowed))
    assert (f"length={groups}" in text) if groups else ("scan" not in text)


def test_values_equal_sums_in_float64():
    (q, k, v), allowed, _ = example()
    expected = np.zeros(SHAPE)
    for b, c, h in np.ndindex(*SHAPE[:3]):
        seen = np.flatnonzero(allowed[b, c])
        scores = np.array([np.dot(np.float64(q[b, c, h]), np.float64(k[b, s, h])) for s in seen]) / np.sqrt(SHAPE[3])
        weights = np.exp(scores) / np.exp(scores).sum()
        expected[b, c, h] = weights @ np.float64(v[b, seen, h])
    np.testing.assert_allclose(attend(q, k, v, allowed), expected, rtol=1e-5, atol=1e-6)


def test_bfloat16_stays_near_float32():
    exact = results(attend, *example())
    for found, other in zip(results(attend, *example(jnp.bfloat16)), exact):
        np.testing.assert_allclose(found, other, atol=0.05 * np.abs(other).max())


def test_a_query_that_sees_nothing_gets_the_mean_and_gives_no_gradient_to_queries_and_keys():
    arrays, allowed, g = example()
    y, of_q, of_k, of_v = results(attend, arrays, jnp.zeros_like(allowed), g)
    np.testing.assert_allclose(y, np.broadcast_to(arrays[2].mean(axis=1, keepdims=True), SHAPE), rtol=1e-5, atol=1e-6)
    assert not of_q.any() and not of_k.any()
    assert np.isfinite(of_v).all()


def test_large_scores_stay_finite():
    (q, k, v), allowed, g = example()
    assert all(np.isfinite(x).all() for x in results(attend, (1e4 * q, 1e4 * k, v), allowed, g))


def fused_and_plain(form, dtype, lengths, frames, heads, width):
    """Return the values and gradients of a fused form, and of `attend`, in the frames of sequences of such lengths."""
    rng = np.random.default_rng(0)
    shape = len(lengths), frames, heads, width
    arrays = tuple(jnp.asarray(rng.normal(size=shape), dtype) for _ in range(3))
    mask = length_mask(jnp.array(lengths), frames)
    g = jnp.where(mask[..., None, None], jnp.asarray(rng.normal(size=shape), dtype), 0)
    found = results(form, arrays, mask, g), results(attend, arrays, mask[:, None], g)
    return [(a[mask], b[mask]) for a, b in zip(*found)]


def test_the_call_that_is_fused_on_gpus_gives_the_same_values_and_gradients():
    for fused, plain in fused_and_plain(attend_fused, jnp.float32, (5, 3), 5, 3, 4):
        np.testing.assert_allclose(fused, plain, rtol=1e-5, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("dtype, tolerance", [(jnp.float32, 1e-5), (jnp.bfloat16, 0.03)])
def test_the_kernel_of_tpus_gives_the_same_values_and_gradients(dtype, tolerance):
    kernel = functools.partial(splash, interpret=True)
    for fused, plain in fused_and_plain(kernel, dtype, (150, 128, 1), 150, 2, 8):
        np.testing.assert_allclose(fused, plain, atol=tolerance * np.abs(plain).max())


def test_a_sequence_of_no_frames_stays_finite_where_attention_is_fused():
    arrays = tuple(jnp.ones(SHAPE) for _ in range(3))
    assert all(np.isfinite(x).all() for x in results(attend_fused, arrays, jnp.zeros(SHAPE[:2], bool), jnp.ones(SHAPE)))


def test_blocks_divide_every_length():
    for frames in range(TILE, 20 * TILE, TILE):
        sizes = block_sizes(frames)
        assert frames % sizes.block_q == frames % sizes.block_kv == sizes.block_kv % sizes.block_kv_compute == 0
