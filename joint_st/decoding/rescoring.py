"""Rescoring: a language model scores each hypothesis of a beam as a whole, and they are sorted again.

    score = score of the search + weight * log probability + bonus * length

A model that is too slow to be used in each frame, or that has other tokens than the fused one, can still choose among
the hypotheses of the search. Lengths count the model's own tokens: words for a model over words, labels for others.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from joint_st.decoding.fusion.label_lm import LabelLM
from joint_st.decoding.fusion.neural_lm import NeuralLM
from joint_st.decoding.fusion.word_lm import WordLM
from joint_st.ops.prefix_beam import NBest


class RescoringWeights(NamedTuple):
    """Weights of the model, for natural logarithms. They are arguments of a compiled search, not constants in it."""

    weight: Any = 0.5
    """Factor of the model's log probability, penalties of unknown words included."""
    bonus: Any = 0.0
    """Added for each word, or each label if the model is over labels."""
    unknown_penalty: Any = 10.0
    """Subtracted from the log probability of each word, or label, that the model does not know."""


class Judged(NamedTuple):
    """A language model's scores of hypotheses."""

    log_probs: jax.Array
    """Log probability of each hypothesis and its end, less the penalties of unknown words, float32 [..., N]."""
    counts: jax.Array
    """Number of words, or labels, in each hypothesis, float32 [..., N]."""


class Rescoring(NamedTuple):
    """A language model for whole hypotheses: any part of a fusion that scores label by label."""

    lm: LabelLM | WordLM | NeuralLM
    weights: RescoringWeights

    def judge(self, labels: jax.Array, lengths: jax.Array) -> Judged:
        """Score `labels` int32 [B, N, T], `lengths` [B, N] of them; all hypotheses at once, label by label."""
        # Log probability and length are computed together, so that a neural model, to which the weights mean nothing,
        # takes one step for both.
        weights = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).at[0, 2].set(self.weights.unknown_penalty)

        def one(labels, length):
            """Return log probability and length of one hypothesis, scored as a beam of one prefix."""

            def read(carry, label_at):
                label, place = label_at
                judged, state = carry
                lengthen = jax.vmap(lambda of: self.lm.lengthen(state, label[None], *of), out_axes=(0, None))
                gains, after = lengthen(weights)
                carry_after = judged + gains[:, 0, 0], jax.tree.map(lambda x: x[:, 0], after)
                there = place < length
                return jax.tree.map(lambda new, old: jnp.where(there, new, old), carry_after, carry), None

            start = jnp.zeros(2), jax.tree.map(lambda x: jnp.asarray(x)[None], self.lm.start())
            (judged, state), _ = jax.lax.scan(read, start, (labels, jnp.arange(labels.size)))
            return Judged(*(judged + jax.vmap(lambda of: self.lm.finish(state, *of))(weights)[:, 0]))

        return jax.vmap(jax.vmap(one))(labels, lengths)

    def rescore(self, found: NBest) -> NBest:
        """Sort the hypotheses by their new scores, the best first; empty places of the beam stay last."""
        judged = self.judge(found.labels, found.lengths)
        # Minus infinity marks an empty place of the beam.
        scores = found.scores + self.weights.weight * judged.log_probs + self.weights.bonus * judged.counts
        order = jnp.argsort(scores, axis=1, descending=True)
        return NBest(
            jnp.take_along_axis(found.labels, order[..., None], axis=1),
            jnp.take_along_axis(found.lengths, order, axis=1),
            jnp.take_along_axis(scores, order, axis=1),
        )
