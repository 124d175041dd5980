"""Pieces of a recording that are decoded one after the other, each in the context of the text before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Context(NamedTuple):
    """What language models and hot words remember of the text so far: trees of arrays, () where there are none."""

    fusion: Any
    """State of what is fused."""
    rescoring: Any
    """State of the model that rescores."""


class Piece(NamedTuple):
    """Where in a recording a piece is."""

    context: Context
    """The context after the best hypothesis for all pieces before it."""
    last: jax.Array
    """Whether the recording ends with it, bool []."""


class Continued(NamedTuple):
    """Scores of the prefixes of a piece (`joint_st.heads.PrefixScores`), which go on from the text before it.

    At the end of a piece inside a recording no text ends. What its prefixes would still have to pay there makes them
    comparable; the next piece charges what really comes.
    """

    fusion: Any
    """A `Fusion`."""
    piece: Piece

    def start(self) -> Any:
        """Return the state of the empty prefix."""
        return self.piece.context.fusion

    def lengthen(self, states: Any, labels: jax.Array) -> tuple[jax.Array, Any]:
        """Return what each label adds, and the states after it, as `Fusion.lengthen` does."""
        return self.fusion.lengthen(states, labels)

    def finish(self, states: Any) -> jax.Array:
        """Return what the end of the piece adds to the score of each prefix, float32 [W]."""
        return jnp.where(self.piece.last, self.fusion.finish(states), self.fusion.pending(states))


def read_labels(lengthen: Callable, state: Any, labels: jax.Array, length: jax.Array, total: jax.Array) -> tuple:
    """Return `total` [...] plus what the labels of one prefix add, and the state after them, a tree of [1, ...].

    lengthen: function of states and labels, such as `Fusion.lengthen`, whose gains may be of several kinds, [..., 1,
    1]. state: the state before the labels, a tree of arrays without an axis of prefixes. labels: int32 [T], of which
    the first `length` [] count.
    """

    def read(carry, label_at):
        label, place = label_at
        total, state = carry
        gains, after = lengthen(state, label[None])
        carry_after = total + gains[..., 0, 0], jax.tree.map(lambda x: x[:, 0], after)
        return jax.tree.map(lambda new, old: jnp.where(place < length, new, old), carry_after, carry), None

    start = total, jax.tree.map(lambda x: jnp.asarray(x)[None], state)
    return jax.lax.scan(read, start, (labels, jnp.arange(labels.size)))[0]
