"""Positive numbers with an exponent of their own: `mantissa * 2 ** exponent`, float32 and int32.

The recursions over alignments add and multiply probabilities that are far below the smallest number of float32. With their
logarithms, each sum of two takes an exponential and a logarithm. With a pair it takes a shift of the exponent that a float32
itself has, some ten cheap operations, and its error is that of a float32 sum.

Sums and products leave mantissas as they come, and `normalised` brings them back to 1 to 2. Factors from `from_log` are 1/2
to 1. So one sum of three numbers times such a factor lies within 1/2 and 3 times the numbers, and `BLOCK` of them, one
after the other, within 2 ** -16 and 2 ** 27.
"""

from __future__ import annotations

from typing import NamedTuple

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
    shifted = (x.mantissa * power_of_two(x.exponent - exponent) for x in (a, b))
    return Wide(sum(shifted), exponent)


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
