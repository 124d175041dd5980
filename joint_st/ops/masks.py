"""Boolean masks of padded sequences; `True` is valid everywhere in this package."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def length_mask(lengths: jax.Array, size: int) -> jax.Array:
    """Mask [B, size] that is `True` on the first `lengths[b]` positions of row `b`."""
    return jnp.arange(size) < lengths[:, None]


def zero_padding(x: jax.Array, mask: jax.Array) -> jax.Array:
    """`x` [B, T, ...] with zeros where `mask` [B, T] is `False`, whatever stood there, NaN included."""
    return jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)), x, 0)
