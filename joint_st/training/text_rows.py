"""The rows of text in a step: those of the paired batch, clean, masked or both, and those of the text-only batch.

All of them pass through the text encoder and the shared layers at once. Each device puts its own rows together, so
no row ever travels: over the whole mesh, the order of rows is by device first, then by group.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from joint_st.config import Config
from joint_st.distributed.mesh import batch_devices, over_batch
from joint_st.models.text_encoder import most_frames, repetitions
from joint_st.ops.text_frames import durations

Batch = dict[str, jax.Array]


class Group(NamedTuple):
    """Rows of one kind."""

    prefix: str
    """Of their arrays in the batch: none for the paired batch's, `text_` for the text-only batch's."""
    masked: bool
    """Whether spans of them are masked, and noise added."""
    weight: float
    """Of each of their labels in the reconstructions."""


class TextRows(NamedTuple):
    """Rows of all groups one after the other on each device; [rows, ...]."""

    units: jax.Array
    repetitions: jax.Array
    labels: jax.Array
    label_lengths: jax.Array
    masked: jax.Array


def text_groups(config: Config, speech: bool = True) -> tuple[Group, ...]:
    """The groups a config's losses need; the first is the one that audio is matched with, where it is.

    Without `speech`, in a step on text alone, there is the one of the text-only batch.
    """
    objective = config.objective
    reconstructs = bool(objective.streaming_reconstruction or objective.full_context_reconstruction)
    matched = objective.consistency.text if objective.consistency.weight else None
    groups = []
    if matched == "clean":
        groups.append(Group("", False, 0.0))
    if matched == "masked" or (reconstructs and objective.paired_reconstruction):
        groups.append(Group("", True, objective.paired_reconstruction if reconstructs else 0.0))
    if reconstructs and config.data.text_batch_size:
        groups.append(Group("text_", True, 1.0))
    return tuple(group for group in groups if speech or group.prefix)


def add_repetitions(config: Config, groups: tuple[Group, ...], batch: Batch, key: jax.Array) -> Batch:
    """The batch with the text frames of each unit, `repetitions` and `text_repetitions`, and, for the paired rows,
    the audio frames that each unit lasts, `lasting`, zeros where that is unknown."""
    batch, keys = dict(batch), dict(zip(("", "text_"), jax.random.split(key)))
    for prefix in {group.prefix for group in groups}:
        units, lengths = batch[f"{prefix}units"], batch[f"{prefix}unit_lengths"]
        batch[f"{prefix}repetitions"] = repetitions(config.text, lengths, units.shape[1], keys[prefix])
    if "repetitions" in batch:
        frames = config.model.features.frames(batch["audio_lengths"])
        batch["lasting"], known = durations(batch["unit_ends"], batch["unit_lengths"], frames)
        if config.text.repetition == "durations":
            batch["repetitions"] = jnp.where(known[:, None], batch["lasting"], batch["repetitions"])
    return batch


def text_frames(config: Config, groups: tuple[Group, ...], batch: Batch) -> int:
    """Text frames R that hold every row, a number known before anything is computed."""
    prefixes = {group.prefix for group in groups}
    most = max(most_frames(config.text, batch[f"{prefix}units"].shape[1]) for prefix in prefixes)
    if config.text.repetition == "durations" and "" in prefixes:
        most = max(most, int(config.model.features.frames(batch["audio"].shape[1])))
    return most


def gather_rows(groups: tuple[Group, ...], batch: Batch, mesh) -> TextRows:
    """The groups' rows, put together on each device, padded to common widths."""

    def together(name):
        arrays = [batch[f"{group.prefix}{name}"] for group in groups]
        if arrays[0].ndim == 2:
            width = max(x.shape[1] for x in arrays)
            arrays = [jnp.pad(x, ((0, 0), (0, width - x.shape[1]))) for x in arrays]
        return over_batch(lambda *own: jnp.concatenate(own), mesh)(*arrays)

    def flag(values):
        rows = [jnp.full(batch[f"{g.prefix}units"].shape[0], value) for g, value in zip(groups, values)]
        return over_batch(lambda *own: jnp.concatenate(own), mesh)(*rows)

    return TextRows(
        together("units"),
        together("repetitions"),
        together("labels"),
        together("label_lengths"),
        flag([group.masked for group in groups]),
    )


def split_rows(groups: tuple[Group, ...], batch: Batch, rows: jax.Array, mesh) -> list[jax.Array]:
    """What `gather_rows` put together, `rows` [rows, ...], by group again."""
    devices = batch_devices(mesh)
    ends = [0]
    for group in groups:
        ends.append(ends[-1] + batch[f"{group.prefix}units"].shape[0] // devices)
    cut = over_batch(lambda own: tuple(own[a:b] for a, b in zip(ends, ends[1:])), mesh, differentiable=True)
    return cut(rows)
