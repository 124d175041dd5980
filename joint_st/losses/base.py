"""The interface of a loss: it says which passes of the model it needs, weights the rows of a batch, and computes a
value for each of them.

A loss is one file in this folder, whose class is decorated with `@register_loss`; its section of the config is
registered as `losses.NAME` (`joint_st.config.register`). Nothing outside this folder knows a loss by name: the step,
the columns of `metrics.csv` and the panels of the report follow from what the losses declare.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from joint_st.config import Config, LossConfig, registered
from joint_st.data.batch import Arrays
from joint_st.errors import UserError
from joint_st.heads.base import Head
from joint_st.kinds import Kinds
from joint_st.losses.passes import AUDIO_PASSES, TEXT_PASSES, Pass
from joint_st.losses.text_rows import TextRows
from joint_st.models.encoder import Encoded

Kind = TypeVar("Kind", bound="type[Loss]")
Given = TypeVar("Given")

LOSSES = Kinds("joint_st.losses", "loss", "losses.{}", "register_loss")


class EncodedTexts(NamedTuple):
    """The model's outputs for texts that passed together."""

    encoded: Encoded
    """The outputs, with rows in the order of `rows`."""
    rows: TextRows
    """The rows of text that passed."""


class Passes(NamedTuple):
    """The model's outputs for a batch; each pass that some loss needs is computed once."""

    audio: dict[Pass, Encoded]
    """The passes of the utterances."""
    text: dict[Pass, EncodedTexts]
    """For each pass of texts the outputs of all texts that passed together with its own: those through which gradients
    pass are together, and those through which none passes."""
    heads: dict[str, Head]
    """The heads on the passes of the encoder."""


class Column(NamedTuple):
    """A column of `metrics.csv`."""

    name: str
    panel: str = ""
    """Title of the report's panel that it shares with other columns; "" for a separate panel."""
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
    """The values of a loss for the passes of a batch."""

    values: dict[str, Rows]
    """By term, the loss of each row; where a row's weight is 0 it may be anything finite."""
    monitored: dict[str, Rows] = {}
    """By column, numbers that are logged and not minimised; `Column.weighted_by` names a term whose weights apply."""


class Loss(abc.ABC):
    """A loss: one or several terms, each a weighted mean over rows.

    Weights are known before any value: they follow from lengths alone, including drawn repetitions.
    """

    name: ClassVar[str]
    """Name of its section of the config, below `losses`."""
    columns: ClassVar[tuple[Column, ...]]
    """Columns of its terms, of its monitored values and of its counts."""

    def __init__(self, config: Config):
        self.config = config
        self.section: LossConfig = getattr(config.losses, self.name)

    @property
    @abc.abstractmethod
    def passes(self) -> frozenset[Pass]:
        """Return the passes that it needs of a whole batch; for a batch of text alone, it gets those that exist."""

    @property
    def without_gradient(self) -> frozenset[Pass]:
        """Return the passes of texts whose outputs it holds fixed: no gradient goes back through them, so that a pass
        which all losses hold fixed costs no more than its outputs."""
        return frozenset()

    @abc.abstractmethod
    def scales(self, step: jax.Array) -> dict[str, jax.Array | float]:
        """Return the factor of each term in the total loss at `step` (0-based), by the name of its column."""

    @abc.abstractmethod
    def weights(self, batch: Arrays, available: frozenset[Pass]) -> dict[str, Rows]:
        """Return, by term, the weights of the rows of each pass on which it is computed, float32 [B]; 0 where it has no
        meaning."""

    @abc.abstractmethod
    def values(self, passes: Passes, batch: Arrays, available: frozenset[Pass], key: jax.Array, mesh) -> Found:
        """Return the loss of each row. `key` is the same for all losses; a loss that draws must fold in a number of its
        own."""

    def counts(self, batch: Arrays, available: frozenset[Pass]) -> dict[str, jax.Array]:
        """Return counts of a batch, such as its infeasible utterances, by column."""
        return {}


def register_loss(name: str):
    """Register a class as the loss of the section `losses.NAME`; a decorator."""

    def add(kind: Kind) -> Kind:
        kind.name = name
        return LOSSES.register(name)(kind)

    return add


def make_losses(config: Config) -> tuple[Loss, ...]:
    """Return the losses of a config that take part, in the order of their sections.

    Raises `UserError` where a section has no loss; where two losses share a column; and where a loss needs text, or text
    units, and its section does not say so, since the config's checks then know nothing of it.
    """
    losses = tuple(LOSSES[name](config) for name in registered("losses") if getattr(config.losses, name).enabled)
    for loss in losses:
        _check_says_so(loss)
    check_columns(losses)
    return losses


def check_columns(losses: Iterable[Loss], taken: Iterable[str] = ()) -> None:
    """Raise `UserError` where a loss has a column that another loss has too, or that every run has (`taken`): one of them
    would silently replace the other."""
    owners = dict.fromkeys(taken, "every run")
    for loss in losses:
        for name in (column.name for column in loss.columns):
            if name in owners:
                raise UserError(
                    f"losses.{loss.name}: its column {name} is also that of {owners[name]}; name it otherwise"
                )
            owners[name] = f"losses.{loss.name}"


def of_own_columns(loss: Loss, given: dict[str, Given]) -> dict[str, Given]:
    """Return what a loss gives by column; raises `UserError` where a name is none of its columns, and could be another
    loss's."""
    names = {column.name for column in loss.columns}
    for name in given:
        if name not in names:
            raise UserError(f"losses.{loss.name}: it gives {name}, which is none of its columns; add Column({name!r})")
    return given


def _check_says_so(loss: Loss) -> None:
    """Raise `UserError` where the section of a loss does not say what its passes need."""
    section, of_text = loss.section, [one for one in TEXT_PASSES if one in loss.passes]
    said = {
        "needs_text": section.needs_text,
        "needs_units": any(value for _, value in section.needs_units),
        "learns_from_text": section.learns_from_text or not any(one.part == "text" for one in of_text),
    }
    for name, says in said.items():
        if of_text and not says:
            raise UserError(
                f"losses.{loss.name}: its passes need text ({', '.join(one.value for one in of_text)}), and its section "
                f"does not say so; give {type(section).__name__} the property {name} (docs/extending.md)"
            )


def passes_of(losses: tuple[Loss, ...], speech: bool = True) -> frozenset[Pass]:
    """Return the passes that the losses need of a batch, with `speech` or of text alone."""
    return frozenset(
        one for loss in losses for one in loss.passes if (one.part == "paired" and speech) or one.part == "text"
    )


def fixed_passes(losses: tuple[Loss, ...], wanted: frozenset[Pass]) -> frozenset[Pass]:
    """Return the passes among `wanted` through which no loss sends a gradient."""
    return wanted - {one for loss in losses for one in loss.passes - loss.without_gradient}


def needs_text(loss: Loss) -> bool:
    """Return whether a loss needs a pass of text."""
    return any(one in TEXT_PASSES for one in loss.passes)


def text_share(config: Config, step: jax.Array) -> jax.Array:
    """Return the factor from 0 to 1 by which the losses that need text are weighted at `step` (0-based).

    It is 0 before `training.text_from_step`, and rises linearly over the `training.text_ramp_steps` steps after it.
    """
    first, ramp = config.training.text_from_step, config.training.text_ramp_steps
    return jnp.clip((step + 1 - first) / max(ramp, 1), 0, 1)


def maskings(config: Config) -> tuple[Pass, ...]:
    """Return the passes of speech over which losses of CTC are averaged: two maskings of each utterance where their
    agreement is a loss too, else one."""
    return AUDIO_PASSES if config.losses.cr_ctc.weight else (Pass.AUDIO,)


def audio_frames(config: Config, batch: Arrays) -> jax.Array:
    """Return the encoder frames of the utterances of a batch, int32 [B]."""
    return config.model.features.frames(batch["paired"]["audio_lengths"])


def text_frames(batch: Arrays, part: str) -> jax.Array:
    """Return the text frames of the texts of a part of a batch, with drawn repetitions, int32 [B]."""
    return batch[part]["repetitions"].sum(axis=1)


def not_spelled(valid: jax.Array, weights: jax.Array) -> jax.Array:
    """Return the number of valid rows that have no weight, such as utterances too short for their labels."""
    return jnp.sum(valid & (weights == 0))
