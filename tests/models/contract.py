"""The contract that every layer passes.

1. The step form, in pieces of any length, equals the whole-sequence form.
2. NaN in the padding changes nothing, and no gradient becomes NaN.
3. An output depends on no input beyond the declared look-ahead, nor on one beyond its block; and the look-ahead is no
   larger than declared need be: the last input within both does matter.
4. Where it is made for blocks of several lengths, a call with one of them equals the layer made with that one first.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

BATCH, FRAMES = 3, 17
LENGTHS = (17, 9, 1)


def example(width: int, seed: int = 0):
    """Random `x` [3, 17, width] and its mask."""
    x = jax.random.normal(jax.random.key(seed), (BATCH, FRAMES, width))
    return x, jnp.arange(FRAMES) < jnp.array(LENGTHS)[:, None]


def check_layer(layer, width: int, tolerance: float = 2e-5):
    """Check the whole contract."""
    check_padding(layer, width, tolerance)
    check_look_ahead(layer, width)
    check_step(layer, width, tolerance)


@jax.jit
def whole_form(layer, x, mask):
    return layer(x, mask)


@jax.jit
def step_form(layer, x, mask, state):
    return layer.step(x, mask, state)


def check_padding(layer, width, tolerance):
    x, mask = example(width)
    dirty = jnp.where(mask[..., None], x, jnp.nan)
    clean = jnp.where(mask[..., None], x, 0)
    expected = whole_form(layer, clean, mask)
    valid = np.asarray(mask)
    np.testing.assert_array_equal(whole_form(layer, dirty, mask)[valid], expected[valid])
    assert np.isfinite(expected[valid]).all()

    def loss(layer, x):
        return jnp.sum(jnp.where(mask[..., None], layer(x, mask), 0) ** 2)

    gradient_of = jax.jit(jax.grad(loss, (0, 1)))
    gradients = (jax.tree.leaves(gradient_of(layer, x)) for x in (dirty, clean))
    for gradient, reference in zip(*gradients):
        np.testing.assert_array_equal(gradient, reference)
    # Less padding gives the same.
    short = LENGTHS[1]
    np.testing.assert_allclose(
        whole_form(layer, x[1:2, :short], mask[1:2, :short]), expected[1:2, :short], rtol=tolerance, atol=tolerance
    )


def check_look_ahead(layer, width):
    x, _ = example(width)
    x, mask = x[:1], jnp.ones((1, FRAMES), bool)
    weights = jax.random.normal(jax.random.key(1), (width,))
    # depends[t, s]: output t is moved by input s.
    jacobian = jax.jit(jax.jacobian(lambda x: layer(x, mask)[0] @ weights))(x)[:, 0]
    depends = np.abs(np.asarray(jacobian)).max(axis=-1) > 0
    frames, block = np.arange(FRAMES), layer.blocks[0]
    future = frames[None, :] - frames[:, None]
    if layer.look_ahead is None:
        assert depends[0, -1], "declares the whole sequence but does not see it"
        return
    assert not depends[future > layer.look_ahead].any(), "sees beyond its declared look-ahead"
    in_block = (frames // block)[None, :] == (frames // block)[:, None]
    if layer.look_ahead < block:
        assert not depends[(future > 0) & ~in_block].any(), "sees beyond its block"
    else:
        in_block[:] = True
    assert depends[(future == layer.look_ahead) & in_block].all(), "declares more look-ahead than it uses"


def check_step(layer, width, tolerance):
    x, mask = example(width)
    block = layer.blocks[0]
    if layer.look_ahead is None or layer.look_ahead >= block:
        with pytest.raises(NotImplementedError):
            layer.step(x, mask, None)
        with pytest.raises(NotImplementedError):
            layer.init_state(BATCH)
        return
    whole = np.asarray(whole_form(layer, x, mask))
    if block > 1:
        with pytest.raises(ValueError, match=f"{block + 1} frames is not made of blocks of {block}"):
            layer.step(x[:, : block + 1], mask[:, : block + 1], layer.init_state(BATCH))
    blocks = -(-FRAMES // block)
    # An utterance may end inside a block.
    x, mask = (jnp.pad(y, ((0, 0), (0, blocks * block - FRAMES), *[(0, 0)] * (y.ndim - 2))) for y in (x, mask))
    for sizes in ([1] * blocks, [2, blocks - 6, 4] if blocks > 6 else [2, blocks - 2]):
        state, outputs, start = layer.init_state(BATCH), [], 0
        for size in (size * block for size in sizes):
            piece = slice(start, start + size)
            dirty = jnp.where(mask[:, piece, None], x[:, piece], jnp.nan)
            y, state = step_form(layer, dirty, mask[:, piece], state)
            outputs.append(y)
            start += size
        stepped = np.concatenate(outputs, axis=1)[:, :FRAMES]
        valid = np.asarray(mask)[:, :FRAMES]
        np.testing.assert_allclose(stepped[valid], whole[valid], rtol=tolerance, atol=tolerance)


def check_blocks(make, blocks, width: int, tolerance: float = 2e-5):
    """The last part, for `make(blocks)`: one compilation serves all lengths."""
    x, mask = example(width)
    layer = make(blocks)
    run = jax.jit(lambda layer, block: layer(x, mask, None, block))
    for block in blocks:
        own = make((block, *(other for other in blocks if other != block)))
        expected = whole_form(own, x, mask)[mask]
        np.testing.assert_allclose(run(layer, jnp.int32(block))[mask], expected, rtol=tolerance, atol=tolerance)
    assert run._cache_size() == 1
