"""What every kind of head offers: how a pass of the encoder is read out, in training and in decoding.

Decoding takes two stages. What a head makes of the embeddings of a pass alone, its *emissions*, is computed once, for
all frames at a time: a tree of arrays [B, T, ...], the logits of CTC, or a transducer's projected frames. The search
goes through the emissions: greedily from frame to frame by `step`, which hears whole utterances, pieces of them and
streams alike, or by `beam`, which a kind may lack.

A kind without a method that it may lack says so in a `UserError` of one line. Decoding calls these methods on each
device's rows alone (`joint_st.distributed.mesh.over_batch`), with the head as an argument; a loss that maps a function
likewise has to hand it the head, or the weights, as an argument too.
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from joint_st.config import HeadsConfig
from joint_st.errors import UserError
from joint_st.kinds import Kinds
from joint_st.ops.prefix_beam import NBest

Kind = TypeVar("Kind", bound="type[Head]")

Emissions = Any
"""A tree of arrays [B, T, ...]: what a head makes of T frames."""
State = Any
"""A tree of arrays [B, ...]: what a head remembers of the frames before."""

HEADS = Kinds("joint_st.heads")


class PrefixScores(Protocol):
    """What a beam search may add to the scores of prefixes: a tree of arrays whose methods read their labels alone.

    `joint_st.decoding.fusion` has language models and hot words.
    """

    def start(self) -> Any:
        """The state of the empty prefix: a tree of arrays."""
        ...

    def lengthen(self, states: Any, labels: jax.Array) -> tuple[jax.Array, Any]:
        """What each label [K] adds to the score of each of W prefixes, float32 [W, K], and the states then.

        states: a tree of [W, ...]; the states then are one of [W, K, ...], or [W, 1, ...] where the label makes no
        difference.
        """
        ...

    def finish(self, states: Any) -> jax.Array:
        """What the end adds to the score of each prefix, float32 [W]."""
        ...


class LabelSpans(NamedTuple):
    """When each label of some sequences comes, and how sure the head is of it."""

    starts: jax.Array
    """First frame of each label, int32 [B, U]; 0 in the padding."""
    ends: jax.Array
    """The frame after its last, int32 [B, U]; 0 in the padding."""
    scores: jax.Array
    """Mean probability of each label given the audio over its frames, 0 to 1, float32 [B, U]; 0 in the padding."""
    peaks: jax.Array
    """Largest probability of each label in one of its frames, as `scores`."""
    log_prob: jax.Array
    """Log probability in nats of the likeliest way to emit the labels, float32 [B]; without labels, to emit none."""
    feasible: jax.Array
    """Whether the frames can emit the labels at all, bool [B]; of one that cannot, the rest is 0."""


class Head(nnx.Module, abc.ABC):
    """Reads labels out of the embeddings of one pass of the encoder. Label 0 is the blank, and is in no text.

    A kind of head is one file in this folder, found by its place, whose class is decorated with `@register_head`; its
    section of the config is registered as `heads.KIND`.
    """

    kind: ClassVar[str]
    """Name of the kind in the config: `heads.streaming`, `heads.full_context`."""

    emissions_suffice: ClassVar[bool] = False
    """Whether no method that takes emissions reads a weight: then one program serves the heads of all passes, and a
    beam searches them at once."""

    @abc.abstractmethod
    def __init__(self, config: HeadsConfig, width: int, labels: int, *, rngs: nnx.Rngs):
        """A head over an inventory of `labels`, the blank at 0 included, on embeddings of `width` (D) numbers."""

    # Training.

    @staticmethod
    @abc.abstractmethod
    def weights(label_lengths: jax.Array, frames_needed: jax.Array, frames: jax.Array, valid: jax.Array) -> jax.Array:
        """Weights of the loss, float32 [B]: the number of labels, or 0 where the head cannot emit them.

        label_lengths, frames_needed (with CTC's topology), frames: int32 [B]. valid: bool [B].
        """

    @abc.abstractmethod
    def loss(self, x: jax.Array, mask: jax.Array, labels: jax.Array, label_lengths: jax.Array, mesh) -> jax.Array:
        """Negative log likelihood in nats per label, float32 [B]; 0 where the labels cannot be emitted.

        x: embeddings [B, T, D]. mask: valid frames [B, T]. labels: int32 [B, L], `label_lengths` [B] of them.
        """

    @classmethod
    @abc.abstractmethod
    def output_layers(cls) -> tuple[str, ...]:
        """Dotted paths, below the head, of the weights of output layers, which Muon leaves to AdamW."""

    @abc.abstractmethod
    def logical_axes(self) -> dict[str, tuple[str, ...]]:
        """The logical axes (`joint_st.distributed.sharding.RULES`) of each weight, by its dotted path below the head."""

    # Decoding.

    @abc.abstractmethod
    def emissions(self, x: jax.Array) -> Emissions:
        """What the head makes of embeddings [B, T, D], frame by frame: those of a piece are a piece of those of all."""

    @abc.abstractmethod
    def blank_scores(self, emissions: Emissions) -> jax.Array:
        """Log probability that each frame emits nothing, float32 [B, T]."""

    @abc.abstractmethod
    def init_state(self, batch: int) -> State:
        """The state of greedy decoding before the first frame, for `batch` utterances."""

    @abc.abstractmethod
    def step(self, emissions: Emissions, mask: jax.Array, state: State) -> tuple[jax.Array, State]:
        """What each of the next T frames emits, greedily, and the state after those that are valid.

        mask: valid frames [B, T], the first ones of each row. The labels are int32 [B, T, E], in their order, 0 where
        a frame emits fewer than E; a frame that is not valid emits none and changes no state.
        """

    def greedy(self, emissions: Emissions, mask: jax.Array) -> jax.Array:
        """What each frame of whole utterances, or of pieces by themselves, emits greedily, int32 [B, T, E]."""
        return self.step(emissions, mask, self.init_state(len(mask)))[0]

    def beam(
        self,
        emissions: Emissions,
        mask: jax.Array,
        scores: PrefixScores | None,
        *,
        beam: int,
        candidates: int,
        best: int,
    ) -> NBest:
        """The `best` (N) likeliest sequences of labels of each utterance, [B, N, ...], with what `scores` adds.

        beam: hypotheses kept after each frame. candidates: labels of a frame that may lengthen one.
        """
        raise UserError(f"heads.{self.kind}: has no beam search; decode it greedily (--decoder greedy)")

    def label_spans(
        self, emissions: Emissions, mask: jax.Array, labels: jax.Array, label_lengths: jax.Array
    ) -> LabelSpans:
        """When labels int32 [B, U], `label_lengths` [B] of them, come, whoever found them, and how sure of each it is.

        Times and confidences of words follow from this alone. mask: valid frames [B, T], the first ones of each row.
        """
        raise UserError(
            f"heads.{self.kind}: cannot say when its labels come, nor how sure it is of them; align by a layer "
            "(--by -1), and transcribe and evaluate without times and confidences"
        )

    def alignment_logits(self, x: jax.Array) -> jax.Array:
        """Return logits [B, T, V] of what each frame emits by itself, for embeddings [B, T, D]."""
        raise UserError(f"heads.{self.kind}: its frames emit nothing by themselves; leave out the loss that needs it")


def register_head(name: str):
    """Decorator of a class of heads: makes it the kind `name`."""

    def add(kind: Kind) -> Kind:
        kind.kind = name
        return HEADS.register(name)(kind)

    return add


def head_kind(name: str) -> type[Head]:
    """The class of a kind of heads; its file is imported when it is first asked for."""
    return HEADS[name]


def replace_rows(rows: jax.Array, state: State, other: State) -> State:
    """A state of a head, with that of `other` in `rows` [B] (bool)."""

    def choose(old, new):
        return jnp.where(rows.reshape(-1, *[1] * (old.ndim - 1)), new, old)

    return jax.tree.map(choose, state, other)
