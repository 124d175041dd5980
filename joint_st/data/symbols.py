"""The inventories of a run: the labels that its heads spell, the units that its text encoder reads, its languages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from joint_st import storage
from joint_st.data.text_units import Units
from joint_st.data.tokenizers import Tokenizer
from joint_st.errors import UserError
from joint_st.json_files import DAMAGED, read_json

LANGUAGES_FILE = "languages.json"


class SymbolSizes(NamedTuple):
    """Sizes of the inventories, from which the shapes of a model follow."""

    labels: int
    """Number of labels, which the heads spell; the blank at 0 is included."""
    units: int = 0
    """Number of text units, padding at 0 and unknown at 1 included; 0 without a text encoder."""
    languages: int = 1
    """Number of languages of the training data, the unknown one at 0 included."""


@dataclass(frozen=True)
class Symbols:
    """All inventories of a run."""

    labels: Tokenizer
    units: Units | None = None
    """None where there is no text encoder."""
    languages: tuple[str, ...] = ("",)
    """BCP 47 tags, the unknown language `""` first."""

    @property
    def sizes(self) -> SymbolSizes:
        """Sizes of the inventories."""
        return SymbolSizes(self.labels.size, self.units.size if self.units else 0, len(self.languages))

    def language(self, tag: str) -> int:
        """Return the id of a language; 0 where training had none with that tag."""
        return self.languages.index(tag) if tag in self.languages else 0


def save_languages(languages: tuple[str, ...], folder: Path | str) -> None:
    """Write `languages.json` into a folder, which must exist."""
    (Path(folder) / LANGUAGES_FILE).write_text(json.dumps(languages, ensure_ascii=False) + "\n", encoding="utf-8")


def load_languages(folder: Path | str) -> tuple[str, ...]:
    """Load what `save_languages` wrote; only the unknown language where there is no such file."""
    path = storage.path(folder) / LANGUAGES_FILE
    if not path.is_file():
        return ("",)
    languages = read_json(path, list[str])
    if languages[:1] != [""] or len(set(languages)) < len(languages):
        raise UserError(f"{path}: the unknown language, '', comes first and each language once; {DAMAGED}")
    return tuple(languages)
