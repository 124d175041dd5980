"""The cheapest monotonic alignment under three sets of moves, by dynamic programming over the frames.

All alignments are anchored: the first frame at text position 0, the last at the last position. They take costs
float32 [T, B, R] (time first, as the scans want it; finite in the padding) and lengths int32 [B], and return text
positions int32 [B, T]; what stands there in the padding, or where no alignment is possible, has no meaning.

No move leads back to an earlier text position. So columns to the right of an utterance's last text position never
reach it, frames after its last are never looked at on the way back, and neither needs a mask.

The scans keep one or two bits of each cell, and are not unrolled: on a CPU that makes them several times slower.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from joint_st.ops.lattice import UNREACHABLE, move_right


def skip_path(costs: jax.Array, audio_lengths: jax.Array, text_lengths: jax.Array) -> jax.Array:
    """From a frame to the next the text position stays or moves forward by any number (arXiv 2308.06125).

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
        # The cell the running minimum came from is the last new minimum up to here.
        before = jnp.max(jnp.where(is_new & (columns <= position[:, None]), columns, 0), axis=1)
        return jnp.where(i < audio_lengths, before, position), position

    frames = jnp.arange(1, costs.shape[0])
    beginning, others = lax.scan(back, last.astype(jnp.int32), (is_new, frames), reverse=True)
    return jnp.concatenate([beginning[:, None], others.T], axis=1)


def step_path(costs: jax.Array, audio_lengths: jax.Array, text_lengths: jax.Array) -> jax.Array:
    """From a frame to the next the text position stays or moves forward by one; needs T >= R."""

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


def dtw_path(costs: jax.Array, audio_lengths: jax.Array, text_lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Classic dynamic time warping: to the next frame, to the next text position, or both, at equal price.

    costs: never negative. Returns the first and the last text position of each frame, int32 [B, T] each: a frame is
    matched with all from one to the other, and the next frame begins at the last or one after it.

    A row is solved at once. With `e(k)` the least cost before position `k` of this frame is entered from the frame
    before, and `S` the running sum of the frame's costs, the cheapest run from `k` to `j` costs
    `e(k) + S(j) - S(k - 1)`: a running minimum of `e(k) - S(k - 1)`.
    """
    columns = jnp.arange(costs.shape[2])

    def forward(best, frame):
        sums, cost = frame
        advanced = move_right(best, UNREACHABLE)
        advances = advanced <= best  # of two equal ways, the one of fewer cells
        entering = jnp.where(advances, advanced, best) - (sums - cost)
        running = lax.associative_scan(jnp.minimum, entering, axis=1)
        is_new = entering < move_right(running, UNREACHABLE)
        return running + sums, (is_new, advances)

    sums = jnp.cumsum(costs, axis=2)
    # The first frame is one run, from position 0.
    _, (is_new, advances) = lax.scan(forward, sums[0], (sums[1:], costs[1:]))

    def back(last, frame):
        is_new, advances, i = frame
        codes = jnp.where(is_new & (columns <= last[:, None]), 2 * columns + advances, 0)
        code = jnp.max(codes, axis=1)
        first = code // 2
        previous = jnp.maximum(first - code % 2, 0)
        return jnp.where(i < audio_lengths, previous, last), (first, last)

    last = jnp.maximum(text_lengths - 1, 0).astype(jnp.int32)
    frames = jnp.arange(1, costs.shape[0])
    ending, (first, last) = lax.scan(back, last, (is_new, advances, frames), reverse=True)
    first = jnp.pad(first, ((1, 0), (0, 0)))
    return first.T, jnp.concatenate([ending[None], last]).T
