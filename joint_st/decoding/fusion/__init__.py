"""Shallow fusion: language models and hot words change the score of a prefix while the beam search runs.

The change depends on the labels of a prefix alone. Each part keeps a state for each prefix, which determines how one
more label changes the score. The search therefore carries a few integers for each prefix (or the hidden state of a
neural model), and all tables are arrays on the device.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from joint_st.decoding.fusion.hot_words import HotWords
from joint_st.decoding.fusion.label_lm import LabelLM
from joint_st.decoding.fusion.neural_lm import NeuralLM
from joint_st.decoding.fusion.word_lm import WordLM


class Weights(NamedTuple):
    """Weights of the parts, for natural logarithms. They are arguments of a compiled search, not constants in it."""

    lm: Any = 0.5
    """Factor of the language model's log probability, penalties of unknown words included."""
    insertion_bonus: Any = 0.0
    """Added for each word, or each label if the model is over labels."""
    unknown_penalty: Any = 10.0
    """Subtracted from the log probability of each word, or label, that the language model does not know."""
    hot_word_bonus: Any = 5.0
    """Added for each hot word."""


class Fusion(NamedTuple):
    """A language model, hot words, or both: `joint_st.heads.PrefixScores`, which any head's beam search takes."""

    lm: LabelLM | WordLM | NeuralLM | None
    hot_words: HotWords | None
    weights: Weights

    def start(self) -> tuple:
        """Return the state of the empty prefix: a tree of arrays, which are scalars [] in most parts."""
        return tuple(part.start() for part, _ in self._parts())

    def lengthen(self, states: tuple, labels: jax.Array) -> tuple[jax.Array, tuple]:
        """Return what each label [K] adds to the score of each prefix, float32 [W, K], and the states after it.

        states: a tree of [W, ...]; the new states have [W, K, ...], or [W, 1, ...] where they do not depend on the
        label.
        """
        found = [part.lengthen(state, labels, *weights) for (part, weights), state in zip(self._parts(), states)]
        return sum(gain for gain, _ in found), tuple(after for _, after in found)

    def finish(self, states: tuple) -> jax.Array:
        """Return what the end adds to the score of each prefix, float32 [W]."""
        return sum(part.finish(state, *weights) for (part, weights), state in zip(self._parts(), states))

    def pending(self, states: tuple) -> jax.Array:
        """Return what the labels of each prefix have yet to add once the text goes on, at best, float32 [W]."""
        return sum(part.pending(state, *weights) for (part, weights), state in zip(self._parts(), states))

    def _parts(self) -> list[tuple[Any, tuple]]:
        weights = self.weights
        of_lm = weights.lm, weights.insertion_bonus, weights.unknown_penalty
        parts = [(self.lm, of_lm), (self.hot_words, (weights.hot_word_bonus,))]
        return [pair for pair in parts if pair[0] is not None]
