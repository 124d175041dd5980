"""All alignments of `skip` at once, each with the probability that its cost gives it.

With the Gibbs distribution p(π) ∝ exp(-cost(π) / temperature) over anchored non-decreasing maps π, the plan is
P_ij = p(π(i) = j). It is the gradient of the soft minimum, `-temperature · log sum_π exp(-cost(π) / temperature)`,
for the cost of (i, j), and tends to the one best path as the temperature tends to 0.

The lattice has nodes (i, j): i frames are matched, and the text position is j. An edge down matches frame i with
position j and costs `cost(i, j)`; an edge right moves to the next position and is free. (The running minimum of
`skip_path` is this lattice too.) Nodes of one anti-diagonal i + j depend on the one before it, so T + R steps of vector
work solve it. Within a row, cells of the finally likely paths may lie hundreds of nats below the likeliest cells so far, so
the numbers have exponents of their own (`joint_st.ops.wide`).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from joint_st.kinds import ALIGNMENTS
from joint_st.ops import wide
from joint_st.ops.lattice import IMPOSSIBLE, UNREACHABLE, move_left, move_right
from joint_st.ops.masks import length_mask
from joint_st.ops.matching.base import PlannedAlignment
from joint_st.ops.wide import Wide


@ALIGNMENTS.register("soft")
class Soft(PlannedAlignment):
    """Every alignment of `skip` by its likelihood; the value tends to that of `skip` as the temperature tends to 0.

    The gradient is that of the soft minimum, `-temperature · log sum exp(-cost / temperature)`.
    """

    def plan(self, costs, sides, temperature):
        lengths = jnp.maximum(sides.audio_lengths, 1), jnp.maximum(sides.text_lengths, 1)
        plan = soft_plan(costs, *lengths, temperature)
        return jnp.where(sides.audio_mask[:, :, None] & sides.text_mask[:, None, :], plan, 0.0)


def soft_plan(
    costs: jax.Array, audio_lengths: jax.Array, text_lengths: jax.Array, temperature: float | jax.Array
) -> jax.Array:
    """Return the posterior probability of matching frame i with text position j, float32 [B, T, R].

    costs: float32 [B, T, R], finite in the padding. Lengths: int [B], at least 1. Rows of frames sum to 1; the
    padding is exactly 0. A single frame may be matched with any position.
    """
    frames, positions = costs.shape[1:]
    pairs = length_mask(audio_lengths, frames)[:, :, None] & length_mask(text_lengths, positions)[:, None, :]
    least = jnp.min(jnp.where(pairs, costs, UNREACHABLE), axis=2, keepdims=True)
    # Each frame is matched once, so its least cost can be subtracted, which keeps scores along paths small.
    down = _skewed(jnp.where(pairs, (least - costs) / temperature, IMPOSSIBLE))

    # Before the first frame and after the last, moves to the right are not allowed, unless there is one frame only.
    columns = jnp.arange(positions)
    last_frame = jnp.where(audio_lengths == 1, 1, audio_lengths - 1)[:, None]
    first_frame = jnp.where(audio_lengths == 1, 0, 1)[:, None]
    end_diagonal = (audio_lengths + text_lengths - 1)[:, None]
    at_end = columns == text_lengths[:, None] - 1

    def moves_right(diagonal, scores: Wide) -> Wide:
        """Return the scores where an edge to the right begins, and what stands for 0 elsewhere."""
        matched = diagonal - columns
        allowed = (matched >= first_frame) & (matched <= last_frame)
        return scores._replace(exponent=jnp.where(allowed, scores.exponent, wide.LOWEST))

    def advance(scores, edges):
        down, diagonal = edges
        after = wide.add(wide.multiply(scores, down), wide.moved(move_right, moves_right(diagonal, scores)))
        # The last diagonal of an utterance keeps its scores, whatever follows.
        return wide.where(diagonal < end_diagonal, after, scores), scores

    def retreat(scores, frame):
        (down, diagonal), prefix = frame
        via_down = wide.multiply(scores, down)
        via_right = moves_right(diagonal, wide.moved(move_left, scores))
        inside = diagonal < end_diagonal
        posterior = jnp.where(inside, wide.share(wide.multiply(prefix, via_down), whole), 0.0)
        return wide.where(inside, wide.add(via_down, via_right), scores), posterior

    def factors(frames):
        down, diagonals = frames
        return wide.from_log(down), diagonals

    in_block = wide.in_blocks(down)
    blocks = in_block, jnp.arange(in_block.shape[0] * in_block.shape[1]).reshape(in_block.shape[:2])
    # Made from the batch's own arrays, so that inside `jax.shard_map` it varies over the devices as they do.
    nowhere = at_end & ~at_end
    start = wide.ones_where(nowhere.at[:, 0].set(True))
    scores, starts = wide.run_forward(advance, factors, start, blocks)
    whole = wide.total(wide.multiply(scores, wide.ones_where(at_end)))
    posteriors = wide.run_backward(advance, retreat, factors, starts, wide.ones_where(at_end), blocks)
    return _straight(wide.joined(posteriors, len(down)), frames)


def _skewed(x):
    """Return the anti-diagonals [T + R - 1, B, R] of `x` [B, T, R], by columns: row d has x[:, d - j, j], or
    IMPOSSIBLE."""
    batch, frames, positions = x.shape
    x = jnp.pad(jnp.swapaxes(x, 1, 2), ((0, 0), (0, 0), (0, positions)), constant_values=IMPOSSIBLE)
    x = x.reshape(batch, -1)[:, : positions * (frames + positions - 1)]
    return jnp.transpose(x.reshape(batch, positions, frames + positions - 1), (2, 0, 1))


def _straight(x, frames):
    """Invert `_skewed`: [T + R - 1, B, R] to [B, T, R]."""
    diagonals, batch, positions = x.shape
    x = jnp.pad(jnp.transpose(x, (1, 2, 0)).reshape(batch, -1), ((0, 0), (0, positions)))
    return jnp.swapaxes(x.reshape(batch, positions, diagonals + 1)[:, :, :frames], 1, 2)
