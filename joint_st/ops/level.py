"""Running means over all frames so far, which measure how loud a recording is without look-ahead."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class RunningMean(NamedTuple):
    """State of a running mean between the pieces of a stream."""

    total: jax.Array
    """Sum of the frames so far, float32 [B, C]."""
    frames: jax.Array
    """Number of frames so far, float32 [B]."""


def start_mean(batch: int, channels: int) -> RunningMean:
    """Return the state of a running mean before the first frame."""
    return RunningMean(jnp.zeros((batch, channels), jnp.float32), jnp.zeros(batch, jnp.float32))


def running_mean(x: jax.Array, state: RunningMean, weight: float = 0.0) -> tuple[jax.Array, RunningMean]:
    """Return the mean [B, F, C] of all frames up to and including each frame of `x` [B, F, C], and the state after the
    last.

    weight: frames of zeros that are assumed before the first one; they pull the first means towards zero.
    """
    totals = state.total[:, None] + jnp.cumsum(x, axis=1)
    counts = state.frames[:, None] + jnp.arange(1, x.shape[1] + 1)
    return totals / (counts + weight)[..., None], RunningMean(totals[:, -1], counts[:, -1])
