"""Multi-head self-attention with rotary positions: streaming, with a limited past, or over everything."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import PartitionSpec

from joint_st.distributed.mesh import BATCH, ambient_mesh, batch_devices
from joint_st.models.layer import Block, Layer, ends_of_blocks
from joint_st.ops.attention import attend
from joint_st.ops.fused_attention import attend_fused
from joint_st.ops.masks import zero_padding


def rotate(x: jax.Array, positions: np.ndarray) -> jax.Array:
    """Rotary position embedding (arXiv 2104.09864) of `x` [B, T, H, E] at `positions` [T], in float32."""
    half = x.shape[-1] // 2
    angle = positions[:, None] * (10_000.0 ** (-np.arange(half) / half))
    cos, sin = (f(angle).astype(np.float32)[:, None, :] for f in (np.cos, np.sin))
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1).astype(x.dtype)


SMALLEST_TILE = 16
"""Fewest frames of a tile; smaller tiles cost more in overhead than they save."""

LONGEST_MASKED = 128
"""Sequences of up to this many frames (5 s) are never cut into tiles. The products between frames are a small part of
their layers (`2 T D` against about `23 D²` multiplications per frame, a thirteenth at width 144)."""


def tile_frames(left_context: int, blocks: tuple[int, ...]) -> int:
    """Return the frames of a tile: about half the left context, and whole blocks of each length."""
    whole = math.lcm(*blocks)
    return -(-max(SMALLEST_TILE, left_context // 2) // whole) * whole


def tiles_pay(frames: int, left_context: int, tile: int) -> bool:
    """Return whether to compute attention over `frames` frames in tiles (see `benchmarks/streaming_attention.py`)."""
    return frames > LONGEST_MASKED and frames >= 2 * (tile + left_context)


def allowed_pairs(mask, left_context: int, block: Block):
    """Return which keys each query sees in streaming attention over all pairs of frames: bool [B, T, T], for a mask
    [B, T].

    Time and memory of attention over them, most of which are masked, grow with T².
    """
    positions = np.arange(mask.shape[1])
    return mask[:, None, :] & in_sight(positions, positions, left_context, block)


def tiled_attention(q, k, v, mask, left_context: int, block: Block, tile: int):
    """Attend over the pairs of `allowed_pairs` in tiles of `tile` frames (whole blocks): the queries of a tile see its
    keys and the `left_context` keys before it.

    `q`, `k`, `v` [B, T, H, E]; `mask` [B, T] -> [B, T, H, E]. Time and memory grow with T.
    """
    frames = q.shape[1]
    tiles, before = -(-frames // tile), -(-left_context // tile)

    def cut(x, before=0):
        """Return `x` [B, T, ...], with `before` tiles of zeros before it, as tiles [B, N, tile, ...]."""
        around = ((0, 0), (before * tile, tiles * tile - frames), *[(0, 0)] * (x.ndim - 2))
        return jnp.pad(x, around).reshape(x.shape[0], before + tiles, tile, *x.shape[2:])

    def window(x):
        """Return the part of `x` [B, T, ...] that each tile sees, [B, N, left_context + tile, ...]."""
        x = cut(x, before)
        parts = [x[:, i : i + tiles] for i in range(before + 1)]
        parts[0] = parts[0][:, :, before * tile - left_context :]
        return jnp.concatenate(parts, axis=2)

    places = np.arange(left_context + tile)
    seen = window(mask)[:, :, None, :] & in_sight(places[left_context:], places, left_context, block, left_context)

    def rows(x):
        """Return the tiles as rows of a batch. Those of an utterance stay together, so none leaves its device."""
        return x.reshape(-1, *x.shape[2:])

    y = attend(rows(cut(q)), rows(window(k)), rows(window(v)), rows(seen))
    return y.reshape(q.shape[0], tiles * tile, *q.shape[2:])[:, :frames]


def in_sight(queries: np.ndarray, keys: np.ndarray, left_context: int, block: Block, first: int = 0):
    """Return whether the query at each position [C] sees the key at each position [S], bool [C, S].

    A query sees its whole block and the `left_context` frames before the block. first: position of the beginning of a
    block.
    """
    ends = (first + ends_of_blocks(queries - first, block))[:, None]
    return (keys < ends) & (keys >= ends - block - left_context)


def fused_on_devices(rows: int, heads: int):
    """Return fused attention over so many rows and heads, which each device computes for its own; None where the devices
    do not divide them."""
    if (mesh := ambient_mesh()) is None:
        return attend_fused
    if rows % batch_devices(mesh) or heads % mesh.shape["tensor"]:
        return None
    own = PartitionSpec(*BATCH, None, "tensor")
    return jax.shard_map(attend_fused, mesh=mesh, in_specs=(own, own, own, BATCH), out_specs=own, check_vma=False)


class Attention(Layer):
    """Self-attention [B, T, D] -> [B, T, D].

    With `left_context` L, a frame sees its block (itself alone in the causal case) and the L frames before that; with
    `None` it sees the whole sequence, and there is no step form. Rotary positions are relative, so the step form counts
    positions from the start of its cache and never overflows.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        left_context: int | None,
        blocks: tuple[int, ...] = (1,),
        *,
        fused: bool = False,
        dtype,
        rngs: nnx.Rngs,
    ):
        """fused: compute attention over whole sequences by a fused kernel, where the platform has one."""
        self.heads = heads
        self.fused = fused and left_context is None
        self.left_context = left_context
        self.blocks = blocks
        self.look_ahead = None if left_context is None else blocks[0] - 1
        self.head_width = width // heads
        self.dtype = dtype
        # The projections are separate, because a fused one, cut along the mesh's tensor axis, causes all-to-alls.
        shape = (heads, self.head_width)
        self.query = nnx.LinearGeneral(width, shape, dtype=dtype, rngs=rngs)
        self.key = nnx.LinearGeneral(width, shape, dtype=dtype, rngs=rngs)
        self.value = nnx.LinearGeneral(width, shape, dtype=dtype, rngs=rngs)
        self.out = nnx.LinearGeneral(shape, width, axis=(-2, -1), dtype=dtype, rngs=rngs)

    def __call__(self, x, mask, key=None, block=None):
        del key
        x = zero_padding(x, mask)
        frames, past = x.shape[1], self.left_context
        positions = np.arange(frames)
        block = self.blocks[0] if block is None else block
        tile = past and tile_frames(past, self.blocks)
        if tiled := past is not None and tiles_pay(frames, past, tile):
            allowed = None
        else:
            allowed = mask[:, None, :] if past is None else allowed_pairs(mask, past, block)
        q, k, v = rotate(self.query(x), positions), rotate(self.key(x), positions), self.value(x)
        if tiled:
            y = tiled_attention(q, k, v, mask, past, block, tile)
        elif self.fused and (form := fused_on_devices(rows=q.shape[0], heads=q.shape[2])):
            y = form(q, k, v, mask)
        else:
            y = attend(q, k, v, allowed)
        return self._finish(y, mask)

    def _finish(self, y, mask):
        # A row that may attend to nothing gives the mean of the values. It is padding, so it is cleared.
        return zero_padding(self.out(y), mask)

    def init_state(self, batch):
        self.check_steps()
        cache = jnp.zeros((batch, self.left_context, self.heads, self.head_width), self.dtype)
        return {"key": cache, "value": cache, "mask": jnp.zeros((batch, self.left_context), bool)}

    def step(self, x, mask, state):
        self.check_steps(x.shape[1])
        x = zero_padding(x, mask)
        keys = jnp.concatenate([state["key"], self.key(x)], axis=1)
        values = jnp.concatenate([state["value"], self.value(x)], axis=1)
        seen = jnp.concatenate([state["mask"], mask], axis=1)
        positions = np.arange(keys.shape[1])
        here, past = positions[self.left_context :], self.left_context
        allowed = seen[:, None, :] & in_sight(here, positions, past, self.blocks[0], first=past)
        y = attend(rotate(self.query(x), here), rotate(keys, positions), values, allowed)
        keep = x.shape[1]
        return self._finish(y, mask), {"key": keys[:, keep:], "value": values[:, keep:], "mask": seen[:, keep:]}
