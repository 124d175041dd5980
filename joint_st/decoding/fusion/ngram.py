"""A back-off n-gram model as an automaton on the device.

A state is a context of which the model says something: it has a token after it, or a back-off weight. The state of a
history is the longest suffix of it that is one. What a state has no arc for is looked for in the state of its longest
proper suffix, at the price of the back-off weight; the state of no context has an arc for every token. All contexts
along the way are searched at once, and the longest that has the arc counts.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from joint_st.decoding.fusion.arcs import Arcs
from joint_st.lm.arpa import END, START, UNKNOWN, Arpa

_DATA = ["arcs", "log_probs", "shorter", "backoffs"]
_META = ["order", "start", "end", "unknown"]


@functools.partial(jax.tree_util.register_dataclass, data_fields=_DATA, meta_fields=_META)
@dataclasses.dataclass(frozen=True)
class NGram:
    """An n-gram model; logarithms are natural."""

    arcs: Arcs
    """By state and token."""
    log_probs: jax.Array
    """Of the arcs, float32 [A + 1]."""
    shorter: jax.Array
    """State of the longest proper suffix of each state's context, int32 [S]; 0, without context, leads to itself."""
    backoffs: jax.Array
    """Log weights of going there, float32 [S]."""
    order: int
    start: int
    """The state after `<s>`."""
    end: int
    """The token `</s>`."""
    unknown: int
    """The token `<unk>`."""

    @classmethod
    def of(cls, model: Arpa) -> tuple[NGram, dict[str, int]]:
        """The automaton of a model, in NumPy arrays, and the tokens by name."""
        tokens = {token: i for i, (token,) in enumerate(model.ngrams[0])}
        contexts = {(): 0}
        for of_order in model.ngrams:
            for ngram, entry in of_order.items():
                contexts.setdefault(ngram[:-1], len(contexts))
                if entry.log10_backoff:
                    contexts.setdefault(ngram, len(contexts))

        def state(history: tuple[str, ...]) -> int:
            while history not in contexts:
                history = history[1:]
            return contexts[history]

        arcs, log_probs = {}, []
        for of_order in model.ngrams:
            for ngram, entry in of_order.items():
                arcs[contexts[ngram[:-1]], tokens[ngram[-1]]] = state(ngram)
                log_probs.append(entry.log10_prob)
        backoffs = [model.ngrams[len(known) - 1][known].log10_backoff if known else 0.0 for known in contexts]
        built, order = Arcs.of(arcs, len(contexts))
        to_natural = math.log(10)
        automaton = cls(
            arcs=built,
            log_probs=np.append(np.array(log_probs)[order] * to_natural, 0).astype(np.float32),
            shorter=np.array([state(context[1:]) for context in contexts], np.int32),
            backoffs=(np.array(backoffs) * to_natural).astype(np.float32),
            order=model.order,
            start=state((START,)),
            end=tokens[END],
            unknown=tokens[UNKNOWN],
        )
        return automaton, tokens

    def step(self, states: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Log probability of each token after each state, and the state then; both broadcast."""
        states, tokens = jnp.broadcast_arrays(states, tokens)
        chain, weights = [states], [jnp.zeros(states.shape)]
        for _ in range(self.order - 1):
            weights.append(weights[-1] + self.backoffs[chain[-1]])
            chain.append(self.shorter[chain[-1]])
        found, arc = self.arcs.find(jnp.stack(chain), tokens)
        longest = jnp.argmax(found, axis=0)[None]
        arc = jnp.take_along_axis(arc, longest, axis=0)[0]
        weight = jnp.take_along_axis(jnp.stack(weights), longest, axis=0)[0]
        return weight + self.log_probs[arc], self.arcs.targets[arc]
