"""The cheapest alignment in which the text position stays or moves forward by one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from joint_st.kinds import ALIGNMENTS
from joint_st.ops.lattice import UNREACHABLE, move_right
from joint_st.ops.matching.base import PathAlignment, one_position
from joint_st.ops.matching.cost import path_costs


@ALIGNMENTS.register("step")
class Step(PathAlignment):
    """From a frame to the next the text position stays or moves forward by one, so there must be a frame for each
    position."""

    cheapest = True

    def runs(self, sides, key):
        costs = path_costs(sides.audio, sides.text, sides.text_mask, relative=True)
        return one_position(step_path(costs, sides.audio_lengths, sides.text_lengths), sides)

    def feasible(self, audio_lengths, text_lengths):
        return super().feasible(audio_lengths, text_lengths) & (audio_lengths >= text_lengths)


def step_path(costs: jax.Array, audio_lengths: jax.Array, text_lengths: jax.Array) -> jax.Array:
    """Find the cheapest path whose text position stays or moves forward by one at each frame; needs T >= R."""

    def forward(best, cost):
        advanced = move_right(best, UNREACHABLE)
        advances = advanced < best
        return jnp.where(advances, advanced, best) + cost, advances

    first = jnp.where(jnp.arange(costs.shape[2]) == 0, costs[0], UNREACHABLE)
    _, advances = lax.scan(forward, first, costs[1:])

    def back(position, frame):
        advances, i = frame
        moved = jnp.take_along_axis(advances, position[:, None], axis=1)[:, 0] & (i < audio_lengths)
        return position - moved, position

    last = jnp.maximum(text_lengths - 1, 0).astype(jnp.int32)
    beginning, others = lax.scan(back, last, (advances, jnp.arange(1, costs.shape[0])), reverse=True)
    return jnp.concatenate([beginning[:, None], others.T], axis=1)
