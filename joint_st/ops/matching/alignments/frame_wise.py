"""The straight line from the first pair of frames to the last, whatever the embeddings are."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from joint_st.kinds import ALIGNMENTS
from joint_st.ops.matching.base import PathAlignment, one_position


@ALIGNMENTS.register("frame_wise")
class FrameWise(PathAlignment):
    """Audio and text are matched along a straight line from the first pair of frames to the last."""

    def runs(self, sides, key):
        return one_position(frame_wise(sides.audio_lengths, sides.text_lengths, sides.audio.shape[1]), sides)


def frame_wise(audio_lengths: jax.Array, text_lengths: jax.Array, frames: int) -> jax.Array:
    """Return text positions int32 [B, T] on the line from the first pair to the last; a single frame gets the middle of
    the text."""
    last_frame = jnp.maximum(audio_lengths - 1, 0)[:, None]
    last_position = jnp.maximum(text_lengths - 1, 0)[:, None]
    line = (2 * jnp.arange(frames) * last_position + last_frame) // jnp.maximum(2 * last_frame, 1)
    line = jnp.where(last_frame > 0, line, last_position // 2)
    return jnp.minimum(line, last_position).astype(jnp.int32)
