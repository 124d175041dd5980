"""What all kinds of units offer, and those that spell: characters or wordpieces, whatever the language."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from joint_st.data.tokenizers import UNKNOWN_MARK, WORD, Characters, Tokenizer, Wordpieces

PADDING = 0
UNKNOWN = 1
SPECIAL = ("<pad>", "<unk>")
"""How ids 0 and 1 are written."""
BOUNDARY = " "
"""How the boundary between two words is written."""
FILE = "units.json"


class Gather(Protocol):
    """Goes through the training texts, or knows what a pass over them has found."""

    def __call__(self, digest: str, symbols_of: Callable[[Sequence[tuple[str, str]]], set[str]]) -> set[str]:
        """All that `symbols_of` finds in (text, language tag) of the texts, some at a time.

        digest: changes whenever `symbols_of` may find something else in a text.
        """
        ...


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

    def refusal(self, language: str) -> str:
        """Why texts in a language have no units at all; empty where they may have."""
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


class Spelling:
    """The labels of a tokenizer as units."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.size = tokenizer.size
        self.digest = tokenizer.digest
        self.kind = tokenizer.kind
        if isinstance(tokenizer, Characters):
            written = list(tokenizer.characters)
        else:
            assert isinstance(tokenizer, Wordpieces)
            written = tokenizer.symbols()[len(SPECIAL) :]
        self.symbols = (*SPECIAL, *(symbol.replace(WORD, BOUNDARY) for symbol in written))

    def encode(self, text: str, language: str = "") -> np.ndarray:
        return self.tokenizer.encode(text)

    def words(self, text: str, language: str = "") -> np.ndarray:
        if not isinstance(self.tokenizer, Wordpieces):
            begins = boundary = np.array([character == BOUNDARY for character in text], bool)
            word = np.cumsum(begins)
        else:
            pieces = self.tokenizer.pieces(text)
            begins = np.array([piece.startswith(WORD) for piece in pieces], bool)
            boundary = np.array([piece == WORD for piece in pieces], bool)
            word = np.cumsum(begins) - 1
        return np.where(boundary, -1, np.minimum(word, len(text.split()) - 1)).astype(np.int32)

    def label_words(self, labels: Iterable[int]) -> tuple[list[str], np.ndarray]:
        """The words of the text of labels [U], however they cut it, and the word of each label, int32 [U].

        The words are those of `tokenizer.decode(labels).split()`; a label that spells a boundary alone has -1, and one
        that reaches over a boundary counts for the word it begins in.
        """
        unknown = UNKNOWN_MARK if isinstance(self.tokenizer, Characters) else f" {UNKNOWN_MARK} "
        words: list[str] = []
        owners, inside = [], False
        for label in labels:
            owner = -1
            for character in unknown if label == UNKNOWN else self.symbols[label]:
                if character.isspace():
                    inside = False
                    continue
                if not inside:
                    words.append("")
                    inside = True
                words[-1] += character
                owner = len(words) - 1 if owner < 0 else owner
            owners.append(owner)
        return words, np.array(owners, np.int32)

    def refusal(self, language: str) -> str:
        """Nothing is refused: any language can be spelled."""
        return ""

    def prepare(self, examples: Iterable[tuple[str, str]]) -> None:
        """Nothing: spelling needs no preparation."""

    def save(self, folder: Path | str) -> None:
        self.tokenizer.save(folder)
        write_description(folder, {"kind": self.kind})
