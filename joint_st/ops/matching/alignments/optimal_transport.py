"""Entropic optimal transport between the frames of audio and of text, in any order, with equal weight for every frame.

Sinkhorn's algorithm (Cuturi, NeurIPS 2013) goes from a high temperature down to the requested one, which takes far
fewer rounds than starting there. From one temperature to the next it keeps the logarithm of the columns' scale.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from joint_st.kinds import ALIGNMENTS
from joint_st.ops.lattice import IMPOSSIBLE
from joint_st.ops.matching.base import PlannedAlignment

TEMPERATURES = 40
"""Number of temperatures. It and the number of rounds are fixed, so that the plan of an utterance does not depend on
the rest of its batch."""

COOLING = 0.7
"""Factor from each temperature to the next, down to the requested one."""

ROUNDS = 5
"""Corrections of rows and columns at each temperature."""

SMALLEST = 1e-30
"""Smallest sum, so that one can divide by those of the padding."""


@ALIGNMENTS.register("optimal_transport")
class OptimalTransport(PlannedAlignment):
    """The entropic plan at a temperature, in any order."""

    def plan(self, costs, sides, temperature):
        return transport_plan(costs, sides.audio_mask, sides.text_mask, temperature)


def transport_plan(
    costs: jax.Array, audio_mask: jax.Array, text_mask: jax.Array, temperature: float | jax.Array
) -> jax.Array:
    """Return the plan P that minimises sum_ij P_ij cost_ij - temperature · entropy(P), float32 [B, T, R].

    costs: float32 [B, T, R], finite in the padding; masks: bool [B, T] and [B, R]. Rows of frames sum to 1 and columns
    to T / R (approximately, since the rows are corrected last); the padding is exactly 0. At temperatures below a
    thousandth of the highest cost, the plan is not quite optimal.
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
        # Nothing relevant in the plan underflows at this point, so its corrections need no logarithms.
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
