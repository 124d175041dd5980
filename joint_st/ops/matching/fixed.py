"""Monotonic alignments that do not look at the embeddings: text positions int32 [B, T] for lengths int [B].

Both lead from the first text position at the first frame to the last at the last, like those of `monotonic`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def frame_wise(audio_lengths: jax.Array, text_lengths: jax.Array, frames: int) -> jax.Array:
    """The straight line from the first pair to the last, rounded; one frame alone takes the middle of the text."""
    last_frame = jnp.maximum(audio_lengths - 1, 0)[:, None]
    last_position = jnp.maximum(text_lengths - 1, 0)[:, None]
    line = (2 * jnp.arange(frames) * last_position + last_frame) // jnp.maximum(2 * last_frame, 1)
    line = jnp.where(last_frame > 0, line, last_position // 2)
    return jnp.minimum(line, last_position).astype(jnp.int32)


def random_monotonic(
    key: jax.Array, audio_lengths: jax.Array, text_lengths: jax.Array, frames: int, positions: int
) -> jax.Array:
    """One drawn uniformly from all non-decreasing maps that are anchored at both ends (one frame alone: anywhere).

    The `n` frames between the ends take a multiset of `n` of the R text positions, each as likely as any other. By
    stars and bars that is a set of `n` of `n + R - 1` places, which a random order of the places gives: the k-th
    smallest place of the set, less k, is the k-th smallest position of the multiset.
    """
    alone = (audio_lengths == 1)[:, None]
    drawn = jnp.where(alone, 1, jnp.maximum(audio_lengths[:, None] - 2, 0))
    places = drawn + text_lengths[:, None] - 1

    width = frames + positions
    index = jnp.arange(width)
    weight = jax.random.uniform(key, (audio_lengths.shape[0], width))
    order = jnp.argsort(jnp.where(index < places, weight, 2.0), axis=1)
    chosen = jnp.sort(jnp.where(index < drawn, order, width), axis=1)[:, :frames] - jnp.arange(frames)

    last_position = jnp.maximum(text_lengths - 1, 0)[:, None]
    inner = jnp.pad(chosen[:, :-1], ((0, 0), (1, 0)))
    at_end = jnp.arange(frames) >= audio_lengths[:, None] - 1
    anchored = jnp.where(at_end, last_position, inner)
    return jnp.where(alone, chosen[:, :1], anchored).astype(jnp.int32)
