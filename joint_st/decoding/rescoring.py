"""Rescoring: a language model scores each hypothesis of a beam as a whole, and they are sorted again.

    score = score of the search + weight * log probability + bonus * length

A model that is too slow to be used in each frame, or that has other tokens than the fused one, can still choose among
the hypotheses of the search. Lengths count the model's own tokens: words for a model over words, labels for others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from joint_st.decoding.fusion.label_lm import LabelLM
from joint_st.decoding.fusion.neural_lm import NeuralLM
from joint_st.decoding.fusion.word_lm import WordLM
from joint_st.decoding.piece import Piece, read_labels
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
    """Log probability of each hypothesis and its end, less the penalties of unknown words, float32 [..., N]; of a piece
    that the text goes on after, with what its labels have yet to add (`Fusion.pending`) instead of the end."""
    counts: jax.Array
    """Number of words, or labels, in each hypothesis, float32 [..., N]."""


class Rescoring(NamedTuple):
    """A language model for whole hypotheses: any part of a fusion that scores label by label."""

    lm: LabelLM | WordLM | NeuralLM
    weights: RescoringWeights

    def judge(self, labels: jax.Array, lengths: jax.Array, piece: Piece | None = None) -> Judged:
        """Score `labels` int32 [B, N, T], `lengths` [B, N] of them; all hypotheses at once, label by label.

        piece: they are the labels of a piece, whose context counts; None: of whole texts.
        """
        start = self.lm.start() if piece is None else piece.context.rescoring

        def one(labels, length):
            """Return log probability and length of one hypothesis."""
            judged, state = self.read(start, labels, length)
            end = self._both(lambda *of: self.lm.finish(state, *of))
            if piece is not None:
                end = jnp.where(piece.last, end, self._both(lambda *of: self.lm.pending(state, *of)))
            return Judged(*(judged + end[:, 0]))

        return jax.vmap(jax.vmap(one))(labels, lengths)

    def read(self, start: Any, labels: jax.Array, length: jax.Array) -> tuple[jax.Array, Any]:
        """Return log probability and length, [2], of `length` [] of the labels [T] after a state, and the state after
        them, a tree of [1, ...]."""

        def lengthen(state, labels):
            return self._both(lambda *of: self.lm.lengthen(state, labels, *of), out_axes=(0, None))

        return read_labels(lengthen, start, labels, length, jnp.zeros(2))

    def pending(self, states: Any) -> Judged:
        """Return what the labels before states, a tree of [1, ...], have yet to add, [] each; see `Fusion.pending`."""
        return Judged(*self._both(lambda *of: self.lm.pending(states, *of))[:, 0])

    def _both(self, function: Callable, out_axes: Any = 0) -> Any:
        """Call a function of weights for the log probability and for the length, along a first axis.

        They are computed together, so that a neural model, to which the weights mean nothing, takes one step for both.
        """
        weights = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).at[0, 2].set(self.weights.unknown_penalty)
        return jax.vmap(lambda of: function(*of), out_axes=out_axes)(weights)

    def weigh(self, judged: Judged) -> jax.Array:
        """Return what a language model's scores add to those of the search."""
        return self.weights.weight * judged.log_probs + self.weights.bonus * judged.counts

    def rescore(self, found: NBest, piece: Piece | None = None) -> NBest:
        """Sort the hypotheses by their new scores, the best first; empty places of the beam stay last. piece: see
        `judge`."""
        judged = self.judge(found.labels, found.lengths, piece)
        # Minus infinity marks an empty place of the beam.
        scores = found.scores + self.weigh(judged)
        order = jnp.argsort(scores, axis=1, descending=True)
        return NBest(
            jnp.take_along_axis(found.labels, order[..., None], axis=1),
            jnp.take_along_axis(found.lengths, order, axis=1),
            jnp.take_along_axis(scores, order, axis=1),
        )
