"""Classic dynamic time warping: the cheapest alignment in which a frame may also be matched with several positions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from joint_st.kinds import ALIGNMENTS
from joint_st.ops.lattice import UNREACHABLE, move_right, row_max_of
from joint_st.ops.matching.base import Matched, PathAlignment, masked_sum
from joint_st.ops.matching.cost import matched_costs, path_costs


@ALIGNMENTS.register("dtw")
class Dtw(PathAlignment):
    """Each frame is matched with a run of neighbouring positions; successive frames may share one.

    The costs of all pairs are summed, and the sum is divided by the number of frames, so it is more than a mean over
    pairs.
    """

    cheapest = True
    covers_text = True

    def runs(self, sides, key):
        costs = path_costs(sides.audio, sides.text, sides.text_mask, relative=False)
        return dtw_path(costs, sides.audio_lengths, sides.text_lengths)

    def match(self, sides, given):
        first, last = self.runs(sides.held(), given.key)
        total = masked_sum(matched_costs(sides.audio, sides.text, last), sides.audio_mask)
        # A position before the last of a run belongs to one run only: that of the first frame that goes beyond it.
        positions = jnp.arange(sides.text.shape[1])
        frame = jnp.sum((last[:, :, None] <= positions) & sides.audio_mask[:, :, None], axis=1)
        frame = jnp.minimum(frame, jnp.maximum(sides.audio_lengths - 1, 0)[:, None])
        in_run = positions >= jnp.take_along_axis(first, frame, axis=1)
        in_run &= positions < jnp.take_along_axis(last, frame, axis=1)
        total += masked_sum(matched_costs(sides.text, sides.audio, frame), in_run & sides.text_mask)
        return Matched(total, (first + last) // 2, sides.audio_mask)


def dtw_path(costs: jax.Array, audio_lengths: jax.Array, text_lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Find the path of classic dynamic time warping: to the next frame, to the next text position, or both, at equal
    cost.

    costs: never negative. Returns the first and the last text position of each frame, int32 [B, T] each: a frame is
    matched with all positions from the first to the last, and the next frame begins at the last or one after it.

    A row is solved as a whole. With `e(k)` the least cost before position `k` of this frame is entered from the frame
    before, and `S` the running sum of the frame's costs, the cheapest run from `k` to `j` costs
    `e(k) + S(j) - S(k - 1)`: a running minimum of `e(k) - S(k - 1)`.

    The scan carries these differences and not the costs of a row, since a CPU keeps what is carried in memory; the running
    minimum, which reads each of them several times, would compute them again each time.
    """
    columns = jnp.arange(costs.shape[2])
    sums = jnp.cumsum(costs, axis=2)
    before = sums - costs

    def forward(entering, frame):
        sums, next_before = frame
        running = lax.associative_scan(jnp.minimum, entering, axis=1)
        is_new = entering < move_right(running, UNREACHABLE)
        best = running + sums
        advanced = move_right(best, UNREACHABLE)
        # Of two equal paths, the one with fewer cells.
        return jnp.minimum(advanced, best) - next_before, (is_new, advanced <= best)

    # The first frame is entered at position 0 alone; after the last frame there is none to be entered.
    start = jnp.where(columns == 0, 0.0, UNREACHABLE) - before[0]
    _, (is_new, advances) = lax.scan(forward, start, (sums, jnp.roll(before, -1, axis=0)))
    is_new, advances = is_new[1:], advances[:-1]

    def back(last, frame):
        is_new, advances, i = frame
        codes = jnp.where(is_new & (columns <= last[:, None]), 2 * columns + advances, 0)
        code = row_max_of(codes)[:, 0]
        first = code // 2
        previous = jnp.maximum(first - code % 2, 0)
        return jnp.where(i < audio_lengths, previous, last), (first, last)

    last = jnp.maximum(text_lengths - 1, 0).astype(jnp.int32)
    frames = jnp.arange(1, costs.shape[0])
    ending, (first, last) = lax.scan(back, last, (is_new, advances, frames), reverse=True)
    first = jnp.pad(first, ((1, 0), (0, 0)))
    return first.T, jnp.concatenate([ending[None], last]).T
