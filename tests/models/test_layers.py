"""Every layer passes the contract."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from joint_st.config import ParallelConfig
from joint_st.distributed.collectives import instructions
from joint_st.distributed.mesh import make_mesh
from joint_st.models.attention import (
    Attention,
    allowed_pairs,
    attend,
    rotate,
    tile_frames,
    tiled_attention,
    tiles_pay,
)
from joint_st.models.conformer import ConformerLayer, FeedForward
from joint_st.models.convolution import ConvolutionAhead, ConvolutionModule, DepthwiseConvolution
from joint_st.models.layer import Stack, dropout
from tests.models.contract import check_blocks, check_layer, example
from tests.tiny import call_on_eight_devices

WIDTH = 8
F32 = jnp.float32


def conformer(left_context, rngs, blocks=(1,)):
    sizes = {"heads": 2, "feed_forward": 2, "kernel": 3, "left_context": left_context, "blocks": blocks}
    return ConformerLayer(WIDTH, **sizes, dropout=0.5, dtype=F32, rngs=rngs)


def stack(blocks, rngs):
    return Stack(lambda r: conformer(4, r, blocks), 2, remat=False, rngs=rngs)


LAYERS = {
    "feed_forward": lambda rngs: FeedForward(WIDTH, 2, dtype=F32, rngs=rngs),
    "attention_short_past": lambda rngs: Attention(WIDTH, 2, 3, dtype=F32, rngs=rngs),
    "attention_long_past": lambda rngs: Attention(WIDTH, 2, 40, dtype=F32, rngs=rngs),
    "attention_full_context": lambda rngs: Attention(WIDTH, 2, None, dtype=F32, rngs=rngs),
    "attention_fused": lambda rngs: Attention(WIDTH, 2, None, fused=True, dtype=F32, rngs=rngs),
    "convolution_causal": lambda rngs: ConvolutionModule(WIDTH, 5, causal=True, dtype=F32, rngs=rngs),
    "convolution_centred": lambda rngs: ConvolutionModule(WIDTH, 5, causal=False, dtype=F32, rngs=rngs),
    "convolution_one_frame": lambda rngs: ConvolutionModule(WIDTH, 1, causal=True, dtype=F32, rngs=rngs),
    "attention_in_blocks": lambda rngs: Attention(WIDTH, 2, 3, (4, 1), dtype=F32, rngs=rngs),
    "convolution_in_short_blocks": lambda rngs: ConvolutionModule(WIDTH, 7, (3,), causal=True, dtype=F32, rngs=rngs),
    "convolution_in_blocks": lambda rngs: ConvolutionModule(WIDTH, 5, (6, 1), causal=True, dtype=F32, rngs=rngs),
    "stack_in_blocks": lambda rngs: stack((4, 6, 1), rngs),
    "conformer_streaming": lambda rngs: conformer(4, rngs),
    "conformer_full_context": lambda rngs: conformer(None, rngs),
    "stack_streaming": lambda rngs: Stack(lambda r: conformer(4, r), 3, remat=False, rngs=rngs),
    "stack_full_context": lambda rngs: Stack(lambda r: conformer(None, r), 2, remat=True, rngs=rngs),
    "stack_empty": lambda rngs: Stack(lambda r: conformer(4, r), 0, remat=False, rngs=rngs),
}


@pytest.mark.parametrize("name", LAYERS)
def test_contract(name):
    check_layer(LAYERS[name](nnx.Rngs(0)), WIDTH)


BLOCKS = {
    "attention": lambda blocks: Attention(WIDTH, 2, 3, blocks, dtype=F32, rngs=nnx.Rngs(0)),
    "convolution": lambda blocks: ConvolutionModule(WIDTH, 7, blocks, causal=True, dtype=F32, rngs=nnx.Rngs(0)),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_one_compilation_serves_blocks_of_all_lengths(name):
    check_blocks(BLOCKS[name], (1, 2, 5), WIDTH)


def test_causal_blocks_add_nothing_to_a_layer_without_look_ahead():
    """The weights for later frames are there, and unused: what is left is the causal layer."""
    x, mask = example(WIDTH)
    causal, ahead = (ConvolutionModule(WIDTH, 5, b, causal=True, dtype=F32, rngs=nnx.Rngs(0)) for b in ((1,), (1, 4)))
    assert causal.ahead is None and ahead.ahead.filters.shape == (2, WIDTH)
    np.testing.assert_array_equal(causal(x, mask), ahead(x, mask))


def test_attention_in_blocks_equals_a_loop():
    """Blocks of 4 frames and the 3 before each: frame 9 of 14, in the third block, sees 5 to 11."""
    layer = Attention(WIDTH, 2, 3, (4,), dtype=F32, rngs=nnx.Rngs(0))
    x, _ = example(WIDTH)
    y = layer(x[:1, :14], jnp.ones((1, 14), bool))
    alone = Attention(WIDTH, 2, None, dtype=F32, rngs=nnx.Rngs(0))
    for t, seen in ((0, slice(0, 4)), (9, slice(5, 12)), (13, slice(9, 14))):
        part = x[:1, seen]
        expected = alone(part, jnp.ones(part.shape[:2], bool))[0, t - seen.start]
        np.testing.assert_allclose(y[0, t], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("left_context", "blocks"), [(6, (1, 4, 8, 16)), (21, (3, 2))])
def test_attention_in_tiles_equals_that_over_all_pairs(left_context, blocks):
    """Values and gradients, in blocks of every length, for a length that is no multiple of a tile."""
    tile = tile_frames(left_context, blocks)
    assert all(tile % block == 0 for block in blocks) and tile >= 16
    q, k, v, weights = jax.random.normal(jax.random.key(0), (4, 2, 75, 2, 4))
    mask = jnp.arange(75) < jnp.array([75, 40])[:, None]

    def total(form):
        def run(q, k, v, block):
            y = jnp.where(mask[..., None, None], form(q, k, v, block), 0)
            return jnp.sum(y * weights), y

        return jax.jit(jax.value_and_grad(run, (0, 1, 2), has_aux=True))

    masked = total(lambda q, k, v, block: attend(q, k, v, allowed_pairs(mask, left_context, block)))
    tiled = total(lambda q, k, v, block: tiled_attention(q, k, v, mask, left_context, block, tile))
    for block in map(jnp.int32, blocks):
        for one, other in zip(jax.tree.leaves(masked(q, k, v, block)), jax.tree.leaves(tiled(q, k, v, block))):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    assert masked._cache_size() == tiled._cache_size() == 1


def test_tiles_are_taken_where_they_pay():
    """For long sequences of a short past, and never where a tile and its past are nearly all there is."""
    assert not tiles_pay(100, 6, tile_frames(6, (1,))) and tiles_pay(400, 6, tile_frames(6, (1, 4, 8, 16)))
    assert not tiles_pay(150, 64, tile_frames(64, (1,))) and tiles_pay(400, 64, tile_frames(64, (1, 16)))
    assert not tiles_pay(400, 1000, tile_frames(1000, (1,)))
    assert not tiles_pay(400, 6, tile_frames(6, (16, 7, 9)))  # no short tile is made of whole blocks of all lengths


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


@pytest.mark.parametrize("remat, unroll", [(False, 1), (True, 1), (False, 2)])
def test_stack_equals_its_layers_one_by_one(remat, unroll):
    stack = Stack(lambda r: conformer(4, r), 3, remat=remat, unroll=unroll, rngs=nnx.Rngs(0))
    x, mask = example(WIDTH)
    every = stack.every_layer(x, mask)
    for index in range(3):
        x = jax.tree.map(lambda p: p[index], stack.layers)(x, mask)
        np.testing.assert_allclose(every[index], x, rtol=1e-5, atol=1e-5)
    kernels = stack.layers.modules[0].inner.kernel[...]
    assert not np.allclose(kernels[0], kernels[1]), "layers start with the same weights"


@pytest.mark.parametrize("width", [2, 7])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_values_are_dropped_at_the_rate_and_independently(width, rate):
    count = 40_000
    y = np.asarray(dropout(jnp.ones((count, width)), rate, jax.random.key(0)))
    kept = y > 0
    np.testing.assert_allclose(y[kept], 1 / (1 - rate), rtol=2e-4)
    # Five standard deviations of a share, and of a correlation, over so many rows.
    np.testing.assert_allclose(kept.mean(axis=0), 1 - rate, atol=5 * (rate * (1 - rate) / count) ** 0.5)
    np.testing.assert_allclose(np.corrcoef(kept.T), np.eye(width), atol=5 / count**0.5)


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


def fused_on_eight_devices():
    """Compare fused attention on eight devices with plain attention on one."""
    x, mask = (jnp.tile(y, (4,) + (1,) * (y.ndim - 1))[:8] for y in example(WIDTH))

    def results(layer):
        definition, weights = nnx.split(layer)

        def loss(weights):
            y = nnx.merge(definition, weights)(x, mask)
            return jnp.sum(y**2), y

        compiled = jax.jit(jax.grad(loss, has_aux=True)).lower(weights).compile()
        return compiled.as_text(), jax.tree.leaves(compiled(weights))

    plain, fused = (Attention(WIDTH, 4, None, fused=fused, dtype=F32, rngs=nnx.Rngs(0)) for fused in (False, True))
    _, expected = results(plain)
    with jax.set_mesh(make_mesh(ParallelConfig(data=2, fsdp=2, tensor=2))):
        hlo, found = results(fused)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert not [one for one in instructions(hlo) if one.devices > 1 and "shard_map" in one.operation]


@pytest.mark.slow
def test_fused_attention_on_eight_devices_is_plain_attention_on_one():
    call_on_eight_devices("tests.models.test_layers:fused_on_eight_devices")


def test_later_frames_of_a_block_are_summed_in_float32():
    x = jnp.abs(jax.random.normal(jax.random.key(0), (2, 64, 4))).astype(jnp.bfloat16)
    ahead = ConvolutionAhead(4, 15, 0.3, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    exact = ConvolutionAhead(4, 15, 0.3, dtype=jnp.float32, rngs=nnx.Rngs(0))
    rounded = jnp.abs(ahead.filters[...].astype(jnp.bfloat16))
    ahead.filters[...] = exact.filters[...] = rounded.astype(jnp.float32)
    found, expected = ahead(x, 16), exact(x.astype(jnp.float32), 16).astype(jnp.bfloat16)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(found, np.float32), np.asarray(expected, np.float32))
