"""An alignment drawn uniformly from all that `skip` may choose, whatever the embeddings are."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from joint_st.kinds import ALIGNMENTS
from joint_st.ops.matching.base import PathAlignment, one_position


@ALIGNMENTS.register("random")
class Random(PathAlignment):
    """A monotonic alignment drawn with a key."""

    needs_key = True

    def runs(self, sides, key):
        sizes = sides.audio.shape[1], sides.text.shape[1]
        return one_position(self.draw(key, sides.audio_lengths, sides.text_lengths, *sizes), sides)

    def draw(self, key, audio_lengths, text_lengths, frames, positions):
        return random_monotonic(key, audio_lengths, text_lengths, frames, positions)


def random_monotonic(
    key: jax.Array, audio_lengths: jax.Array, text_lengths: jax.Array, frames: int, positions: int
) -> jax.Array:
    """Draw text positions int32 [B, T] uniformly from all non-decreasing maps that are anchored at both ends.

    A single frame may be anywhere. The lengths are int [B].

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
