"""The fields of a batch. Each is declared here once; the loader, the shapes that steps are compiled for and the layout
over devices follow from it.

A batch has two parts, of utterances and of text alone; a part that a step does not take is absent:

    {"paired": {"audio": [B, S], "labels": [B, L], ...}, "text": {"labels": [B', L'], ...}}
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from joint_st.data.buckets import Buckets
from joint_st.ops.ctc import frames_needed

if TYPE_CHECKING:
    from joint_st.data.dataset import Example

Arrays = dict[str, dict[str, Any]]
"""The arrays of a batch by part and field, on the host or on devices."""


class Row(NamedTuple):
    """The source of a row of a batch."""

    example: Example
    """The utterance or text; its audio is at most as long as the batch's."""
    frames: int
    """Encoder frames for which the batch's audio has room; 0 for a text."""
    language: int
    """Index of its language in those of the run, 0 where it is not known."""


class Field(NamedTuple):
    """One array of a batch; its first axis is the row, and zeros pad the end of a row."""

    dtype: type
    value: Callable[[Row], Any]
    """The field's value for a row: a number, or a sequence where there is a second axis."""
    axis: str = ""
    """What the second axis counts: `samples`, `labels` or `units`; "" where there is none."""
    needs_units: bool = False
    """Whether the field exists only where the data have text units."""


_TEXT = {
    "labels": Field(np.int32, lambda row: row.example.labels, "labels"),
    "label_lengths": Field(np.int32, lambda row: len(row.example.labels)),
    # The fewest frames in which CTC can emit the labels, and the units.
    "frames_needed": Field(np.int32, lambda row: frames_needed(row.example.labels)),
    "units": Field(np.int32, lambda row: row.example.units, "units", True),
    "unit_lengths": Field(np.int32, lambda row: len(row.example.units), needs_units=True),
    "unit_frames_needed": Field(np.int32, lambda row: frames_needed(row.example.units), needs_units=True),
    "language": Field(np.int32, lambda row: row.language),
    # Whether there is something in the row that can be read.
    "valid": Field(np.bool_, lambda row: True),
}

FIELDS = {
    "paired": _TEXT
    | {
        "audio": Field(np.int16, lambda row: row.example.audio, "samples"),
        "audio_lengths": Field(np.int32, lambda row: len(row.example.audio)),
        # The encoder frame (exclusive) at which each unit ends, and whether that is known of the row.
        "unit_ends": Field(np.int32, lambda row: np.minimum(row.example.unit_ends, row.frames), "units", True),
        "has_durations": Field(np.bool_, lambda row: np.any(row.example.unit_ends > 0), needs_units=True),
    },
    "text": _TEXT,
}
"""All fields of the parts of a batch."""


class Shape(NamedTuple):
    """The bucket of each part of a batch; None where it lacks the part."""

    paired: int | None
    text: int | None


@dataclass(frozen=True)
class Batch:
    """One batch as this host has it."""

    number: int
    """Number of the batch in the run, from 0 on: the step that takes it."""
    shape: Shape
    arrays: Arrays
    """This host's rows."""
    rows: dict[str, np.ndarray]
    """By part, the rows of the data set that the batch has over all hosts, int64 [B]; -1 where it has none."""
    local_rows: dict[str, np.ndarray]
    """By part, those of this host."""


def fields(part: str, buckets: Buckets) -> Iterator[tuple[str, Field]]:
    """Return the fields of a part, given the buckets of its data."""
    for name, field in FIELDS[part].items():
        if buckets.unit_bounds or not field.needs_units:
            yield name, field


def array_shape(field: Field, rows: int, buckets: Buckets, bucket: int) -> tuple[int, ...]:
    """Return the shape of a field's array for a number of rows in a bucket."""
    widths = {"samples": buckets.bounds, "labels": buckets.label_bounds, "units": buckets.unit_bounds}
    return (rows, widths[field.axis][bucket]) if field.axis else (rows,)


def empty_part(part: str, rows: int, buckets: Buckets, bucket: int) -> dict[str, np.ndarray]:
    """Return the arrays of a part, all zeros."""
    return {
        name: np.zeros(array_shape(field, rows, buckets, bucket), field.dtype) for name, field in fields(part, buckets)
    }


def fill_row(arrays: dict[str, np.ndarray], part: str, b: int, row: Row) -> None:
    """Write `row` into row `b` of a part's arrays: numbers as they are, sequences from the left."""
    for name, array in arrays.items():
        value = FIELDS[part][name].value(row)
        if array.ndim == 2:
            array[b, : len(value)] = value
        else:
            array[b] = value
