"""Boolean masks of padded sequences; `True` is valid everywhere in this package."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def length_mask(lengths: jax.Array, size: int) -> jax.Array:
    """Return a mask [B, size] that is `True` on the first `lengths[b]` positions of row `b`."""
    return jnp.arange(size) < lengths[:, None]


def zero_padding(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Return `x` [B, T, ...] with zeros where `mask` [B, T] is `False`, even in place of NaN."""
    return jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)), x, 0)


def close_up(values: jax.Array, kept: jax.Array, fill: int = 0) -> jax.Array:
    """Move the kept ones of `values` [..., T] to the front, in order, and put `fill` after them.

    kept: bool [..., T].
    """
    place = jnp.where(kept, jnp.cumsum(kept, axis=-1) - 1, kept.shape[-1])

    def one(values, place):
        return jnp.full_like(values, fill).at[place].set(values, mode="drop")

    for _ in range(values.ndim - 1):
        one = jax.vmap(one)
    return one(values, place)
