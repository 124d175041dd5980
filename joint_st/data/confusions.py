"""How often each text unit is recognised as which other: counts in a file, which `joint-st confusions` writes, and
probabilities by which text is made as wrong as what the model hears."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pydantic

from joint_st import storage
from joint_st.data.text_units.units import PADDING
from joint_st.errors import UserError
from joint_st.json_files import read_json
from joint_st.ops.text_frames import ConfusionRates

MAKE = "`joint-st confusions RUN` writes such a file"

_Count = Annotated[int, pydantic.Field(ge=0)]


class _File(pydantic.BaseModel):
    """The file format."""

    units: list[str]
    heard_as: dict[str, dict[str, _Count]]
    missed: dict[str, _Count]
    inserted: dict[str, _Count]
    made_by: dict[str, str | int] = {}
    wer: dict[str, dict[str, float]] = {}
    wer_of_subsets: dict[str, dict[str, dict[str, float]]] = {}

    @pydantic.model_validator(mode="after")
    def _known(self):
        if len(set(self.units)) < len(self.units):
            raise ValueError("units: one is there twice")
        named = {*self.heard_as, *self.missed, *self.inserted, *(one for row in self.heard_as.values() for one in row)}
        if unknown := sorted(named - set(self.units)):
            raise ValueError(f"{unknown[0]!r} is counted, and is none of the units")
        return self


@dataclass(frozen=True)
class Confusions:
    """Counts of what was heard for each unit of a reference."""

    symbols: tuple[str, ...]
    """How each of the V units is written."""
    heard: np.ndarray
    """How often each unit (row) was heard as which unit (column), int64 [V, V]; column 0, the blank, counts how often it
    was missed."""
    inserted: np.ndarray
    """How often each unit was heard where the reference has none, int64 [V]."""

    @property
    def units(self) -> int:
        """The number of units in the references."""
        return int(self.heard.sum())

    @property
    def substitutions(self) -> int:
        """The number of units that were heard as another one."""
        return int(self.heard[:, 1:].sum() - np.trace(self.heard[1:, 1:]))

    @property
    def deletions(self) -> int:
        """The number of units that were missed."""
        return int(self.heard[:, PADDING].sum())

    @property
    def insertions(self) -> int:
        """The number of units that were heard where there are none."""
        return int(self.inserted.sum())

    @property
    def error_rate(self) -> float:
        """Errors of all three kinds for each unit of the references."""
        return (self.substitutions + self.deletions + self.insertions) / self.units

    def describe(self, scale: float) -> str:
        """Return in words how often units are confused if their rates are multiplied by `scale`."""
        kinds = {"substituted": self.substitutions, "missed": self.deletions, "inserted": self.insertions}
        rates = ", ".join(f"{count / self.units:.1%} {kind}" for kind, count in kinds.items())
        return f"units are confused as counted over {self.units}, times {scale:g}: {rates}"

    @property
    def digest(self) -> str:
        """Text that changes with the counts."""
        content = repr(self.symbols).encode() + self.heard.tobytes() + self.inserted.tobytes()
        return hashlib.sha256(content).hexdigest()

    def to_json(
        self,
        made_by: Mapping[str, str | int] | None = None,
        wer: Mapping[str, Mapping[str, float]] | None = None,
        wer_of_subsets: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None,
    ) -> str:
        """Return the content of a file. made_by: facts about the measurement. wer: word error rates of what is read, by
        what that is and by pass. wer_of_subsets: the same of each subset of the words."""
        names = self.symbols
        content = {
            "made_by": dict(made_by or {}),
            "wer": dict(wer or {}),
            "wer_of_subsets": dict(wer_of_subsets or {}),
            "units": list(names),
            "heard_as": {
                names[u]: {names[v]: int(self.heard[u, v]) for v in np.flatnonzero(self.heard[u]) if v != PADDING}
                for u in np.flatnonzero(self.heard[:, 1:].any(axis=1))
            },
            "missed": {names[u]: int(self.heard[u, PADDING]) for u in np.flatnonzero(self.heard[:, PADDING])},
            "inserted": {names[v]: int(self.inserted[v]) for v in np.flatnonzero(self.inserted)},
        }
        return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def units_in(path: Path, field: str = "text.confusions") -> tuple[str, ...]:
    """Return the units that a file of counts is of. Raises `UserError` as `read_confusions`."""
    return tuple(_read(path, field).units)


def _read(path: Path, field: str) -> _File:
    if not storage.is_remote(path) and (why := storage.why_no_file(path)):
        raise UserError(f"{field}: {path}: {why}; {MAKE}")
    try:
        return read_json(path, _File, MAKE)
    except OSError as error:
        raise UserError(f"{field}: {path}: {error.strerror or error}; {MAKE}") from None
    except UserError as error:
        raise UserError(f"{field}: {error}") from None


def read_confusions(path: Path, symbols: tuple[str, ...], field: str = "text.confusions") -> Confusions:
    """Read a file of counts for the units `symbols` of a run.

    Raises `UserError`, which begins with `field`, where there is no such file, where it is damaged, has counted other
    units, or has counted none.
    """
    found = _read(path, field)
    if tuple(found.units) != symbols:
        apart = sorted(set(found.units) ^ set(symbols))
        which = f"{apart[0]!r} is in one of the two alone" if apart else "they are in another order"
        raise UserError(
            f"{field}: {path}: it counts {len(found.units)} text units, not the {len(symbols)} of this run ({which}); "
            "measure it with a run on the same texts"
        )
    number = {symbol: n for n, symbol in enumerate(symbols)}
    heard, inserted = np.zeros((len(symbols),) * 2, np.int64), np.zeros(len(symbols), np.int64)
    for said, row in found.heard_as.items():
        for other, count in row.items():
            heard[number[said], number[other]] = count
    for said, count in found.missed.items():
        heard[number[said], PADDING] = count
    for other, count in found.inserted.items():
        inserted[number[other]] = count
    if not heard.sum():
        raise UserError(f"{field}: {path}: it counts no unit at all; measure it on utterances with text")
    return Confusions(symbols, heard, inserted)


def confusion_rates(counts: Confusions, scale: float = 1.0) -> ConfusionRates:
    """Return the probabilities for errors `scale` times as frequent as they were counted.

    A unit that was never counted is never confused, and none is wrong more often than always.
    """
    size, heard = len(counts.symbols), counts.heard.astype(np.float64)
    right = np.eye(size, dtype=bool)
    right[PADDING] = False
    said = heard.sum(axis=1)
    wrong = np.where(right, 0, heard) / np.maximum(said, 1)[:, None] * scale
    wrong /= np.maximum(wrong.sum(axis=1), 1)[:, None]
    wrong[PADDING] = 0
    probabilities = wrong + np.diag(1 - wrong.sum(axis=1))
    return ConfusionRates(
        _up_to(probabilities),
        _up_to(counts.inserted.astype(np.float64)),
        scale * counts.insertions / max(counts.units, 1),
    )


def _up_to(weights: np.ndarray) -> np.ndarray:
    """Return sums of weights along the last axis, as a share of their total; exactly 1 from the last positive one on."""
    sums = np.cumsum(weights, axis=-1)
    total = sums[..., -1:]
    return np.where(sums >= total, 1, sums / np.where(total > 0, total, 1)).astype(np.float32)
