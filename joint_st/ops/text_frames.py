"""Turns text units into text frames: how often each unit is repeated, and which spans of frames are masked.

Speech is several times longer than its phonemes; repeating units brings the lengths together and leaves CTC room
for the labels (JOIST, arXiv 2210.07353).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from joint_st.ops.masks import length_mask

ROUNDED_TO = 8
"""Bounds are rounded up to a multiple of this many frames."""

DEVIATIONS = 4.0
"""Standard deviations by which the bound on drawn repetitions exceeds their expected sum."""


def frames_bound(units: int, least: int, most: int) -> int:
    """Return a number of frames that holds `units` units, each repeated `least` to `most` times, drawn uniformly.

    A drawn sum exceeds the bound with a probability below 1e-4, and `draw_repetitions` avoids it then.
    """
    mean, variance = (least + most) / 2, ((most - least + 1) ** 2 - 1) / 12
    bound = min(units * most, math.ceil(units * mean + DEVIATIONS * math.sqrt(units * variance)))
    return -(-bound // ROUNDED_TO) * ROUNDED_TO


def even_repetitions(lengths: jax.Array, units: int, least: int, most: int) -> jax.Array:
    """Return repetitions [B, U], 0 in the padding, whose running mean is as close below `(least + most) / 2` as
    possible."""
    ends = (jnp.arange(units + 1) * (least + most)) // 2
    return jnp.where(length_mask(lengths, units), jnp.diff(ends), 0).astype(jnp.int32)


def draw_repetitions(key: jax.Array, lengths: jax.Array, units: int, least: int, most: int) -> jax.Array:
    """Draw repetitions [B, U] uniformly from `least`..`most` for each unit, 0 in the padding.

    A row whose sum exceeds `frames_bound` gets `even_repetitions` instead, so that no unit is ever cut off.
    """
    even = even_repetitions(lengths, units, least, most)
    drawn = jax.random.randint(key, even.shape, least, most + 1, jnp.int32)
    drawn = jnp.where(length_mask(lengths, units), drawn, 0)
    fits = drawn.sum(axis=1, keepdims=True) <= frames_bound(units, least, most)
    return jnp.where(fits, drawn, even)


def unit_of_frame(repetitions: jax.Array, frames: int) -> tuple[jax.Array, jax.Array]:
    """Return which unit each of `frames` text frames repeats, int32 [B, R] (0 in the padding), and the mask [B, R]."""
    ends = jnp.cumsum(repetitions, axis=1)
    mask = length_mask(ends[:, -1], frames)
    # The number of units that have ended by a frame, counted by comparisons, which vectorise; a search would not.
    unit = jnp.sum(ends[:, None, :] <= jnp.arange(frames)[None, :, None], axis=-1, dtype=jnp.int32)
    return jnp.where(mask, unit, 0), mask


def durations(unit_ends: jax.Array, unit_lengths: jax.Array, frames: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the number of frames [B, U] that each unit lasts in `frames` [B] of audio, and whether that is known [B].

    `unit_ends` [B, U] are the frames (exclusive) at which units end, zeros where the times are unknown. The last unit
    lasts until the end of the audio.
    """
    units = unit_ends.shape[1]
    position = jnp.arange(units)
    last = position == unit_lengths[:, None] - 1
    ends = jnp.where(last, frames[:, None], jnp.minimum(unit_ends, frames[:, None]))
    unit_frames = jnp.diff(ends, axis=1, prepend=0)
    known = (jnp.max(unit_ends, axis=1, initial=0) > 0) & (unit_lengths > 0)
    return jnp.where(length_mask(unit_lengths, units) & known[:, None], unit_frames, 0), known


def position_by_durations(unit_frames: jax.Array, repetitions: jax.Array, frames: int) -> jax.Array:
    """Return the text frame [B, T] of each of `frames` audio frames, if unit `u` lasts `unit_frames` [B, U] frames.

    Within a unit, audio frames are mapped proportionally to the unit's repetitions.
    """
    unit, _ = unit_of_frame(unit_frames, frames)

    def of_unit(values):
        return jnp.take_along_axis(values, unit, axis=1)

    within = jnp.arange(frames) - of_unit(jnp.cumsum(unit_frames, axis=1) - unit_frames)
    first = of_unit(jnp.cumsum(repetitions, axis=1) - repetitions)
    last = first + jnp.maximum(of_unit(repetitions) - 1, 0)
    return jnp.clip(first + within * of_unit(repetitions) // jnp.maximum(of_unit(unit_frames), 1), first, last)


def draw_spans(key: jax.Array, mask: jax.Array, share: float, span: int) -> jax.Array:
    """Draw the frames [B, R] of masked spans: each frame is masked with probability `share`; spans are `span` frames
    long and may overlap.

    Every frame begins a span with a probability `p` such that `1 - (1 - p) ** span = share`; spans may begin before the
    first frame, so that it is masked with the same probability.
    """
    begin = 1 - (1 - share) ** (1 / span)
    rows, frames = mask.shape
    begins = jax.random.bernoulli(key, begin, (rows, frames + span - 1)).astype(jnp.int32)
    through = jnp.pad(jnp.cumsum(begins, axis=1), ((0, 0), (1, 0)))
    return mask & (through[:, span:] > through[:, :-span])


class ConfusionRates(NamedTuple):
    """Probabilities by which units are confused, as sums over the units up to each, which draws need."""

    heard: np.ndarray
    """Probability that what is heard for a unit (row) is one of the units up to the column, float32 [V, V]; column 0,
    the blank, is that it is missed."""
    inserted: np.ndarray
    """Probability that an inserted unit is one of those up to each, float32 [V]."""
    insertion_rate: float
    """Insertions for each unit of a text."""


def draw_up_to(key: jax.Array, up_to: jax.Array) -> jax.Array:
    """Draw a number of 0 to V - 1 for each row of `up_to` [..., V], the probabilities of a number up to each; int32."""
    drawn = jax.random.uniform(key, up_to.shape[:-1])
    return jnp.sum(up_to <= drawn[..., None], axis=-1, dtype=jnp.int32)


def cover_missed(heard: jax.Array, units: jax.Array) -> jax.Array:
    """Return what is heard for each of `units` [B, U] (0 in the padding), where what is missed (0 in `heard`) is what is heard
    before it in its row, or else the first that is heard after; int32 [B, U].

    So its frames prolong a neighbour, as in speech, which has no gap there.
    """
    there = heard != 0
    before = jax.lax.cummax(jnp.where(there, jnp.arange(heard.shape[1]), -1), axis=1)
    source = jnp.where(before < 0, jnp.argmax(there, axis=1, keepdims=True), before)
    return jnp.where(units != 0, jnp.take_along_axis(heard, source, axis=1), heard)


def draw_insertions(key: jax.Array, unit: jax.Array, mask: jax.Array, rate: float, within: bool) -> jax.Array:
    """Draw the frames [B, R] that an inserted unit takes, `rate` for each unit of a row on average.

    Only frames that repeat the unit of the frame before them are taken, so that no unit is lost; where there are too few
    of them, all are. unit: the unit of each frame, with its `mask`, as of `unit_of_frame`. within: whether all such frames
    are taken, as where repeats are blanks; otherwise only the last of a unit, since the unit would be read twice around
    any other.
    """
    same = unit[:, 1:] == unit[:, :-1]
    repeats = mask & jnp.pad(same, ((0, 0), (1, 0)))
    units = mask.sum(axis=1) - repeats.sum(axis=1)
    if not within:
        repeats &= ~jnp.pad(same & mask[:, 1:], ((0, 0), (0, 1)))
    room = repeats.sum(axis=1)
    share = rate * units / jnp.maximum(room, 1)
    return repeats & (jax.random.uniform(key, unit.shape) < share[:, None])


def draw_substitutes(key: jax.Array, units: jax.Array, share: float, size: int) -> jax.Array:
    """Replace each of `units` [B, U] with probability `share` by one drawn from 0 (CTC's blank) to `size - 1`.

    Instead of unit 1, the unknown unit, the blank is drawn; the unit itself may be drawn too.
    """
    where_key, which_key = jax.random.split(key)
    drawn = jax.random.randint(which_key, units.shape, 0, size, units.dtype)
    others = jnp.where(drawn == 1, 0, drawn)
    return jnp.where(jax.random.bernoulli(where_key, share, units.shape), others, units)
