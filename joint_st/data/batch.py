"""What a batch holds: every field is declared here once, and the loader, the shapes that steps are compiled for and the
layout over devices follow from it.

A batch has two parts, of utterances and of text alone; one that a step does not take is not there:

    {"paired": {"audio": [B, S], "labels": [B, L], ...}, "text": {"labels": [B', L'], ...}}
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from joint_st.data.buckets import Buckets

Arrays = dict[str, dict[str, Any]]
"""The arrays of a batch by part and field, on the host or on devices."""


class Field(NamedTuple):
    """One array of a batch; its first axis is that of the rows, zeros stand behind the end of a row."""

    dtype: type
    axis: str = ""
    """What the second axis counts: `samples`, `labels` or `units`; "" where there is none."""
    needs_units: bool = False
    """Whether it is there only where the data have text units."""


_TEXT = {
    "labels": Field(np.int32, "labels"),
    "label_lengths": Field(np.int32),
    # The fewest frames in which CTC can emit the labels, and the units.
    "frames_needed": Field(np.int32),
    "units": Field(np.int32, "units", True),
    "unit_lengths": Field(np.int32, needs_units=True),
    "unit_frames_needed": Field(np.int32, needs_units=True),
    # Index in the run's languages, 0 where it is not known.
    "language": Field(np.int32),
    # Whether there is something in the row that can be read.
    "valid": Field(np.bool_),
}

FIELDS = {
    "paired": _TEXT
    | {
        "audio": Field(np.int16, "samples"),
        "audio_lengths": Field(np.int32),
        # The encoder frame (exclusive) at which each unit ends, and whether that is known of the row.
        "unit_ends": Field(np.int32, "units", True),
        "has_durations": Field(np.bool_, needs_units=True),
    },
    "text": _TEXT,
}
"""All fields of the parts of a batch."""


class Shape(NamedTuple):
    """Which bucket each part of a batch is of; None where it lacks the part."""

    paired: int | None
    text: int | None


@dataclass(frozen=True)
class Batch:
    """One batch as this host has it."""

    number: int
    """Which batch of the run it is, from 0 on: the step that takes it."""
    shape: Shape
    arrays: Arrays
    """This host's rows."""
    rows: dict[str, np.ndarray]
    """By part, the rows of the data set that the batch has over all hosts, int64 [B]; -1 where it has none."""
    local_rows: dict[str, np.ndarray]
    """By part, those of this host."""


def fields(part: str, buckets: Buckets) -> Iterator[tuple[str, Field]]:
    """The fields of a part that data in such buckets have."""
    for name, field in FIELDS[part].items():
        if buckets.unit_bounds or not field.needs_units:
            yield name, field


def array_shape(field: Field, rows: int, buckets: Buckets, bucket: int) -> tuple[int, ...]:
    """The shape of a field's array with so many rows in a bucket."""
    widths = {"samples": buckets.bounds, "labels": buckets.label_bounds, "units": buckets.unit_bounds}
    return (rows, widths[field.axis][bucket]) if field.axis else (rows,)


def empty_part(part: str, rows: int, buckets: Buckets, bucket: int) -> dict[str, np.ndarray]:
    """The arrays of a part, all zeros."""
    return {
        name: np.zeros(array_shape(field, rows, buckets, bucket), field.dtype) for name, field in fields(part, buckets)
    }


def fill_row(arrays: dict[str, np.ndarray], b: int, values: dict[str, Any]) -> None:
    """Write row `b` of a part: numbers as they are, sequences from the left; fields that the part lacks are left out."""
    for name in values.keys() & arrays.keys():
        value = values[name]
        if arrays[name].ndim == 2:
            arrays[name][b, : len(value)] = value
        else:
            arrays[name][b] = value
