"""Text positions that the caller knows, such as those that follow from the true times of words."""

from __future__ import annotations

import jax.numpy as jnp

from joint_st.kinds import ALIGNMENTS
from joint_st.ops.matching.base import AlignmentKind, Matched, masked_sum
from joint_st.ops.matching.cost import matched_costs


@ALIGNMENTS.register("given")
class GivenPositions(AlignmentKind):
    """Each frame is matched with the position given for it, or with none."""

    needs_positions = True

    def match(self, sides, given):
        frames = sides.audio_mask & (given.positions >= 0)
        position = jnp.clip(given.positions, 0, jnp.maximum(sides.text_lengths - 1, 0)[:, None])
        return Matched(masked_sum(matched_costs(sides.audio, sides.text, position), frames), position, frames)
