"""Batches that tests make by hand."""

from __future__ import annotations

import numpy as np

from joint_st.data.batch import FIELDS, Batch


def completed(part: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays of a part of a batch with the fields that follow from them, and zeros for other missing
    fields."""
    arrays = dict(arrays)
    rows = len(arrays["valid"])
    for kind, name in (("label", "frames_needed"), ("unit", "unit_frames_needed")):
        if f"{kind}s" in arrays:
            values, lengths = arrays[f"{kind}s"], arrays[f"{kind}_lengths"]
            repeats = [np.count_nonzero(row[1:n] == row[: max(n - 1, 0)]) for row, n in zip(values, lengths)]
            arrays[name] = (lengths + np.array(repeats)).astype(np.int32)
    if "units" in arrays and part == "paired":
        arrays.setdefault("unit_ends", np.zeros_like(arrays["units"]))
        arrays["has_durations"] = (arrays["unit_ends"].max(axis=1, initial=0) > 0) & (arrays["unit_lengths"] > 0)
    for name, field in FIELDS[part].items():
        if name not in arrays and not (field.needs_units and "units" not in arrays):
            assert not field.axis, f"{name} has to be given"
            arrays[name] = np.zeros(rows, field.dtype)
    return arrays


def flat(batch: Batch) -> tuple[int, dict[str, np.ndarray]]:
    """Return a batch's number, and its arrays with `text_` before the names of those of text alone.

    `index` and `text_index` are this host's rows of the data sets.
    """
    found = {}
    for part, prefix in (("paired", ""), ("text", "text_")):
        if part in batch.arrays:
            found |= {f"{prefix}{name}": array for name, array in batch.arrays[part].items()}
            found[f"{prefix}index"] = batch.local_rows[part].astype(np.int32)
    return batch.number, found
