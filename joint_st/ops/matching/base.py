"""The interface of an alignment: which frames of speech and text it matches, when it can, and what it needs for that.

An alignment is one file in `alignments/`, whose class is decorated with `@ALIGNMENTS.register(NAME)` and derives from
one of the three below. Its name is then a value of `losses.consistency.alignment`, of `alignment_loss` and, where it
matches every frame with one text position, of `align`.
"""

from __future__ import annotations

import abc
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from joint_st.ops.matching.cost import expected_cost, matched_costs, pairwise_costs


class Sides(NamedTuple):
    """The embeddings to match, whose squared L2 distance is the cost (`cost.comparable`), zero in the padding."""

    audio: jax.Array
    """Embeddings of audio frames, float32 [B, T, D]."""
    text: jax.Array
    """Embeddings of text frames, float32 [B, R, D]."""
    audio_lengths: jax.Array
    """int [B]."""
    text_lengths: jax.Array
    """int [B]."""
    audio_mask: jax.Array
    """Valid frames of utterances that are feasible, bool [B, T]."""
    text_mask: jax.Array
    """Valid text positions of utterances that are feasible, bool [B, R]."""

    def held(self) -> Sides:
        """Return these sides without a gradient through the embeddings."""
        return self._replace(audio=lax.stop_gradient(self.audio), text=lax.stop_gradient(self.text))


class Given(NamedTuple):
    """Inputs that some alignments need in addition to the embeddings."""

    temperature: float | jax.Array = 1.0
    """Temperature of `soft` and `optimal_transport`, in units of the cost."""
    positions: jax.Array | None = None
    """Text positions, int [B, T]; negative for a frame that is not matched."""
    key: jax.Array | None = None
    """Random key of an alignment that is drawn."""


class Matched(NamedTuple):
    """The matched pairs of an alignment and their distance."""

    total: jax.Array
    """Sum over frames of the distance to what they are matched with, float32 [B]."""
    position: jax.Array
    """The text position each frame is matched with, or the likeliest, int [B, T]; anything in the padding."""
    frames: jax.Array
    """The frames that are matched, bool [B, T]."""


class AlignmentKind(abc.ABC):
    """A way to match audio frames with text positions; held constant for the gradient."""

    cheapest: ClassVar[bool] = False
    """Whether it minimises the cost, so that it shows how a trained model matches speech and text."""
    needs_key: ClassVar[bool] = False
    """Whether it is drawn at random."""
    needs_positions: ClassVar[bool] = False
    """Whether text positions have to be given; they follow from the true times of words."""
    covers_text: ClassVar[bool] = False
    """Whether every text position is matched with some frame."""

    @abc.abstractmethod
    def match(self, sides: Sides, given: Given) -> Matched:
        """Match the frames of each utterance."""

    def feasible(self, audio_lengths: jax.Array, text_lengths: jax.Array) -> jax.Array:
        """Return whether an alignment of these numbers of frames and text positions exists, bool [B]."""
        return (audio_lengths > 0) & (text_lengths > 0)

    def draw(self, key: jax.Array, audio_lengths: jax.Array, text_lengths: jax.Array, frames: int, positions: int):
        """Draw text positions with `key`, int32 [B, T], for an alignment that needs a key; `T` is `frames`, `R`
        positions."""
        raise NotImplementedError


class PathAlignment(AlignmentKind):
    """Every frame is matched with one text position, or with a run of neighbours."""

    @abc.abstractmethod
    def runs(self, sides: Sides, key: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """Return the first and the last text position that each frame is matched with, int32 [B, T] each."""

    def match(self, sides, given):
        first, last = self.runs(sides.held(), given.key)
        total = masked_sum(matched_costs(sides.audio, sides.text, last), sides.audio_mask)
        return Matched(total, (first + last) // 2, sides.audio_mask)


class PlannedAlignment(AlignmentKind):
    """Every frame is matched with every text position to some degree, the degrees of a frame adding up to 1.

    The value is the expected distance. Its gradient is that of the quantity that the plan minimises, which is the
    gradient of the expectation with the plan held constant; the full gradient of the expectation would push unlikely
    pairs apart.
    """

    @abc.abstractmethod
    def plan(self, costs: jax.Array, sides: Sides, temperature: float | jax.Array) -> jax.Array:
        """Return the degree to which each frame is matched with each position, float32 [B, T, R], exactly 0 in the
        padding.

        costs: float32 [B, T, R].
        """

    def match(self, sides, given):
        held = sides.held()
        costs = pairwise_costs(held.audio, held.text)
        plan = self.plan(costs, sides, given.temperature)
        total = expected_cost(sides.audio, sides.text, sides.text_mask, costs, plan)
        return Matched(total, jnp.argmax(plan, axis=2), sides.audio_mask)


def one_position(position: jax.Array, sides: Sides) -> tuple[jax.Array, jax.Array]:
    """Return the runs of frames that are matched with one text position each."""
    position = jnp.clip(position, 0, sides.text.shape[1] - 1)
    return position, position


def masked_sum(costs: jax.Array, mask: jax.Array) -> jax.Array:
    """Sum over the second axis where `mask` [B, T] is `True`; float32 [B]."""
    return jnp.sum(jnp.where(mask, costs, 0.0), axis=1)
