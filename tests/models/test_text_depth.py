"""Text that enters above the bottom of the shared layers passes through the layers above, one by one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from joint_st.config import ModelConfig
from joint_st.data.symbols import SymbolSizes
from joint_st.heads.model import JointModel

STREAMING, FULL_CONTEXT = 2, 2


def make(depth: int) -> JointModel:
    config = ModelConfig(
        width=8,
        heads=2,
        feed_forward=2,
        kernel=3,
        left_context=4,
        audio_layers=0,
        streaming_layers=STREAMING,
        full_context_layers=FULL_CONTEXT,
        text_depth=depth,
        unroll=2,
    )
    return JointModel(config, SymbolSizes(6, 9), rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def embeddings():
    x = jnp.array(np.random.default_rng(0).normal(size=(2, 5, 8)), jnp.float32)
    mask = jnp.arange(5) < jnp.array([[5], [3]])
    return jnp.where(mask[..., None], x, 0), mask


@pytest.fixture(scope="module")
def one_by_one(embeddings):
    """Return a function of a depth: `embeddings`, and what each single layer above it makes of what comes before."""
    model, (x, mask) = make(0), embeddings
    layers = [
        jax.tree.map(lambda weight, k=k: weight[k], stack.layers)
        for stack in (model.streaming, model.full_context)
        for k in range(stack.count)
    ]
    apply = [jax.jit(lambda layer, x: layer(x, mask))] * len(layers)

    def outputs(depth):
        found = [x]
        for run, layer in zip(apply[depth:], layers[depth:]):
            found.append(run(layer, found[-1]))
        return np.stack(found)

    return outputs


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_text_skips_the_layers_below_its_depth(depth, embeddings, one_by_one):
    x, mask = embeddings
    found = jax.jit(lambda model, x, mask: model.shared_of_text(x, mask))(make(depth), x, mask)
    expected, valid = one_by_one(depth), np.asarray(mask)
    assert found.layers.shape == (1 + STREAMING + FULL_CONTEXT - depth, 2, 5, 8)
    np.testing.assert_allclose(np.asarray(found.layers)[:, valid], expected[:, valid], atol=1e-5)
    np.testing.assert_allclose(np.asarray(found.full_context)[valid], expected[-1][valid], atol=1e-5)
    if depth > STREAMING:
        assert found.streaming is None
    else:
        np.testing.assert_allclose(np.asarray(found.streaming)[valid], expected[STREAMING - depth][valid], atol=1e-5)


def test_speech_passes_through_all_layers_whatever_the_depth(embeddings):
    x, mask = embeddings
    run = jax.jit(lambda model, x, mask: model.shared(x, mask))
    for one, other in zip(run(make(0), x, mask), run(make(2), x, mask)):
        if one is not None:
            np.testing.assert_array_equal(one, other)
