"""Entropic optimal transport between the frames of audio and of text: any order, equal weight of every frame.

Sinkhorn's algorithm (Cuturi, NeurIPS 2013) in logarithms, from a high temperature down to the one asked for, which
takes far fewer rounds than beginning there.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

ROUNDS = 60
"""A fixed number: the plan of an utterance must not depend on what else is in its batch."""

COOLING = 0.8
"""From round to round, down to the temperature asked for."""


def transport_plan(
    costs: jax.Array, audio_mask: jax.Array, text_mask: jax.Array, temperature: float | jax.Array
) -> jax.Array:
    """The plan P that minimises sum_ij P_ij cost_ij - temperature · entropy(P), float32 [B, T, R].

    costs: float32 [B, T, R], finite in the padding; masks: bool [B, T] and [B, R], with at least one `True` each.
    Rows of frames sum to 1 and columns to T / R (nearly: the rows are set right last); the padding is exactly 0.
    """
    pairs = audio_mask[:, :, None] & text_mask[:, None, :]
    frames, positions = (jnp.maximum(mask.sum(axis=1, keepdims=True), 1) for mask in (audio_mask, text_mask))
    column_log_sum = jnp.log(frames / positions)
    hottest = jnp.max(jnp.where(pairs, costs, 0.0), axis=(1, 2))[:, None, None]

    def potentials(text_potential, round_):
        heat = jnp.maximum(hottest * COOLING**round_, temperature)
        scores = jnp.where(pairs, -costs / heat, -jnp.inf)
        audio_potential = -_log_sum(scores + (text_potential / heat[:, 0])[:, None, :], 2)
        text_potential = heat[:, 0] * (column_log_sum - _log_sum(scores + audio_potential[:, :, None], 1))
        return text_potential, None

    start = jnp.zeros_like(costs[:, 0])
    text_potential, _ = lax.scan(potentials, start, jnp.arange(ROUNDS, dtype=jnp.float32))
    scores = jnp.where(pairs, (text_potential[:, None, :] - costs) / temperature, -jnp.inf)
    return jnp.where(pairs, jnp.exp(scores - _log_sum(scores, 2)[:, :, None]), 0.0)


def _log_sum(scores, axis):
    """logsumexp that is 0 where all are -inf: padding has no potential."""
    highest = jnp.max(scores, axis=axis, keepdims=True)
    highest = jnp.where(jnp.isfinite(highest), highest, 0.0)
    total = jnp.sum(jnp.exp(scores - highest), axis=axis)
    return jnp.where(total > 0, jnp.log(jnp.maximum(total, 1e-37)), 0.0) + jnp.squeeze(highest, axis)
