"""How many units texts have, found while going through them once."""

from __future__ import annotations

from array import array

import numpy as np

from joint_st.data.text_units.units import Units

TOGETHER = 1_000
"""Texts prepared at once; to keep their phonemes one by one would take far longer."""


class UnitCounter:
    """Prepares the units of texts in groups, and holds no text of them longer than that."""

    def __init__(self, units: Units | None):
        self._units = units
        self._waiting: list[tuple[str, str]] = []
        self._lengths = array("i")

    def add(self, text: str, language: str) -> None:
        """The next text, normalised, with the tag of its language."""
        self._waiting.append((text, language))
        if len(self._waiting) >= TOGETHER:
            self._count()

    def lengths(self) -> np.ndarray:
        """The units of each text added, int32 [N]; zeros where there are no units."""
        self._count()
        return np.array(self._lengths, np.int32)

    def _count(self) -> None:
        if self._units is None:
            self._lengths.extend([0] * len(self._waiting))
        else:
            self._units.prepare(self._waiting)
            self._lengths.extend(len(self._units.encode(*example)) for example in self._waiting)
        self._waiting.clear()
