"""Every layer passes the contract."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from joint_st.models.attention import Attention, rotate
from joint_st.models.conformer import ConformerLayer, FeedForward
from joint_st.models.convolution import ConvolutionModule, DepthwiseConvolution
from joint_st.models.layer import Stack, dropout
from tests.models.contract import check_layer, example

WIDTH = 8
F32 = jnp.float32


def conformer(left_context, rngs):
    return ConformerLayer(
        WIDTH, heads=2, feed_forward=2, kernel=3, left_context=left_context, dropout=0.5, dtype=F32, rngs=rngs
    )


LAYERS = {
    "feed_forward": lambda rngs: FeedForward(WIDTH, 2, dtype=F32, rngs=rngs),
    "attention_short_past": lambda rngs: Attention(WIDTH, 2, 3, dtype=F32, rngs=rngs),
    "attention_long_past": lambda rngs: Attention(WIDTH, 2, 40, dtype=F32, rngs=rngs),
    "attention_full_context": lambda rngs: Attention(WIDTH, 2, None, dtype=F32, rngs=rngs),
    "convolution_causal": lambda rngs: ConvolutionModule(WIDTH, 5, causal=True, dtype=F32, rngs=rngs),
    "convolution_centred": lambda rngs: ConvolutionModule(WIDTH, 5, causal=False, dtype=F32, rngs=rngs),
    "convolution_one_frame": lambda rngs: ConvolutionModule(WIDTH, 1, causal=True, dtype=F32, rngs=rngs),
    "conformer_streaming": lambda rngs: conformer(4, rngs),
    "conformer_full_context": lambda rngs: conformer(None, rngs),
    "stack_streaming": lambda rngs: Stack(lambda r: conformer(4, r), 3, remat=False, rngs=rngs),
    "stack_full_context": lambda rngs: Stack(lambda r: conformer(None, r), 2, remat=True, rngs=rngs),
    "stack_empty": lambda rngs: Stack(lambda r: conformer(4, r), 0, remat=False, rngs=rngs),
}


@pytest.mark.parametrize("name", LAYERS)
def test_contract(name):
    check_layer(LAYERS[name](nnx.Rngs(0)), WIDTH)


def test_attention_equals_a_loop():
    layer = Attention(WIDTH, 2, 3, dtype=F32, rngs=nnx.Rngs(0))
    x, mask = example(WIDTH)
    y = np.asarray(layer(x, mask))
    row, frames = 1, 9
    positions = np.arange(frames)
    q, k = (np.asarray(rotate(p(x[row : row + 1, :frames]), positions))[0] for p in (layer.query, layer.key))
    v = np.asarray(layer.value(x[row : row + 1, :frames]))[0]
    for t in range(frames):
        seen = slice(max(0, t - 3), t + 1)
        heads = []
        for h in range(2):
            score = np.exp(k[seen, h] @ q[t, h] / np.sqrt(WIDTH // 2))
            heads.append((score / score.sum()) @ v[seen, h])
        expected = layer.out(jnp.stack(heads)[None])[0]
        np.testing.assert_allclose(y[row, t], expected, rtol=1e-4, atol=1e-5)


def test_rotation_depends_on_distance_only():
    q, k = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, 6))
    score = [float(jnp.sum(rotate(q, np.array([a + 5])) * rotate(k, np.array([a])))) for a in (0, 3, 1000)]
    np.testing.assert_allclose(score, score[0], rtol=1e-4)


def test_depthwise_convolution_equals_numpy():
    layer = DepthwiseConvolution(3, 4, dtype=F32, rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=(2, 9, 3)).astype(np.float32)
    expected = [
        [np.correlate(x[b, :, d], np.asarray(layer.filters[...])[:, d], "valid") for d in range(3)] for b in range(2)
    ]
    np.testing.assert_allclose(layer(x), np.swapaxes(expected, 1, 2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("remat", [False, True])
def test_stack_equals_its_layers_one_by_one(remat):
    stack = Stack(lambda r: conformer(4, r), 3, remat=remat, rngs=nnx.Rngs(0))
    x, mask = example(WIDTH)
    every = stack.every_layer(x, mask)
    for index in range(3):
        x = jax.tree.map(lambda p: p[index], stack.layers)(x, mask)
        np.testing.assert_allclose(every[index], x, rtol=1e-5, atol=1e-5)
    kernels = stack.layers.modules[0].inner.kernel[...]
    assert not np.allclose(kernels[0], kernels[1]), "layers start with the same weights"


def test_dropout_keeps_the_mean_and_draws_per_layer():
    x = jnp.ones((200, 200))
    y = dropout(x, 0.3, jax.random.key(0))
    assert abs(float((y == 0).mean()) - 0.3) < 0.01
    assert abs(float(y.mean()) - 1) < 0.01
    assert dropout(x, 0.3, None) is x
    stack = Stack(lambda r: conformer(4, r), 1, remat=False, rngs=nnx.Rngs(0))
    x, mask = example(WIDTH)
    a, b, c = (stack(x, mask, jax.random.key(k)) for k in (0, 1, 1))
    assert not np.allclose(a, b)
    np.testing.assert_array_equal(b, c)
