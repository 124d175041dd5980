"""Rounded products: what they and their gradients are of, and that a model's layers take them."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from joint_st.compile_check.compiled import matrix_flops
from joint_st.models.conformer import ConformerLayer
from joint_st.models.layer import Stack
from joint_st.ops.product import round_products, rounded_product


def rounded(x):
    return np.asarray(jnp.asarray(x, jnp.bfloat16), np.float64)


@pytest.mark.parametrize(
    ("of_x", "of_weights", "count", "written"),
    [
        ((2, 5, 6), (6, 7), 1, "btd,de->bte"),
        ((2, 5, 6), (6, 2, 4), 1, "btd,dhe->bthe"),
        ((2, 5, 3, 4), (3, 4, 6), 2, "bthe,hed->btd"),
    ],
)
def test_operands_are_rounded_and_sums_are_not(of_x, of_weights, count, written):
    random = np.random.default_rng(0)
    x, weights = (random.normal(size=shape).astype(np.float32) for shape in (of_x, of_weights))
    y, pull = jax.vjp(lambda x, weights: rounded_product(x, weights, count), x, weights)
    g = random.normal(size=y.shape).astype(np.float32)
    inputs, output = written.split("->")
    first, second = inputs.split(",")
    expected = [
        (y, np.einsum(written, rounded(x), rounded(weights))),
        (pull(g)[0], np.einsum(f"{output},{second}->{first}", rounded(g), rounded(weights))),
        (pull(g)[1], np.einsum(f"{first},{output}->{second}", rounded(x), rounded(g))),
    ]
    for ours, theirs in expected:
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    assert np.abs(y - np.einsum(written, x, weights)).max() > 1e-3, "rounding shows"


def test_a_layer_takes_rounded_products_and_stays_close():
    kinds = {"heads": 2, "feed_forward": 2, "kernel": 3, "left_context": 4, "dropout": 0.0, "dtype": jnp.float32}
    layers = [ConformerLayer(8, **kinds, rngs=nnx.Rngs(0)) for _ in range(2)]
    round_products(layers[1])
    x, mask = jax.random.normal(jax.random.key(0), (1, 6, 8)), jnp.ones((1, 6), bool)
    programs = [str(jax.make_jaxpr(lambda x, layer=layer: layer(x, mask))(x)) for layer in layers]
    # Four of the two feed-forward modules, four of attention, three of convolution, each of two operands.
    assert [program.count("new_dtype=bfloat16") for program in programs] == [0, 2 * 11]
    plain, other = (layer(x, mask) for layer in layers)
    np.testing.assert_allclose(other, plain, atol=0.05)


def test_rounded_products_are_kept_for_the_gradient_like_exact_ones():
    """A layer's gradient keeps its products with weights (`KEPT`), and does not take them again."""
    kinds = {"heads": 2, "feed_forward": 2, "kernel": 3, "left_context": 4, "dropout": 0.0, "dtype": jnp.float32}
    make = functools.partial(ConformerLayer, 8, **kinds)
    exact, rounded = (Stack(lambda rngs: make(rngs=rngs), 2, remat=False, rngs=nnx.Rngs(0)) for _ in range(2))
    round_products(rounded)
    x, mask = jax.random.normal(jax.random.key(0), (1, 6, 8)), jnp.ones((1, 6), bool)

    def flops(stack):
        graph, weights = nnx.split(stack)
        loss = jax.grad(lambda weights: nnx.merge(graph, weights)(x, mask).sum())
        return matrix_flops(jax.make_jaxpr(loss)(weights))

    assert flops(rounded) == flops(exact)
