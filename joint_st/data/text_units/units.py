"""What all kinds of units offer."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np

PADDING = 0
UNKNOWN = 1
SPECIAL = ("<pad>", "<unk>")
"""How ids 0 and 1 are written."""
BOUNDARY = " "
"""How the boundary between two words is written."""
FILE = "units.json"


class Units(Protocol):
    """Text to units; texts are normalised before they come here. It pickles, and serves many threads."""

    size: int
    """How many units there are, padding and unknown included. Padding is the blank of the auxiliary CTC of units."""
    symbols: tuple[str, ...]
    """How each unit is written [size]."""

    @property
    def digest(self) -> str:
        """Changes whenever `encode` may return something else for some text and language."""
        ...

    def encode(self, text: str, language: str = "") -> np.ndarray:
        """Units int32 [U], none of them padding. `language`: BCP 47 tag, empty where unknown."""
        ...

    def words(self, text: str, language: str = "") -> np.ndarray:
        """Which word of `text.split()` each unit belongs to, int32 [U]; -1 for boundaries between words."""
        ...

    def prepare(self, examples: Iterable[tuple[str, str]]) -> None:
        """Computes, and keeps on disk, what `encode` will need for each (text, language)."""
        ...

    def save(self, folder: Path | str) -> None:
        """Writes what `load_units` reads into a folder, which is made."""
        ...


def write_description(folder: Path | str, description: dict) -> None:
    """Writes `units.json` into a folder, which is made."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    text = json.dumps(description, ensure_ascii=False, indent=1)
    (Path(folder) / FILE).write_text(text + "\n", encoding="utf-8")
