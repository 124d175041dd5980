"""Shallow fusion: what language models and hot words add to the score of a prefix while the beam search runs.

All of it is a function of the labels of a prefix alone. Each part keeps a state of each prefix, from which follows by
how much a label more changes the score, so that the search carries a few integers a prefix (or, of a neural model, its
hidden state), and all tables lie on the device as arrays.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from joint_st.decoding.fusion.hot_words import HotWords
from joint_st.decoding.fusion.label_lm import LabelLM
from joint_st.decoding.fusion.neural_lm import NeuralLM
from joint_st.decoding.fusion.word_lm import WordLM


class Weights(NamedTuple):
    """How much each part counts; natural logarithms. They are data of a compiled search, not constants in it."""

    lm: Any = 0.5
    """Factor of the language model's log probability, penalties of the unknown included."""
    insertion_bonus: Any = 0.0
    """For each word, or label where the model is over labels."""
    unknown_penalty: Any = 10.0
    """Taken off the log probability of each word, or label, that the language model does not know."""
    hot_word_bonus: Any = 5.0
    """For each hot word."""


class Fusion(NamedTuple):
    """A language model, hot words, or both: `joint_st.heads.PrefixScores`, which any head's beam search takes."""

    lm: LabelLM | WordLM | NeuralLM | None
    hot_words: HotWords | None
    weights: Weights

    def start(self) -> tuple:
        """The state of the empty prefix: a tree of arrays, numbers [] in most parts."""
        return tuple(part.start() for part, _ in self._parts())

    def lengthen(self, states: tuple, labels: jax.Array) -> tuple[jax.Array, tuple]:
        """What each label [K] adds to the score of each prefix, float32 [W, K], and the states then.

        states: a tree of [W, ...]; the states then are one of [W, K, ...], or [W, 1, ...] where the label makes no
        difference.
        """
        found = [part.lengthen(state, labels, *weights) for (part, weights), state in zip(self._parts(), states)]
        return sum(gain for gain, _ in found), tuple(after for _, after in found)

    def finish(self, states: tuple) -> jax.Array:
        """What the end adds to the score of each prefix, float32 [W]."""
        return sum(part.finish(state, *weights) for (part, weights), state in zip(self._parts(), states))

    def _parts(self) -> list[tuple[Any, tuple]]:
        weights = self.weights
        of_lm = weights.lm, weights.insertion_bonus, weights.unknown_penalty
        parts = [(self.lm, of_lm), (self.hot_words, (weights.hot_word_bonus,))]
        return [pair for pair in parts if pair[0] is not None]
