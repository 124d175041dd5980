"""Operations of matrix products, counted by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, PartitionSpec

from joint_st.compile_check.flops import matrix_flops
from joint_st.config import ModelConfig
from joint_st.models.functional import model_structure, weight_shapes

A, B, C = 3, 5, 7
X, W = np.zeros((A, B), np.float32), np.zeros((B, C), np.float32)
ONE = 2 * A * B * C


def count(function, *arguments) -> int:
    return matrix_flops(jax.make_jaxpr(function)(*arguments))


def test_two_for_each_multiplication():
    assert count(jnp.matmul, X, W) == ONE
    assert count(lambda x, w: jnp.einsum("gab,gbc->gac", x, w), np.stack([X] * 4), np.stack([W] * 4)) == 4 * ONE


def test_the_gradient_takes_two_more():
    assert count(jax.grad(lambda w, x: jnp.sum(jnp.sin(x @ w)), (0, 1)), W, X) == 3 * ONE


def test_what_is_computed_again_counts_again():
    layer = jax.checkpoint(lambda w, x: jnp.sin(jnp.sin(x @ w) @ w.T))
    assert count(layer, W, X) == 2 * ONE
    assert count(jax.grad(lambda w, x: jnp.sum(layer(w, x)), (0, 1)), W, X) == 8 * ONE


def test_loops_count_as_often_as_they_run():
    weights = np.zeros((6, B, B), np.float32)

    def layers(x, weights):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]

    assert count(layers, X, weights) == 6 * 2 * A * B * B
    assert count(lambda x: jax.lax.fori_loop(0, 4, lambda i, x: x @ weights[0], x), X) == 4 * 2 * A * B * B


def test_of_branches_the_costliest():
    def choose(p, x, w):
        return jax.lax.cond(p, lambda: x @ w, lambda: jnp.zeros((A, C)))

    assert count(choose, True, X, W) == ONE


def test_devices_of_a_mapped_function_add_up():
    mesh = jax.sharding.AbstractMesh((4, 2), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    rows = PartitionSpec("data")

    @functools.partial(jax.shard_map, mesh=mesh, in_specs=(rows, None), out_specs=rows, check_vma=False)
    def mapped(x, w):
        return x @ w

    assert count(mapped, np.zeros((8, B), np.float32), W) == 2 * 2 * 8 * B * C  # both of `tensor` compute the same


@pytest.mark.parametrize("remat, times", [(False, 3), (True, 4)])
def test_a_layer_takes_what_its_weights_say(remat, times):
    """Forward two for each weight of a matrix and frame, and attention; backward twice that, and again with remat."""
    width, frames, rows = 16, 12, 2
    config = ModelConfig(
        width=width,
        heads=2,
        feed_forward=4,
        kernel=3,
        audio_layers=2,
        streaming_layers=1,
        full_context_layers=1,
        remat=remat,
        dropout=0.0,
    )
    structure, weights = model_structure(config, 8, 0), weight_shapes(config, 8, 0)
    x, mask = jnp.zeros((rows, frames, width)), jnp.ones((rows, frames), bool)

    def loss(weights, x):
        return jnp.sum(nnx.merge(structure, weights).audio(x, mask))

    per_frame = 16 * width**2 + 4 * width**2 + 3 * width**2
    forward = 2 * rows * frames * per_frame + 2 * 2 * rows * frames * frames * width
    found = count(jax.grad(loss, (0, 1)), weights, x)
    assert found == pytest.approx(config.audio_layers * times * forward, rel=0.1)
