"""Functions that the dynamic programs share: scores or costs [B, U] of a row of states, and moves from state to state.

`IMPOSSIBLE` and `UNREACHABLE` are finite, so that no difference of two of them is NaN.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

IMPOSSIBLE = -1e30
"""Log probability of an impossible event."""

UNREACHABLE = 1e30
"""Cost of an impossible path, more than any other cost."""


def move_right(x: jax.Array, fill: float) -> jax.Array:
    """Return `x` [B, U] with each state's value moved to the next state, and `fill` at the first."""
    return jnp.concatenate([jnp.full_like(x[:, :1], fill), x[:, :-1]], axis=1)


def move_left(x: jax.Array, fill: float | bool) -> jax.Array:
    """Return `x` [B, U] with each state's value moved to the previous state, and `fill` at the last."""
    return jnp.concatenate([x[:, 1:], jnp.full_like(x[:, :1], fill)], axis=1)


def logaddexp(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return log(exp(a) + exp(b)) of finite numbers, without the treatment of infinities in `jnp.logaddexp`."""
    return jnp.maximum(a, b) + _log1p(jnp.exp(-jnp.abs(a - b)))


LOG1P = (
    0.9999999946562921,
    -0.4999989264806066,
    0.3332971049886077,
    -0.24951616262325693,
    0.19663274254514557,
    -0.15269667066800405,
    0.10543623782748641,
    -0.056373612704807494,
    0.019542527193507055,
    -0.0031760570031637565,
)
"""Coefficients of the polynomial that interpolates log(1 + x) / x at the 10 Chebyshev nodes of [0, 1], lowest first."""


def _log1p(x: jax.Array) -> jax.Array:
    """Return log(1 + x) for x from 0 to 1, to a relative error of 2e-7 in float32, as `jnp.log1p` has.

    `jnp.log1p` takes any x, by several times as many operations, and most of a recursion's time is spent here.
    """
    found = jnp.full_like(x, LOG1P[-1])
    for coefficient in LOG1P[-2::-1]:
        found = found * x + coefficient
    return found * x


def row_max(x: jax.Array) -> jax.Array:
    """Return the largest number of each row of `x` [B, U], [B, 1].

    In a scan it is best taken of the carried scores. A CPU keeps those in memory; others it would compute a second time.
    """

    def of_row(x):
        return x.max(axis=1, keepdims=True)

    return lax.platform_dependent(x, cpu=lambda x: of_row(_folded(x)), default=of_row)


def row_max_of(x: jax.Array) -> jax.Array:
    """Return the largest number of each row of `x` [B, U], [B, 1], where `x` is computed and not carried by a scan.

    Many columns are not folded, because each fold would compute `x` again.
    """
    return row_max(x) if x.shape[1] <= FOLD_BELOW else x.max(axis=1, keepdims=True)


FOLD_BELOW = 128
"""Number of columns up to which folding what is computed pays on a CPU."""

FOLD_ABOVE = 8
"""Number of columns that are not folded any more."""


def _folded(x: jax.Array) -> jax.Array:
    """Return the larger of two columns each of `x` [B, U], again and again until few columns are left.

    XLA's reduction of a row on a CPU goes one number at a time and takes several times as long. (The last columns are
    left to it all the same: what it returns is kept, where operations on columns would be repeated by every user.)
    """
    rest = []
    while x.shape[1] > FOLD_ABOVE:
        half = x.shape[1] // 2
        rest.append(x[:, 2 * half :])  # one column, or none
        x = jnp.maximum(x[:, :half], x[:, half : 2 * half])
    return jnp.concatenate([x, *rest], axis=1)
