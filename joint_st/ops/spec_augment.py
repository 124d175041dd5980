"""SpecAugment (arXiv 1904.08779): bands of channels and spans of time set to zero, drawn per utterance."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def _covered(key: jax.Array, count: int, widest: jax.Array | int, length: jax.Array | int, size: int) -> jax.Array:
    """Return a mask [size] that is `True` on the union of `count` spans, each of a width up to `widest`, inside
    `length`."""
    width_key, start_key = jax.random.split(key)
    width = jnp.floor(jax.random.uniform(width_key, (count, 1)) * (widest + 1))
    start = jnp.floor(jax.random.uniform(start_key, (count, 1)) * (length - width + 1))
    position = jnp.arange(size)
    return ((position >= start) & (position < start + width)).any(axis=0)


def spec_augment(
    features: jax.Array,
    lengths: jax.Array,
    key: jax.Array,
    *,
    frequency_masks: int,
    frequency_width: int,
    time_masks: int,
    time_share: float,
) -> jax.Array:
    """Return `features` [B, F, M] with zeros under the masks: near their mean, where their level is removed
    (`model.features.level`).

    Each utterance draws `frequency_masks` bands up to `frequency_width` channels wide, and `time_masks` spans up
    to `time_share` of its own `lengths[b]` feature frames.
    """

    def one(x, length, key):
        frequency_key, time_key = jax.random.split(key)
        frames, mels = x.shape
        hidden = jnp.zeros((frames, mels), bool)
        if frequency_masks:
            hidden |= _covered(frequency_key, frequency_masks, frequency_width, mels, mels)[None, :]
        if time_masks:
            widest = jnp.floor(time_share * length)
            hidden |= _covered(time_key, time_masks, widest, length, frames)[:, None]
        return jnp.where(hidden, 0, x)

    return jax.vmap(one)(features, lengths, jax.random.split(key, features.shape[0]))
