"""Words that occur in training audio, and words that occur in training text alone.

Synthetic speech counts as text: a model that hears a word from a synthesiser knows of it what its text says."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pydantic

from joint_st import storage
from joint_st.errors import UserError
from joint_st.json_files import read_json

FILE = "vocabulary.json"


class _Words(pydantic.BaseModel):
    """The file format of `vocabulary.json`."""

    heard: list[str]
    read: list[str]


@dataclass(frozen=True)
class Vocabulary:
    """The words of normalised training texts."""

    heard: frozenset[str]
    """Words in a transcript of training audio that is not synthetic."""
    read: frozenset[str]
    """Words in text without audio or in synthetic speech, and in no other transcript."""

    @classmethod
    def of(cls, heard: Iterable[str], read: Iterable[str]) -> Vocabulary:
        """Make it from the normalised transcripts of training audio, and the normalised texts without audio and of
        synthetic speech."""
        spoken = frozenset(word for text in heard for word in text.split())
        return cls(spoken, frozenset(word for text in read for word in text.split()) - spoken)

    def subset_of(self, word: str) -> Literal["heard", "text_only"] | None:
        """Return the subset that the word belongs to; None where it occurs in no training text."""
        if word in self.heard:
            return "heard"
        return "text_only" if word in self.read else None

    def save(self, folder: Path | str) -> None:
        """Write `vocabulary.json` into a folder, which must exist."""
        words = {"heard": sorted(self.heard), "read": sorted(self.read)}
        (Path(folder) / FILE).write_text(json.dumps(words, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path | str) -> Vocabulary:
        """Load it from a folder that `save` wrote into; raises `UserError` where there is none."""
        path = storage.path(folder) / FILE
        if not path.is_file():
            raise UserError(f"{path}: no such file; is this the folder of a run?")
        words = read_json(path, _Words)
        return cls(frozenset(words.heard), frozenset(words.read))
