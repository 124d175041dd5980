"""A neural language model over the labels, fused label by label.

The model is one step behind: the state of a prefix is the model's state before the last label, together with that
label. A frame therefore takes one step of the model for all prefixes, which scores every next label, and the state
after a next label is the one just computed, whichever label it is. Nothing is computed for prefixes that are not kept.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp

from joint_st.config import LmModelConfig
from joint_st.data.tokenizers import UNKNOWN
from joint_st.models.functional import Weights
from joint_st.models.language_model import EDGE, LanguageModel, merge_lm


@functools.partial(jax.tree_util.register_dataclass, data_fields=["weights"], meta_fields=["config", "vocabulary"])
@dataclasses.dataclass(frozen=True)
class NeuralLM:
    """Scores labels; the state of a prefix is the model's, a tree of [layers, D], and the label that it reads next,
    int32 []."""

    weights: Weights
    config: LmModelConfig
    vocabulary: int
    """V, the blank included."""

    def start(self):
        """Return the state of the empty prefix."""
        state = self._model().init_state(1)
        return jax.tree.map(lambda x: x[:, 0], state), jnp.int32(EDGE)

    def lengthen(self, states, labels, weight, bonus, unknown_penalty):
        """Return how much each label [K] changes the score of each prefix, float32 [W, K], and the states after it.

        The model's states are the same after every label, a tree of [W, 1, layers, D]; the labels are int32 [W, K].
        """
        log_probs, after = self._read(states)
        gains = weight * (log_probs[:, labels] - unknown_penalty * (labels == UNKNOWN)) + bonus
        last = jnp.broadcast_to(labels.astype(jnp.int32), gains.shape)
        return gains, (jax.tree.map(lambda x: x[:, None], after), last)

    def finish(self, states, weight, bonus, unknown_penalty):
        """Return how much the end changes the score of each prefix, float32 [W]."""
        return weight * self._read(states)[0][:, EDGE]

    def pending(self, states, weight, bonus, unknown_penalty):
        """Return what the labels of each prefix have yet to add, float32 [W]: nothing, since each counts at once."""
        return jnp.zeros(states[1].shape)

    def _read(self, states):
        """Return log probabilities [W, V] of what follows the last labels, and the model's states [W, layers, D] after
        them."""
        state, last = states
        log_probs, after = self._model().step(last, jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), state))
        return log_probs, jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), after)

    def _model(self) -> LanguageModel:
        return merge_lm(self.config, self.vocabulary, self.weights)
