"""What a loss is: an object that says which passes of the model it needs, weighs the rows of a batch, and finds a value
for each of them.

A loss is one file in this folder, found by its place, whose class is decorated with `@register_loss`; its section of
the config is registered as `losses.NAME` (`joint_st.config.register`). Nothing outside this folder knows any by name:
the step, the columns of `metrics.csv` and the panels of the report follow from what the losses declare.
"""

from __future__ import annotations

import abc
import enum
from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from joint_st.config import Config, LossConfig, registered
from joint_st.data.batch import Arrays
from joint_st.heads.base import Head
from joint_st.kinds import Kinds
from joint_st.losses.text_rows import TextRows
from joint_st.models.encoder import Encoded

Kind = TypeVar("Kind", bound="type[Loss]")

LOSSES = Kinds("joint_st.losses")


class Pass(enum.Enum):
    """A pass of a batch's rows through the model."""

    AUDIO = "audio"
    """The utterances, features masked by SpecAugment."""
    AUDIO_AGAIN = "audio_again"
    """The same utterances under a second masking and other dropout."""
    PAIRED_CLEAN = "paired_clean"
    """The texts of the utterances, nothing masked."""
    PAIRED_MASKED = "paired_masked"
    """The texts of the utterances, spans of them masked."""
    TEXT_MASKED = "text_masked"
    """Texts without audio, spans of them masked."""

    @property
    def part(self) -> str:
        """The part of the batch whose rows pass."""
        return "text" if self is Pass.TEXT_MASKED else "paired"


AUDIO_PASSES = (Pass.AUDIO, Pass.AUDIO_AGAIN)
TEXT_PASSES = (Pass.PAIRED_CLEAN, Pass.PAIRED_MASKED, Pass.TEXT_MASKED)
"""Passes of texts, in the order in which each device puts their rows together."""


class Passes(NamedTuple):
    """What the model made of a batch, each pass that some loss has asked for once."""

    audio: dict[Pass, Encoded]
    """The passes of the utterances."""
    text: Encoded | None
    """All passes of texts in one, their rows as `rows` has them."""
    rows: TextRows | None
    """The rows of text that passed."""
    heads: dict[str, Head]
    """The heads on the passes of the encoder."""


class Column(NamedTuple):
    """A column of `metrics.csv`."""

    name: str
    panel: str = ""
    """Title of the report's panel that shows it together with others; "" for a panel of its own."""
    kind: Literal["mean", "count"] = "mean"
    """Whether a row of the file has the mean over its steps (weighted), or the sum."""
    unit: str = ""
    """Unit of the values, for the panel."""
    weighted_by: str = ""
    """The loss term whose weights also apply to this monitored column."""
    description: str = ""
    """What the column holds, in a sentence, for the reference of columns."""


Rows = Mapping[Pass, jax.Array]
"""A number for each row of some passes, float32 [B]."""


class Found(NamedTuple):
    """What a loss finds in the passes of a batch."""

    values: dict[str, Rows]
    """By term, the loss of each row; where a row's weight is 0 it may be anything finite."""
    monitored: dict[str, Rows] = {}
    """By column, numbers that are logged and not minimised; `Column.weighted_by` names a term whose weights apply."""


class Loss(abc.ABC):
    """A part of what is minimised: one or several terms, each a weighted mean over rows.

    Weights are known before any value is: they follow from lengths alone, repetitions drawn included.
    """

    name: ClassVar[str]
    """Name of its section of the config, below `losses`."""
    columns: ClassVar[tuple[Column, ...]]
    """Columns of its terms, of what it monitors and of what it counts."""

    def __init__(self, config: Config):
        self.config = config
        self.section: LossConfig = getattr(config.losses, self.name)

    @property
    @abc.abstractmethod
    def passes(self) -> frozenset[Pass]:
        """The passes it needs of a whole batch; of one of text alone it gets those that there are."""

    @abc.abstractmethod
    def scales(self, step: jax.Array) -> dict[str, jax.Array | float]:
        """What each term counts in the whole at `step` (0-based), by the name of its column."""

    @abc.abstractmethod
    def weights(self, batch: Arrays, available: frozenset[Pass]) -> dict[str, Rows]:
        """By term, the weights of the rows of each pass it is computed on, float32 [B]; 0 where it has no meaning."""

    @abc.abstractmethod
    def values(self, passes: Passes, batch: Arrays, available: frozenset[Pass], key: jax.Array, mesh) -> Found:
        """The loss of each row. `key` is the same for all losses: one that draws folds in a number of its own."""

    def counts(self, batch: Arrays, available: frozenset[Pass]) -> dict[str, jax.Array]:
        """Counts of a batch, such as its infeasible utterances, by column."""
        return {}


def register_loss(name: str):
    """Decorator of a class of losses: makes it the loss of the section `losses.NAME`."""

    def add(kind: Kind) -> Kind:
        kind.name = name
        return LOSSES.register(name)(kind)

    return add


def make_losses(config: Config) -> tuple[Loss, ...]:
    """The losses of a config that take part, in the order of their sections."""
    return tuple(LOSSES[name](config) for name in registered("losses") if getattr(config.losses, name).enabled)


def passes_of(losses: tuple[Loss, ...], speech: bool = True) -> frozenset[Pass]:
    """The passes that the losses need of a batch, with `speech` or of text alone."""
    return frozenset(
        one for loss in losses for one in loss.passes if (one.part == "paired" and speech) or one.part == "text"
    )


def audio_frames(config: Config, batch: Arrays) -> jax.Array:
    """Encoder frames of the utterances of a batch, int32 [B]."""
    return config.model.features.frames(batch["paired"]["audio_lengths"])


def text_frames(batch: Arrays, part: str) -> jax.Array:
    """Text frames of the texts of a part of a batch, their repetitions drawn, int32 [B]."""
    return batch[part]["repetitions"].sum(axis=1)


def not_spelled(valid: jax.Array, weights: jax.Array) -> jax.Array:
    """Number of valid rows that have no weight, such as utterances too short for their labels."""
    return jnp.sum(valid & (weights == 0))
