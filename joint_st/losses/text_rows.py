"""The rows of text in a step: those of the paired batch, clean, masked or both, and those of the text-only batch.

All of them pass through the text encoder and the shared layers at once. Each device concatenates its own rows, so that
no row is sent to another device: over the whole mesh, rows are ordered by device first, then by pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from joint_st.config import Config
from joint_st.data.batch import Arrays
from joint_st.distributed.mesh import batch_devices, over_batch
from joint_st.losses.passes import Pass
from joint_st.models.text_encoder import most_frames, repetitions
from joint_st.ops.text_frames import durations


class TextRows(NamedTuple):
    """Rows of all passes one after the other on each device; arrays [rows, ...]."""

    passes: tuple[Pass, ...]
    """The passes, in the order of their rows."""
    sizes: tuple[int, ...]
    """Rows of each pass over the whole mesh."""
    units: jax.Array
    repetitions: jax.Array
    labels: jax.Array
    label_lengths: jax.Array
    masked: jax.Array
    """Whether spans of a row are masked, and noise added, bool [rows]."""
    columns: dict[str, jax.Array] = {}
    """Further fields of the batch, by name."""


def add_repetitions(config: Config, parts: Sequence[str], batch: Arrays, key: jax.Array) -> Arrays:
    """Add to some parts of a batch the text frames of each unit, `repetitions`, and to the paired rows the audio frames
    that each unit lasts, `unit_frames`, zeros where that is unknown."""
    batch, keys = dict(batch), dict(zip(("paired", "text"), jax.random.split(key)))
    for part in parts:
        units, lengths = batch[part]["units"], batch[part]["unit_lengths"]
        drawn = repetitions(config.text, lengths, units.shape[1], keys[part])
        batch[part] = batch[part] | {"repetitions": drawn}
    if "paired" in parts:
        paired = batch["paired"]
        frames = config.model.features.frames(paired["audio_lengths"])
        paired["unit_frames"], _ = durations(paired["unit_ends"], paired["unit_lengths"], frames)
        if config.text.repetition == "durations":
            known = paired["has_durations"][:, None]
            paired["repetitions"] = jnp.where(known, paired["unit_frames"], paired["repetitions"])
    return batch


def frames_bound(config: Config, parts: Sequence[str], batch: Arrays) -> int:
    """Return a number of text frames R that is enough for every row of some parts, and is known at compile time."""
    most = max(most_frames(config.text, batch[part]["units"].shape[1]) for part in parts)
    if config.text.repetition == "durations" and "paired" in parts:
        most = max(most, int(config.model.features.frames(batch["paired"]["audio"].shape[1])))
    return most


def gather_rows(
    passes: Sequence[Pass], masked: Sequence[bool], batch: Arrays, mesh, columns: Sequence[str] = ()
) -> TextRows:
    """Concatenate the rows of all passes on each device, padded to common widths, with some further columns."""

    def together(name):
        arrays = [batch[one.part][name] for one in passes]
        if arrays[0].ndim == 2:
            width = max(x.shape[1] for x in arrays)
            arrays = [jnp.pad(x, ((0, 0), (0, width - x.shape[1]))) for x in arrays]
        return over_batch(lambda *own: jnp.concatenate(own), mesh)(*arrays)

    sizes = tuple(batch[one.part]["units"].shape[0] for one in passes)
    flags = [jnp.full(size, value) for size, value in zip(sizes, masked)]
    return TextRows(
        tuple(passes),
        sizes,
        together("units"),
        together("repetitions"),
        together("labels"),
        together("label_lengths"),
        over_batch(lambda *own: jnp.concatenate(own), mesh)(*flags),
        {name: together(name) for name in columns},
    )


def rows_on_device(rows: TextRows, one: Pass, mesh) -> slice:
    """Return the place of a pass's rows among the rows of each device."""
    devices, k = batch_devices(mesh), rows.passes.index(one)
    first = sum(rows.sizes[:k]) // devices
    return slice(first, first + rows.sizes[k] // devices)


def split_rows(rows: TextRows, values: jax.Array, mesh) -> dict[Pass, jax.Array]:
    """Split `values` [rows, ...] for the rows of `gather_rows` by pass again."""
    own = [rows_on_device(rows, one, mesh) for one in rows.passes]
    cut = over_batch(lambda local: tuple(local[rows] for rows in own), mesh, differentiable=True)
    return dict(zip(rows.passes, cut(values)))
