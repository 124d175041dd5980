"""The consistency of paired audio and text: how far apart their embeddings are along an alignment."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from joint_st.ops.masks import length_mask
from joint_st.ops.matching import cost as costs_of
from joint_st.ops.matching import fixed, monotonic
from joint_st.ops.matching.soft import soft_plan
from joint_st.ops.matching.transport import transport_plan

HARD = ("skip", "step", "dtw", "frame_wise", "random")
PLANS = ("soft", "optimal_transport")
ALIGNMENTS = (*HARD, *PLANS, "given")


class Alignment(NamedTuple):
    position: jax.Array
    """int32 [B, T]: the text position each frame is matched with; 0 in the padding and where not feasible."""
    feasible: jax.Array
    """bool [B]: there is at least one such alignment."""


class AlignmentLoss(NamedTuple):
    value: jax.Array
    """float32 [B]: mean over the frames of the distance to what they are matched with; 0 where not feasible."""
    frames: jax.Array
    """float32 [B]: the weight of `value` in a mean over frames: how many frames are matched, 0 where not feasible."""
    position: jax.Array
    """int32 [B, T]: the text position each frame is matched with, or the likeliest."""
    coverage: jax.Array
    """float32 [B]: share of the text positions that some frame is matched with (by `position`; all, for `dtw`)."""


def align(
    audio: jax.Array,
    text: jax.Array,
    audio_lengths: jax.Array,
    text_lengths: jax.Array,
    *,
    moves: str,
    cost: str = "squared_l2",
    key: jax.Array | None = None,
) -> Alignment:
    """The cheapest monotonic alignment of each utterance, or one that does not look at the embeddings.

    audio: [B, T, D], text: [B, R, D], of any precision; lengths: int [B], at most T and R. Padding may hold anything.
    moves, cost: as in `alignment_loss`; here one of `skip`, `step`, `dtw` (of the text positions that a frame is
    matched with, the middle one), `frame_wise` and `random`, which needs `key`.
    All lead from the text's first position to its last.
    No gradient flows through the positions.
    """
    _check(moves, HARD, cost, key=key)
    feasible = _feasible(audio_lengths, text_lengths, moves)
    audio_mask = length_mask(audio_lengths, audio.shape[1]) & feasible[:, None]
    text_mask = length_mask(text_lengths, text.shape[1]) & feasible[:, None]
    if 0 in (audio.shape[1], text.shape[1]):
        return Alignment(jnp.zeros(audio.shape[:2], jnp.int32), feasible)
    first, last = _runs(
        costs_of.comparable(audio, audio_mask, cost),
        costs_of.comparable(text, text_mask, cost),
        audio_lengths,
        text_lengths,
        text_mask,
        moves=moves,
        key=key,
    )
    return Alignment(jnp.where(audio_mask, (first + last) // 2, 0), feasible)


def alignment_loss(
    audio: jax.Array,
    text: jax.Array,
    audio_lengths: jax.Array,
    text_lengths: jax.Array,
    *,
    alignment: str = "skip",
    cost: str = "squared_l2",
    temperature: float | jax.Array = 1.0,
    given: jax.Array | None = None,
    key: jax.Array | None = None,
) -> AlignmentLoss:
    """Mean over audio frames of the distance to the text frames that an alignment matches them with.

    audio: [B, T, D], text: [B, R, D], of any precision; lengths: int [B], at most T and R. Everything is computed
    in float32. Several layers are best folded into the batch. What stands in the padding, NaN included, changes no
    value and no gradient, and the gradient there is exactly 0.

    alignment, which is held constant for the gradient:
    - `skip`: the cheapest; from a frame to the next the text position stays or moves forward by any number
      (arXiv 2308.06125), anchored at both ends of the text;
    - `step`: the cheapest; stay or move forward by one. Needs at least as many frames as text positions;
    - `dtw`: the cheapest; a frame may also be matched with several text positions. All of these pairs are summed,
      and the sum divided by the frames, so it is more than a mean over pairs;
    - `soft`: every alignment of `skip`, by its likelihood at the given `temperature` (in units of the cost). The
      value is the expected distance, at least 0 and on the scale of `skip`, which it tends to as the temperature
      tends to 0. Its gradient is that of the soft minimum, `-temperature · log sum exp(-cost / temperature)`: the
      plan held constant, as everywhere here. (That of the expectation would push unlikely pairs apart.);
    - `optimal_transport`: the entropic plan at `temperature`, in any order. The value and its gradient likewise;
    - `frame_wise`: a straight line; `random`: drawn with `key`, uniformly from all that `skip` may choose;
    - `given`: text positions int [B, T]; negative for a frame that is not matched.

    cost: `squared_l2`, `cosine` (1 - cos) or `normalized_l2` (squared L2 after layer normalisation).

    An utterance without frames, without text, or that `step` cannot align is not feasible: value, weight and
    gradient are 0. NaN in a frame of a feasible utterance makes its value NaN. `frames / audio_lengths` tells how
    many are not feasible.
    """
    _check(alignment, ALIGNMENTS, cost, key=key, given=given)
    feasible = _feasible(audio_lengths, text_lengths, alignment)
    audio_mask = length_mask(audio_lengths, audio.shape[1]) & feasible[:, None]
    text_mask = length_mask(text_lengths, text.shape[1]) & feasible[:, None]
    if 0 in (audio.shape[1], text.shape[1]):
        zeros = jnp.zeros(audio.shape[0], jnp.float32)
        return AlignmentLoss(zeros, zeros, jnp.zeros(audio.shape[:2], jnp.int32), zeros)
    audio = costs_of.comparable(audio, audio_mask, cost)
    text = costs_of.comparable(text, text_mask, cost)

    if alignment in PLANS:
        total, position = _planned(
            audio, text, audio_lengths, text_lengths, audio_mask, text_mask, alignment, temperature
        )
    elif alignment == "given":
        assert given is not None  # `_check`
        audio_mask &= given >= 0
        position = jnp.clip(given, 0, jnp.maximum(text_lengths - 1, 0)[:, None])
        total = _sum(costs_of.matched_costs(audio, text, position), audio_mask)
    else:
        first, last = _runs(
            lax.stop_gradient(audio),
            lax.stop_gradient(text),
            audio_lengths,
            text_lengths,
            text_mask,
            moves=alignment,
            key=key,
        )
        position = (first + last) // 2
        total = _sum(costs_of.matched_costs(audio, text, last), audio_mask)
        if alignment == "dtw":
            # Positions of a frame's run before its last are in one run only: of the first frame that goes beyond.
            positions = jnp.arange(text.shape[1])
            frame = jnp.sum((last[:, :, None] <= positions) & audio_mask[:, :, None], axis=1)
            frame = jnp.minimum(frame, jnp.maximum(audio_lengths - 1, 0)[:, None])
            in_run = positions >= jnp.take_along_axis(first, frame, axis=1)
            in_run &= positions < jnp.take_along_axis(last, frame, axis=1)
            total += _sum(costs_of.matched_costs(text, audio, frame), in_run & text_mask)

    position = jnp.where(audio_mask, position, 0).astype(jnp.int32)
    frames = audio_mask.sum(axis=1).astype(jnp.float32)
    coverage = feasible.astype(jnp.float32) if alignment == "dtw" else _coverage(position, audio_mask, text_mask)
    return AlignmentLoss(total / jnp.maximum(frames, 1.0), frames, position, coverage)


def _runs(audio, text, audio_lengths, text_lengths, text_mask, *, moves, key):
    """The first and the last text position each frame is matched with, int32 [B, T] each."""
    size = audio.shape[1]
    if moves == "dtw":
        costs = costs_of.path_costs(audio, text, text_mask, relative=False)
        first, last = monotonic.dtw_path(costs, audio_lengths, text_lengths)
        return first, last
    if moves == "frame_wise":
        position = fixed.frame_wise(audio_lengths, text_lengths, size)
    elif moves == "random":
        position = fixed.random_monotonic(key, audio_lengths, text_lengths, size, text.shape[1])
    else:
        costs = costs_of.path_costs(audio, text, text_mask, relative=True)
        if moves == "skip":
            position = monotonic.skip_path(costs, audio_lengths, text_lengths)
        else:
            position = monotonic.step_path(costs, audio_lengths, text_lengths)
    position = jnp.clip(position, 0, text.shape[1] - 1)
    return position, position


def _planned(audio, text, audio_lengths, text_lengths, audio_mask, text_mask, alignment, temperature):
    """Sum over frames of the expected cost, float32 [B], and each frame's likeliest position, [B, T]."""
    costs = costs_of.pairwise_costs(lax.stop_gradient(audio), lax.stop_gradient(text))
    if alignment == "soft":
        plan = soft_plan(costs, jnp.maximum(audio_lengths, 1), jnp.maximum(text_lengths, 1), temperature)
        plan = jnp.where(audio_mask[:, :, None] & text_mask[:, None, :], plan, 0.0)
    else:
        plan = transport_plan(costs, audio_mask, text_mask, temperature)
    return costs_of.expected_cost(audio, text, text_mask, costs, plan), jnp.argmax(plan, axis=2)


def _feasible(audio_lengths, text_lengths, alignment):
    feasible = (audio_lengths > 0) & (text_lengths > 0)
    return feasible & (audio_lengths >= text_lengths) if alignment == "step" else feasible


def _sum(costs, mask):
    return jnp.sum(jnp.where(mask, costs, 0.0), axis=1)


def _coverage(position, audio_mask, text_mask):
    matched = (position[:, :, None] == jnp.arange(text_mask.shape[1])) & audio_mask[:, :, None]
    count = jnp.sum(matched.any(axis=1) & text_mask, axis=1)
    return count / jnp.maximum(text_mask.sum(axis=1), 1).astype(jnp.float32)


def _check(alignment, alignments, cost, *, key=None, given=None):
    if alignment not in alignments:
        raise ValueError(f"alignment {alignment!r}: not one of {', '.join(alignments)}")
    if cost not in costs_of.COSTS:
        raise ValueError(f"cost {cost!r}: not one of {', '.join(costs_of.COSTS)}")
    if alignment == "random" and key is None:
        raise ValueError("alignment 'random': needs a random key; pass `key`")
    if alignment == "given" and given is None:
        raise ValueError("alignment 'given': needs text positions; pass `given`")
