"""The consistency of paired audio and text: how far apart their embeddings are along an alignment."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from joint_st.kinds import ALIGNMENTS
from joint_st.ops.masks import length_mask
from joint_st.ops.matching.base import AlignmentKind, Given, PathAlignment, Sides
from joint_st.ops.matching.cost import COSTS, comparable

DEFAULT = "skip"
"""The alignment of arXiv 2308.06125."""


class Alignment(NamedTuple):
    position: jax.Array
    """Text position that each frame is matched with, int32 [B, T]; 0 in the padding and where not feasible."""
    feasible: jax.Array
    """Whether there is at least one such alignment, bool [B]."""


class AlignmentLoss(NamedTuple):
    value: jax.Array
    """Mean over the frames of the distance to what they are matched with, float32 [B]; 0 where not feasible."""
    frames: jax.Array
    """Number of matched frames, float32 [B], the weight of `value` in a mean over frames; 0 where not feasible."""
    position: jax.Array
    """Text position that each frame is matched with, or the likeliest, int32 [B, T]."""
    coverage: jax.Array
    """Share of the text positions that some frame is matched with, float32 [B], computed from `position`; 1 for
    `dtw`."""


def alignment_kind(name: str) -> AlignmentKind:
    """Return the alignment of a name. Raises `ValueError` where there is none."""
    return ALIGNMENTS[name]()


def cheapest(name: str) -> str:
    """Return the alignment that shows how a model trained with the alignment `name` matches speech and text.

    It is `name` itself if that minimises the cost, otherwise `DEFAULT`.
    """
    return name if alignment_kind(name).cheapest else DEFAULT


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
    """Return the cheapest monotonic alignment of each utterance, or one that does not depend on the embeddings.

    audio: [B, T, D], text: [B, R, D], of any precision; lengths: int [B], at most T and R. Padding may hold anything.
    moves, cost: as `alignment` and `cost` in `alignment_loss`. moves is one of `skip`, `step`, `dtw` (the middle one of
    the text positions that a frame is matched with), `frame_wise` and `random`, which needs `key`. All lead from the
    text's first position to its last, except that a single frame has one position, and that `dtw` gives middle ones. No
    gradient flows through the positions.
    """
    kind = _checked(moves, cost, Given(key=key))
    if not isinstance(kind, PathAlignment):
        raise ValueError(f"alignment {moves!r}: is not a path; only alignment_loss takes it")
    feasible = kind.feasible(audio_lengths, text_lengths)
    if 0 in (audio.shape[1], text.shape[1]):
        return Alignment(jnp.zeros(audio.shape[:2], jnp.int32), feasible)
    sides = _sides(audio, text, audio_lengths, text_lengths, feasible, cost)
    first, last = kind.runs(sides, key)
    return Alignment(jnp.where(sides.audio_mask, (first + last) // 2, 0), feasible)


def alignment_loss(
    audio: jax.Array,
    text: jax.Array,
    audio_lengths: jax.Array,
    text_lengths: jax.Array,
    *,
    alignment: str = DEFAULT,
    cost: str = "squared_l2",
    temperature: float | jax.Array = 1.0,
    given: jax.Array | None = None,
    key: jax.Array | None = None,
) -> AlignmentLoss:
    """Return the mean over audio frames of the distance to the text frames with which an alignment matches them.

    audio: [B, T, D], text: [B, R, D], of any precision; lengths: int [B], at most T and R. Everything is computed
    in float32. Several layers are best folded into the batch. What stands in the padding, NaN included, changes no
    value and no gradient, and the gradient there is exactly 0.

    alignment: the name of a file in `alignments/`; the alignment is held constant for the gradient.
    temperature: of `soft` and `optimal_transport`, in units of the cost. given: text positions int [B, T] for `given`,
    negative for a frame that is not matched. key: for `random`.
    cost: `squared_l2`, `cosine` (1 - cos) or `normalized_l2` (squared L2 after layer normalisation).

    An utterance without frames, without text, or that `step` cannot align is not feasible: value, `frames` and gradient
    are 0. NaN in a frame of a feasible utterance makes its value NaN.
    """
    extra = Given(temperature, given, key)
    kind = _checked(alignment, cost, extra)
    feasible = kind.feasible(audio_lengths, text_lengths)
    if 0 in (audio.shape[1], text.shape[1]):
        zeros = jnp.zeros(audio.shape[0], jnp.float32)
        return AlignmentLoss(zeros, zeros, jnp.zeros(audio.shape[:2], jnp.int32), zeros)
    sides = _sides(audio, text, audio_lengths, text_lengths, feasible, cost)
    matched = kind.match(sides, extra)
    position = jnp.where(matched.frames, matched.position, 0).astype(jnp.int32)
    frames = matched.frames.sum(axis=1).astype(jnp.float32)
    all_covered = feasible.astype(jnp.float32)
    coverage = all_covered if kind.covers_text else _coverage(position, matched.frames, sides.text_mask)
    return AlignmentLoss(matched.total / jnp.maximum(frames, 1.0), frames, position, coverage)


def _sides(audio, text, audio_lengths, text_lengths, feasible, cost) -> Sides:
    audio_mask = length_mask(audio_lengths, audio.shape[1]) & feasible[:, None]
    text_mask = length_mask(text_lengths, text.shape[1]) & feasible[:, None]
    audio, text = comparable(audio, audio_mask, cost), comparable(text, text_mask, cost)
    return Sides(audio, text, audio_lengths, text_lengths, audio_mask, text_mask)


def _coverage(position, frames, text_mask):
    matched = (position[:, :, None] == jnp.arange(text_mask.shape[1])) & frames[:, :, None]
    count = jnp.sum(matched.any(axis=1) & text_mask, axis=1)
    return count / jnp.maximum(text_mask.sum(axis=1), 1).astype(jnp.float32)


def _checked(alignment: str, cost: str, given: Given) -> AlignmentKind:
    if alignment not in ALIGNMENTS.names():
        raise ValueError(f"alignment {alignment!r}: not one of {', '.join(ALIGNMENTS.names())}")
    if cost not in COSTS:
        raise ValueError(f"cost {cost!r}: not one of {', '.join(COSTS)}")
    kind = alignment_kind(alignment)
    if kind.needs_key and given.key is None:
        raise ValueError(f"alignment {alignment!r}: needs a random key; pass `key`")
    if kind.needs_positions and given.positions is None:
        raise ValueError(f"alignment {alignment!r}: needs text positions; pass `given`")
    return kind
