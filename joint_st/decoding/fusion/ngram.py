"""A back-off n-gram model as an automaton on the device.

A state is a context that the model knows: it has a token after it, or a back-off weight. The state of a history is its
longest suffix that is a known context. If a state has no arc for a token, the state of its longest proper suffix is
tried, and the back-off weight is added; the state of the empty context has an arc for every token. All contexts along
the way are searched at once, and the longest that has the arc counts.
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
    """The arcs of S states, sorted by symbol within each state; A in all, and a last one that belongs to no state."""

    first: jax.Array
    """Index of each state's first arc, int32 [S + 1]."""
    symbols: jax.Array
    """int32 [A + 1]."""
    targets: jax.Array
    """States to which the arcs lead, int32 [A + 1]."""
    steps: int
    """Steps of the binary search among the arcs of a state, enough for the state that has the most."""

    @classmethod
    def of(cls, arcs: Mapping[tuple[int, int], int], states: int) -> tuple[Arcs, np.ndarray]:
        """Make them from targets by state and symbol; return also the order [A] of the sorted arcs."""
        keys = np.array(list(arcs), np.int64).reshape(-1, 2)
        order = np.lexsort((keys[:, 1], keys[:, 0]))
        counts = np.bincount(keys[:, 0], minlength=states)
        first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        targets = np.fromiter(arcs.values(), np.int32, len(arcs))[order]
        columns = (np.append(column, -1).astype(np.int32) for column in (keys[order, 1], targets))
        return cls(first, *columns, steps=int(counts.max(initial=0)).bit_length()), order

    def find(self, states: jax.Array, symbols: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return whether each state has an arc for each symbol, and the arc's index; both broadcast."""
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
    """Arcs from each state, by token."""
    log_probs: jax.Array
    """Log probabilities of the arcs, float32 [A + 1]."""
    shorter: jax.Array
    """State of the longest proper suffix of each state's context, int32 [S]; state 0, the empty context, leads to
    itself."""
    backoffs: jax.Array
    """Back-off log weights, added on the way to `shorter`, float32 [S]."""
    order: int
    start: int
    """The state after `<s>`."""
    end: int
    """The token `</s>`."""
    unknown: int
    """The token `<unk>`."""

    @classmethod
    def of(cls, model: Arpa) -> tuple[NGram, dict[str, int]]:
        """Build the automaton of a model in NumPy arrays; return also the tokens by name."""
        tokens = {token: i for i, (token,) in enumerate(model.ngrams[0])}
        contexts = {(): 0}
        for of_order in model.ngrams:
            for ngram, entry in of_order.items():
                contexts.setdefault(ngram[:-1], len(contexts))
                # No history is as long as the highest order, so back-off weights there mean nothing.
                if entry.log10_backoff and len(ngram) < model.order:
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
        """Return the log probability of each token after each state, and the next state; both broadcast."""
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
