"""The interface of every kind of head, which turns a pass of the encoder into labels, in training and in decoding.

Decoding takes two stages. First, the *emissions* are computed from the embeddings of a pass, once and for all frames
together: a tree of arrays [B, T, ...], such as the logits of CTC, or a transducer's projected frames. Then a search
goes through the emissions: greedily from frame to frame by `step`, which serves whole utterances, pieces of them and
streams, or by `beam`, which a kind may lack.

An optional method that a kind lacks raises a `UserError` with one line. Decoding calls these methods on each device's
rows alone (`joint_st.distributed.mesh.over_batch`), with the head as an argument; a loss that maps a function in the
same way must pass it the head, or the weights, as an argument too.
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
"""A tree of arrays [B, T, ...] that a head computes from T frames."""
State = Any
"""A tree of arrays [B, ...] that a head remembers from earlier frames."""

HEADS = Kinds("joint_st.heads", "head", "heads.{}", "register_head")


class PrefixScores(Protocol):
    """Scores that a beam search adds to those of prefixes: a tree of arrays, whose methods depend on the prefixes'
    labels alone.

    Language models and hot words are in `joint_st.decoding.fusion`.
    """

    def start(self) -> Any:
        """Return the state of the empty prefix: a tree of arrays."""
        ...

    def lengthen(self, states: Any, labels: jax.Array) -> tuple[jax.Array, Any]:
        """Return what each label [K] adds to the score of each of W prefixes, float32 [W, K], and the states after it.

        states: a tree of [W, ...]; the new states have [W, K, ...], or [W, 1, ...] where they do not depend on the
        label.
        """
        ...

    def finish(self, states: Any) -> jax.Array:
        """Return what the end adds to the score of each prefix, float32 [W]."""
        ...


class LabelSpans(NamedTuple):
    """Times and probabilities of each label in a batch of label sequences."""

    starts: jax.Array
    """First frame of each label, int32 [B, U]; 0 in the padding."""
    ends: jax.Array
    """The frame after the last one of each label, int32 [B, U]; 0 in the padding."""
    scores: jax.Array
    """Mean probability of each label given the audio over its frames, 0 to 1, float32 [B, U]; 0 in the padding."""
    peaks: jax.Array
    """Largest probability of each label in one of its frames, in the same form as `scores`."""
    log_prob: jax.Array
    """Log probability in nats of the likeliest way to emit the labels (or to emit nothing, without labels), float32
    [B]."""
    feasible: jax.Array
    """Whether the frames can emit the labels at all, bool [B]; where they cannot, the other fields are 0."""


class Head(nnx.Module, abc.ABC):
    """Turns the embeddings of one pass of the encoder into labels. Label 0 is the blank, which is in no text.

    A kind of head is one file in this folder, whose class is decorated with `@register_head`; its section of the config
    is registered as `heads.KIND`.
    """

    kind: ClassVar[str]
    """Name of the kind in the config: `heads.streaming`, `heads.full_context`."""

    emissions_suffice: ClassVar[bool] = False
    """Whether methods that take emissions read no weights: then one program serves the heads of all passes, and a beam
    search runs on them together."""

    @abc.abstractmethod
    def __init__(self, config: HeadsConfig, width: int, labels: int, *, rngs: nnx.Rngs):
        """Make a head over an inventory of `labels`, the blank at 0 included, on embeddings of `width` (D) numbers."""

    # Training.

    @staticmethod
    @abc.abstractmethod
    def weights(label_lengths: jax.Array, frames_needed: jax.Array, frames: jax.Array, valid: jax.Array) -> jax.Array:
        """Return the weights of the loss, float32 [B]: the number of labels, or 0 where the head cannot emit them.

        label_lengths, frames_needed (with CTC's topology), frames: int32 [B]. valid: bool [B].
        """

    @abc.abstractmethod
    def loss(self, x: jax.Array, mask: jax.Array, labels: jax.Array, label_lengths: jax.Array, mesh) -> jax.Array:
        """Return the negative log likelihood in nats per label, float32 [B]; 0 where the labels cannot be emitted.

        x: embeddings [B, T, D]. mask: valid frames [B, T]. labels: int32 [B, L], `label_lengths` [B] of them.
        """

    @classmethod
    @abc.abstractmethod
    def output_layers(cls) -> tuple[str, ...]:
        """Return the dotted paths, below the head, of the weights of output layers, which Muon leaves to AdamW."""

    @abc.abstractmethod
    def logical_axes(self) -> dict[str, tuple[str, ...]]:
        """Return the logical axes (`joint_st.distributed.sharding.RULES`) of each weight, by its dotted path below the
        head."""

    # Decoding.

    @abc.abstractmethod
    def emissions(self, x: jax.Array) -> Emissions:
        """Compute the emissions of embeddings [B, T, D], frame by frame: the emissions of a piece are a piece of those
        of the whole."""

    @abc.abstractmethod
    def blank_scores(self, emissions: Emissions) -> jax.Array:
        """Return the log probability that each frame emits nothing, float32 [B, T]."""

    def symbols(self, emissions: Emissions) -> jax.Array:
        """Return the symbol that greedy decoding takes in each frame, int32 [B, T]; 0 where that depends on more than the
        frame alone."""
        return jnp.zeros(self.blank_scores(emissions).shape, jnp.int32)

    @abc.abstractmethod
    def init_state(self, batch: int) -> State:
        """Return the state of greedy decoding before the first frame, for `batch` utterances."""

    @abc.abstractmethod
    def step(self, emissions: Emissions, mask: jax.Array, state: State) -> tuple[jax.Array, State]:
        """Return what each of the next T frames emits greedily, and the state after the valid ones.

        mask: valid frames [B, T], the first ones of each row. The labels are int32 [B, T, E] in order, with 0 where a
        frame emits fewer than E; an invalid frame emits none and does not change the state.
        """

    def greedy(self, emissions: Emissions, mask: jax.Array) -> jax.Array:
        """Return what each frame of whole utterances, or of independent pieces, emits greedily, int32 [B, T, E]."""
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
        """Return the `best` (N) likeliest sequences of labels of each utterance, [B, N, ...], including what `scores`
        adds.

        beam: hypotheses kept after each frame. candidates: labels of a frame that may extend a hypothesis.
        """
        raise UserError(f"heads.{self.kind}: has no beam search; decode it greedily (--decoder greedy)")

    def label_spans(
        self, emissions: Emissions, mask: jax.Array, labels: jax.Array, label_lengths: jax.Array
    ) -> LabelSpans:
        """Return the times and probabilities of given labels int32 [B, U], `label_lengths` [B] of them.

        The times and confidences of words are computed from this alone. mask: valid frames [B, T], the first ones of
        each row.
        """
        raise UserError(
            f"heads.{self.kind}: gives no times and no probabilities of its labels; align by a layer "
            "(--by -1), and transcribe and evaluate without times and confidences"
        )

    def alignment_logits(self, x: jax.Array) -> jax.Array:
        """Return logits [B, T, V] of what each frame emits by itself, for embeddings [B, T, D]."""
        raise UserError(f"heads.{self.kind}: its frames emit nothing by themselves; leave out the loss that needs it")


def register_head(name: str):
    """Register a class of heads as the kind `name`; a decorator."""

    def add(kind: Kind) -> Kind:
        kind.kind = name
        return HEADS.register(name)(kind)

    return add


def head_kind(name: str) -> type[Head]:
    """Return the class of a kind of heads, whose file is imported on first use."""
    return HEADS[name]


def replace_rows(rows: jax.Array, state: State, other: State) -> State:
    """Return a state of a head, with `rows` [B] (bool) taken from `other`."""

    def choose(old, new):
        return jnp.where(rows.reshape(-1, *[1] * (old.ndim - 1)), new, old)

    return jax.tree.map(choose, state, other)
