"""Multi-head self-attention with rotary positions, causal with a limited past, or over everything."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from joint_st.models.layer import Layer
from joint_st.ops.masks import zero_padding


def rotate(x: jax.Array, positions: np.ndarray) -> jax.Array:
    """Rotary position embedding (arXiv 2104.09864) of `x` [B, T, H, E] at `positions` [T], in float32."""
    half = x.shape[-1] // 2
    angle = positions[:, None] * (10_000.0 ** (-np.arange(half) / half))
    cos, sin = (f(angle).astype(np.float32)[:, None, :] for f in (np.cos, np.sin))
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1).astype(x.dtype)


class Attention(Layer):
    """Self-attention [B, T, D] -> [B, T, D].

    With `left_context` L, a frame sees itself and the L frames before it (look-ahead 0); with `None` it sees the
    whole sequence, and there is no step form. Rotary positions are relative, so the step form counts positions
    from the start of its cache and never overflows.
    """

    def __init__(self, width: int, heads: int, left_context: int | None, *, dtype, rngs: nnx.Rngs):
        self.heads = heads
        self.left_context = left_context
        self.look_ahead = None if left_context is None else 0
        self.head_width = width // heads
        self.dtype = dtype
        # The projections are separate, because a fused one, cut along the mesh's tensor axis, causes all-to-alls.
        shape = (heads, self.head_width)
        self.query = nnx.LinearGeneral(width, shape, dtype=dtype, rngs=rngs)
        self.key = nnx.LinearGeneral(width, shape, dtype=dtype, rngs=rngs)
        self.value = nnx.LinearGeneral(width, shape, dtype=dtype, rngs=rngs)
        self.out = nnx.LinearGeneral(shape, width, axis=(-2, -1), dtype=dtype, rngs=rngs)

    def __call__(self, x, mask, key=None):
        del key
        x = zero_padding(x, mask)
        positions = np.arange(x.shape[1])
        allowed = mask[:, None, :]
        if self.left_context is not None:
            distance = positions[:, None] - positions[None, :]
            allowed = allowed & ((distance >= 0) & (distance <= self.left_context))
        return self._attend(
            rotate(self.query(x), positions), rotate(self.key(x), positions), self.value(x), allowed, mask
        )

    def _attend(self, q, k, v, allowed, mask):
        """Attend with `q` [B, C, H, E] to `k`, `v` [B, S, H, E]; `allowed` [B, C or 1, S]; `mask` [B, C]."""
        y = jax.nn.dot_product_attention(q, k, v, mask=allowed[:, None])
        # A row that may attend to nothing gives the mean of the values. It is padding, so it is cleared.
        return zero_padding(self.out(y), mask)

    def init_state(self, batch):
        self.check_steps()
        cache = jnp.zeros((batch, self.left_context, self.heads, self.head_width), self.dtype)
        return {"key": cache, "value": cache, "mask": jnp.zeros((batch, self.left_context), bool)}

    def step(self, x, mask, state):
        self.check_steps()
        x = zero_padding(x, mask)
        keys = jnp.concatenate([state["key"], self.key(x)], axis=1)
        values = jnp.concatenate([state["value"], self.value(x)], axis=1)
        seen = jnp.concatenate([state["mask"], mask], axis=1)
        positions = np.arange(keys.shape[1])
        here = positions[self.left_context :]
        distance = here[:, None] - positions[None, :]
        allowed = seen[:, None, :] & ((distance >= 0) & (distance <= self.left_context))
        y = self._attend(rotate(self.query(x), here), rotate(keys, positions), values, allowed, mask)
        keep = x.shape[1]
        return y, {"key": keys[:, keep:], "value": values[:, keep:], "mask": seen[:, keep:]}
