"""The temperatures of a run's confidences, `calibration.json`: one for each checkpoint, head and decoder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from joint_st import storage
from joint_st.errors import UserError
from joint_st.json_files import NOT_JSON
from joint_st.runs.directory import RunDirectory


@dataclass(frozen=True)
class Temperature:
    """A temperature, what it was fitted for, and the data on which it was fitted."""

    step: int
    """Step of the checkpoint."""
    head: str
    """`streaming` or `full_context`."""
    decoder: str
    """Name of the decoder, with language models and their weights."""
    fingerprint: str
    """Text that changes with everything in the decoder, including the content of its language models."""
    temperature: float
    fitted_on: str
    """Names of the data."""
    words: int
    """Number of words on which it was fitted."""

    @property
    def key(self) -> tuple[int, str, str]:
        """Return what it was fitted for: step, head, fingerprint of the decoder."""
        return self.step, self.head, self.fingerprint


def read_temperatures(run: RunDirectory) -> dict[tuple[int, str, str], Temperature]:
    """Return the temperatures of a run by their keys; raises `UserError` where their file is damaged."""
    if not run.calibration.is_file():
        return {}
    try:
        found = [Temperature(**one) for one in json.loads(run.calibration.read_text(encoding="utf-8"))]
        if not all(0 < one.temperature < float("inf") for one in found):
            raise ValueError("a temperature that is no positive number")
        return {one.key: one for one in found}
    except (*NOT_JSON, TypeError) as error:
        why = " ".join(str(error).split())[:100]
        raise UserError(
            f"{run.calibration}: damaged ({why}); remove it, and fit again: joint-st evaluate {run.root} --calibrate"
        ) from None


def store_temperatures(run: RunDirectory, fitted: Sequence[Temperature], path: Path | None = None) -> None:
    """Add temperatures to those of a run, replacing older ones with the same keys. path: write them there instead."""
    found = read_temperatures(run) | {one.key: one for one in fitted}
    rows = [asdict(found[key]) for key in sorted(found)]
    storage.write_whole(path or run.calibration, json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
