"""Positive numbers with an exponent of their own, `mantissa * 2 ** exponent`, and recursions over them.

The recursions over alignments add and multiply probabilities that are far below the smallest number of float32. With their
logarithms, each sum of two takes an exponential and a logarithm. With a pair it takes a shift of the exponent that a float32
itself has, some ten cheap operations, and its error is that of a float32 sum.

Sums and products leave mantissas as they come, and `normalised` brings them back to 1 to 2. Factors from `from_log` are 1/2
to 1. So one sum of three numbers times such a factor lies within 1/2 and 3 times the numbers, and `BLOCK` of them, one
after the other, within 2 ** -16 and 2 ** 27.

A recursion therefore goes in blocks of that many frames (`run_forward`, `run_backward`). For the gradient its scores are kept
at the beginning of each block alone, and computed again inside it, where the backward recursion needs them. This is faster
on a CPU, where memory costs more than arithmetic, and takes less memory anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

BLOCK = 16
"""Number of sums and products after which mantissas must be normalised."""

LOWEST = -(2**29)
"""Exponent of numbers that stand for 0, and the lowest of normalised numbers."""

LOWEST_FACTOR = -(2**24)
"""Lowest exponent of a number of `from_log`; a block of them does not overflow below `LOWEST`."""

LOG2 = np.float32(np.log(2))

_MANTISSA, _ONE, _BIAS, _BITS = 0x7FFFFF, 0x3F800000, 127, 23
"""Layout of a float32: the bits of its mantissa, those of the number 1, the bias of its exponent, where that begins."""


class Wide(NamedTuple):
    """Numbers `mantissa * 2 ** exponent` of any shape."""

    mantissa: jax.Array
    """float32, positive."""
    exponent: jax.Array
    """int32."""


def ones_where(condition: jax.Array) -> Wide:
    """Return 1 where the condition holds, and what stands for 0 elsewhere."""
    exponent = jnp.where(condition, 0, LOWEST).astype(jnp.int32)
    return Wide(jnp.ones_like(exponent, jnp.float32), exponent)


def from_log(x: jax.Array) -> Wide:
    """Return `exp(x)` for float32 `x` at most 0, with mantissas of 1/2 to 1. What is below `2 ** LOWEST_FACTOR` becomes
    that."""
    binary = jnp.maximum(x / LOG2, LOWEST_FACTOR)
    exponent = jnp.floor(binary) + 1
    return Wide(jnp.exp2(binary - exponent), exponent.astype(jnp.int32))


def to_log(x: Wide) -> jax.Array:
    """Return the natural logarithm, float32."""
    return x.exponent.astype(jnp.float32) * LOG2 + jnp.log(x.mantissa)


def power_of_two(exponent: jax.Array) -> jax.Array:
    """Return `2 ** exponent`, float32, for int32 up to 127; 0 below -126."""
    return lax.bitcast_convert_type((jnp.maximum(exponent, -_BIAS) + _BIAS) << _BITS, jnp.float32)


def add(a: Wide, b: Wide) -> Wide:
    """Return the sums."""
    exponent = jnp.maximum(a.exponent, b.exponent)
    first, second = (x.mantissa * power_of_two(x.exponent - exponent) for x in (a, b))
    return Wide(first + second, exponent)


def multiply(a: Wide, b: Wide) -> Wide:
    """Return the products."""
    return Wide(a.mantissa * b.mantissa, a.exponent + b.exponent)


def normalised(x: Wide) -> Wide:
    """Return the same numbers with mantissas of 1 to 2."""
    bits = lax.bitcast_convert_type(x.mantissa, jnp.int32)
    mantissa = lax.bitcast_convert_type(bits & _MANTISSA | _ONE, jnp.float32)
    return Wide(mantissa, jnp.maximum(x.exponent + (bits >> _BITS) - _BIAS, LOWEST))


def where(condition: jax.Array, a: Wide, b: Wide) -> Wide:
    """Return the numbers of `a` where the condition holds, and of `b` elsewhere."""
    return Wide(*(jnp.where(condition, x, y) for x, y in zip(a, b)))


def in_blocks(x: jax.Array) -> jax.Array:
    """Return `x` [T, ...] as [N, BLOCK, ...], padded with zeros."""
    x = jnp.pad(x, [(0, -len(x) % BLOCK)] + [(0, 0)] * (x.ndim - 1))
    return x.reshape(-1, BLOCK, *x.shape[1:])


def joined(x: jax.Array, frames: int) -> jax.Array:
    """Return what `in_blocks` was given, [T, ...]."""
    return x.reshape(-1, *x.shape[2:])[:frames]


Scores = Any
"""Wide numbers, or a tuple of them."""
Frames = Any
"""What a recursion reads of its frames: arrays [N, BLOCK, ...], or a tuple of them."""
Factors = Callable[[Frames], Any]
"""Makes the factors of a frame of what it reads, such as wide numbers of their logarithms; for some frames at once."""
Advance = Callable[[Scores, Any], tuple[Scores, Any]]
"""Takes the scores and a frame's factors to the scores after it, and to what the way back needs to know of the frame."""
Retreat = Callable[[Scores, tuple[Any, Any]], tuple[Scores, jax.Array]]
"""Takes the backward scores after a frame, its factors and what `Advance` said of it to the scores before it and a result."""


def run_forward(advance: Advance, factors: Factors, start: Scores, frames: Frames) -> tuple[Scores, Scores]:
    """Return the scores after all frames, normalised, and those before each block, [N, ...]."""

    def block(scores, frames):
        scores = _all_normalised(scores)
        after, _ = lax.scan(lambda scores, one: (advance(scores, one)[0], None), scores, factors(frames))
        return after, scores

    scores, starts = lax.scan(block, start, frames)
    return _all_normalised(scores), starts


def run_backward(
    advance: Advance, retreat: Retreat, factors: Factors, starts: Scores, end: Scores, frames: Frames
) -> jax.Array:
    """Return the results of all frames, [N, BLOCK, ...], given what `run_forward` kept, `starts`, and the backward scores
    after the last frame."""

    def block_by_block(starts, end, frames):
        def block(scores, one):
            start, of_frames = one[0], factors(one[1])
            _, kept = lax.scan(advance, start, of_frames)
            return lax.scan(retreat, _all_normalised(scores), (of_frames, kept), reverse=True)

        return lax.scan(block, end, (starts, frames), reverse=True)[1]

    def all_at_once(starts, end, frames):
        def block(scores, one):
            return lax.scan(retreat, _all_normalised(scores), one, reverse=True)

        of_frames = factors(frames)
        _, kept = jax.vmap(lambda start, one: lax.scan(advance, start, one))(starts, of_frames)
        return lax.scan(block, end, (of_frames, kept), reverse=True)[1]

    # Steps of a scan take long on accelerators, which have the memory for the scores of all blocks.
    return lax.platform_dependent(starts, end, frames, cpu=block_by_block, default=all_at_once)


def share(part: Wide, whole: Wide) -> jax.Array:
    """Return `part / whole`, float32, for a normalised `whole`; 1 where rounding, or a `whole` that stands for 0, would make
    it more."""
    ratio = part.mantissa * power_of_two(jnp.minimum(part.exponent - whole.exponent, _BIAS)) / whole.mantissa
    return jnp.minimum(ratio, 1.0)


def total(x: Wide) -> Wide:
    """Return the sum of each row of numbers [B, U], normalised, [B, 1]."""
    x = normalised(x)
    highest = x.exponent.max(axis=1, keepdims=True)
    sums = jnp.sum(x.mantissa * power_of_two(x.exponent - highest), axis=1, keepdims=True)
    return normalised(Wide(sums, highest))


def moved(move: Callable[[jax.Array, Any], jax.Array], x: Wide) -> Wide:
    """Return numbers [B, U] moved to the next state or to the one before (`joint_st.ops.lattice`), with what stands for 0
    at the end."""
    return Wide(move(x.mantissa, 1.0), move(x.exponent, LOWEST))


def _all_normalised(scores: Scores) -> Scores:
    return jax.tree.map(normalised, scores, is_leaf=lambda x: isinstance(x, Wide))
