"""The cheapest alignment in which the text position stays or moves forward by any number (arXiv 2308.06125)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from joint_st.kinds import ALIGNMENTS
from joint_st.ops.lattice import UNREACHABLE, move_right, row_max_of
from joint_st.ops.matching.base import PathAlignment, one_position
from joint_st.ops.matching.cost import path_costs


@ALIGNMENTS.register("skip")
class Skip(PathAlignment):
    """From a frame to the next the text position stays or moves forward by any number."""

    cheapest = True

    def runs(self, sides, key):
        costs = path_costs(sides.audio, sides.text, sides.text_mask, relative=True)
        return one_position(skip_path(costs, sides.audio_lengths, sides.text_lengths), sides)


def skip_path(costs: jax.Array, audio_lengths: jax.Array, text_lengths: jax.Array) -> jax.Array:
    """Find the cheapest path whose text position stays or moves forward by any number at each frame (arXiv 2308.06125).

    The least cost of being at position `j` after frame `i` is `cost(i, j) + min_{k <= j} D(i - 1, k)`. The minimum
    over all `k` is a running one: O(T·R) instead of O(T·R²).

    An utterance of one frame, which cannot be at both ends, is matched with the cheapest position.
    """
    columns = jnp.arange(costs.shape[2])
    first = jnp.where(columns == 0, costs[0], UNREACHABLE)

    def forward(best, cost):
        running = lax.associative_scan(jnp.minimum, best, axis=1)
        is_new = best < move_right(running, UNREACHABLE)
        return running + cost, is_new

    _, is_new = lax.scan(forward, first, costs[1:])
    cheapest = jnp.argmin(jnp.where(columns < text_lengths[:, None], costs[0], jnp.inf), axis=1)
    last = jnp.where(audio_lengths == 1, cheapest, text_lengths - 1)

    def back(position, frame):
        is_new, i = frame
        # The running minimum came from the last new minimum up to here.
        before = row_max_of(jnp.where(is_new & (columns <= position[:, None]), columns, 0))[:, 0]
        return jnp.where(i < audio_lengths, before, position), position

    frames = jnp.arange(1, costs.shape[0])
    beginning, others = lax.scan(back, last.astype(jnp.int32), (is_new, frames), reverse=True)
    return jnp.concatenate([beginning[:, None], others.T], axis=1)
