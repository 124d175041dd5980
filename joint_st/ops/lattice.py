"""Functions that the dynamic programs share: scores or costs [B, U] of a row of states, and moves from state to state.

`IMPOSSIBLE` and `UNREACHABLE` are finite, so that no difference of two of them is NaN.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

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
    return jnp.maximum(a, b) + jnp.log1p(jnp.exp(-jnp.abs(a - b)))
