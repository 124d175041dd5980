"""The depthwise convolution and its gradient, compared with NumPy's sums in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from joint_st.ops.depthwise import BLOCK, depthwise, of_all_at_once, of_each


@pytest.mark.parametrize(
    "frames, taps", [(1, 1), (5, 3), (BLOCK, 1), (BLOCK + 1, 31), (3 * BLOCK - 1, 9), (2 * BLOCK, BLOCK + 1)]
)
def test_values_and_gradients_equal_sums_in_float64(frames, taps):
    rng = np.random.default_rng(frames)
    x, filters = rng.normal(size=(2, frames + taps - 1, 3)), rng.normal(size=(taps, 3))
    g = rng.normal(size=(2, frames, 3))
    windows = np.stack([x[:, k : k + frames] for k in range(taps)], axis=2)  # [B, T, K, D]
    of_x = np.zeros_like(x)
    for k in range(taps):
        of_x[:, k : k + frames] += g * filters[k]
    single = [jnp.asarray(array, jnp.float32) for array in (x, filters)]
    y, pull = jax.vjp(depthwise, *single)
    found_x, found_filters = pull(jnp.asarray(g, jnp.float32))
    close = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(y, np.einsum("btkd,kd->btd", windows, filters), **close)
    np.testing.assert_allclose(found_x, of_x, **close)
    expected = np.einsum("btkd,btd->kd", windows, g)
    np.testing.assert_allclose(found_filters, expected, **close)
    for form in (of_all_at_once, of_each):
        np.testing.assert_allclose(form(single[0], jnp.asarray(g, jnp.float32), taps), expected, **close)


def test_the_gradient_in_bfloat16_is_summed_in_float32():
    frames = 4_096
    x, filters = jnp.ones((1, frames + 2, 2), jnp.bfloat16), jnp.ones((3, 2), jnp.bfloat16)
    _, pull = jax.vjp(depthwise, x, filters)
    _, found = pull(jnp.ones((1, frames, 2), jnp.bfloat16))
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(found, np.float32), frames)  # adding in bfloat16 stops at 256


def test_values_in_bfloat16_are_sums_in_float32_that_are_rounded_once():
    x, filters = (jnp.abs(jax.random.normal(jax.random.key(n), size)) for n, size in enumerate([(2, 130, 4), (31, 4)]))
    x, filters = x.astype(jnp.bfloat16), filters.astype(jnp.bfloat16)
    found, exact = depthwise(x, filters), depthwise(x.astype(jnp.float32), filters.astype(jnp.float32))
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(found, np.float32), np.asarray(exact.astype(jnp.bfloat16), np.float32))
