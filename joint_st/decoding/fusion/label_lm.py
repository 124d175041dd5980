"""An n-gram language model over the labels themselves: every label is a token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from joint_st.decoding.fusion.ngram import NGram
from joint_st.lm.arpa import Arpa


class LabelLM(NamedTuple):
    """Scores labels; the state of a prefix is the state of the n-gram model after it."""

    ngram: NGram
    tokens: jax.Array
    """The token of each label, int32 [V]."""

    @classmethod
    def of(cls, model: Arpa, symbols: Sequence[str]) -> LabelLM:
        """Make it from a model. symbols: how the model writes each label [V]; a label that it lacks is its `<unk>`."""
        ngram, ids = NGram.of(model)
        return cls(ngram, np.array([ids.get(symbol, ngram.unknown) for symbol in symbols], np.int32))

    def start(self) -> jax.Array:
        """Return the state [] of the empty prefix."""
        return jnp.int32(self.ngram.start)

    def lengthen(self, states, labels, weight, bonus, unknown_penalty):
        """Return how much each label [K] changes the score of each prefix, float32 [W, K], and the states after it [W,
        K]."""
        tokens = self.tokens[labels]
        log_probs, after = self.ngram.step(states[:, None], tokens)
        return weight * (log_probs - unknown_penalty * (tokens == self.ngram.unknown)) + bonus, after

    def finish(self, states, weight, bonus, unknown_penalty):
        """Return how much the end changes the score of each prefix, float32 [W]."""
        return weight * self.ngram.step(states, self.ngram.end)[0]

    def pending(self, states, weight, bonus, unknown_penalty):
        """Return what the labels of each prefix have yet to add, float32 [W]: nothing, since each counts at once."""
        return jnp.zeros(states.shape)
