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
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from joint_st.lm.arpa import END, START, UNKNOWN, Arpa


@functools.partial(jax.tree_util.register_dataclass, data_fields=["first", "symbols", "targets"], meta_fields=["steps"])
@dataclasses.dataclass(frozen=True)
class Arcs:
    """For each of S states, arcs by symbol, sorted; A in all, and one more that is no one's."""

    first: jax.Array
    """Where the arcs of each state begin, int32 [S + 1]."""
    symbols: jax.Array
    """int32 [A + 1]."""
    targets: jax.Array
    """States that they lead to, int32 [A + 1]."""
    steps: int
    """Number of steps of the binary search among the arcs of the state that has the most."""

    @classmethod
    def of(cls, arcs: Mapping[tuple[int, int], int], states: int) -> tuple[Arcs, np.ndarray]:
        """From targets by state and symbol; also the order [A] in which the arcs were put."""
        keys = np.array(list(arcs), np.int64).reshape(-1, 2)
        order = np.lexsort((keys[:, 1], keys[:, 0]))
        counts = np.bincount(keys[:, 0], minlength=states)
        first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        targets = np.fromiter(arcs.values(), np.int32, len(arcs))[order]
        columns = (np.append(column, -1).astype(np.int32) for column in (keys[order, 1], targets))
        return cls(first, *columns, steps=int(counts.max(initial=0)).bit_length()), order

    def find(self, states: jax.Array, symbols: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Whether each state has an arc of each symbol, and the arc's index; both broadcast."""
        states, symbols = jnp.broadcast_arrays(states, symbols)
        end = self.first[states + 1]

        def halve(_, bounds):
            low, high = bounds
            middle = (low + high) // 2
            before = (self.symbols[middle] < symbols) & (low < high)
            return jnp.where(before, middle + 1, low), jnp.where(before, high, middle)

        index, _ = lax.fori_loop(0, self.steps, halve, (self.first[states], end))
        return (index < end) & (self.symbols[index] == symbols), index


_DATA = ["arcs", "log_probs", "shorter", "backoffs"]
_META = ["order", "start", "end", "unknown"]


@functools.partial(jax.tree_util.register_dataclass, data_fields=_DATA, meta_fields=_META)
@dataclasses.dataclass(frozen=True)
class NGram:
    """An n-gram model; logarithms are natural."""

    arcs: Arcs
    """What follows each state, by token."""
    log_probs: jax.Array
    """Log probabilities of the arcs, float32 [A + 1]."""
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
