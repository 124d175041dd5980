"""Entropic optimal transport between the frames of audio and of text: any order, equal weight of every frame.

Sinkhorn's algorithm (Cuturi, NeurIPS 2013) from a high temperature down to the one asked for, which takes far fewer
rounds than beginning there. From one temperature to the next it carries the logarithm of the columns' scale.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from joint_st.kinds import ALIGNMENTS
from joint_st.ops.lattice import IMPOSSIBLE
from joint_st.ops.matching.base import PlannedAlignment

TEMPERATURES = 40
"""Number of temperatures, fixed as that of the rounds is: the plan of an utterance must not depend on what else is in
its batch."""

COOLING = 0.7
"""Factor from each temperature to the next, down to the one asked for."""

ROUNDS = 5
"""Corrections of rows and columns at each temperature."""

SMALLEST = 1e-30
"""Sums are not taken below this, so that those of the padding can be divided by."""


@ALIGNMENTS.register("optimal_transport")
class OptimalTransport(PlannedAlignment):
    """The entropic plan at a temperature, in any order."""

    def plan(self, costs, sides, temperature):
        return transport_plan(costs, sides.audio_mask, sides.text_mask, temperature)


def transport_plan(
    costs: jax.Array, audio_mask: jax.Array, text_mask: jax.Array, temperature: float | jax.Array
) -> jax.Array:
    """The plan P that minimises sum_ij P_ij cost_ij - temperature · entropy(P), float32 [B, T, R].

    costs: float32 [B, T, R], finite in the padding; masks: bool [B, T] and [B, R].
    Rows of frames sum to 1 and columns to T / R (nearly: the rows are set right last); the padding is exactly 0.
    Below a thousandth of the highest cost the plan is not quite the best at its temperature.
    """
    pairs = audio_mask[:, :, None] & text_mask[:, None, :]
    hottest = jnp.max(jnp.where(pairs, costs, 0.0), axis=(1, 2))[:, None, None]
    frames, positions = (jnp.maximum(mask.sum(axis=1, keepdims=True), 1) for mask in (audio_mask, text_mask))
    column_sums = frames / positions

    def rows_right(text_potential, heat):
        scores = jnp.where(pairs, (text_potential[:, None, :] - costs) / heat, IMPOSSIBLE)
        return jnp.where(pairs, jax.nn.softmax(scores, axis=2), 0.0)

    def cool(text_potential, step):
        heat = jnp.maximum(hottest * COOLING**step, temperature)
        # Of the plan so far nothing that matters underflows, so its corrections need no logarithms.
        plan = rows_right(text_potential, heat)

        def correct(_, column_scale):
            row_sums = jnp.einsum("btr,br->bt", plan, column_scale)
            row_scale = 1.0 / jnp.maximum(row_sums, SMALLEST)
            sums = jnp.einsum("btr,bt->br", plan, jnp.where(audio_mask, row_scale, 0.0))
            return column_sums / jnp.maximum(sums, SMALLEST)

        column_scale = lax.fori_loop(0, ROUNDS, correct, jnp.ones_like(text_potential))
        change = jnp.where(text_mask, heat[:, 0] * jnp.log(column_scale), 0.0)
        return text_potential + change, None

    start = jnp.zeros_like(costs[:, 0])
    text_potential, _ = lax.scan(cool, start, jnp.arange(TEMPERATURES, dtype=jnp.float32))
    return rows_right(text_potential, temperature)
