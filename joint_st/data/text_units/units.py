"""The interface of all kinds of text units, and the units that spell in any language: characters or wordpieces."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from joint_st.data.scripts import Token, token_bounds, tokens_of
from joint_st.data.tokenizers import UNKNOWN_MARK, WORD, Characters, Tokenizer, Wordpieces

PADDING = 0
UNKNOWN = 1
SPECIAL = ("<pad>", "<unk>")
"""How ids 0 and 1 are written."""
BOUNDARY = " "
"""How the boundary between two words is written."""
FILE = "units.json"


class Gather(Protocol):
    """A pass over the training texts, or the stored outcome of one."""

    def __call__(self, digest: str, symbols_of: Callable[[Sequence[tuple[str, str]]], set[str]]) -> set[str]:
        """Return all that `symbols_of` finds in (text, language tag) of the texts, which it gets in chunks.

        digest: a text that changes whenever `symbols_of` may find something else in a text.
        """
        ...


class Units(Protocol):
    """Turns normalised text into units. It can be pickled and used by many threads."""

    size: int
    """Number of units, padding and unknown included. Padding is the blank of the auxiliary CTC of units."""
    symbols: tuple[str, ...]
    """How each unit is written [size]."""

    @property
    def digest(self) -> str:
        """Text that changes whenever `encode` may return something else for some text and language."""
        ...

    def encode(self, text: str, language: str = "") -> np.ndarray:
        """Return units int32 [U], none of them padding. `language`: BCP 47 tag, empty where unknown."""
        ...

    def words(self, text: str, language: str = "") -> np.ndarray:
        """Return which word of `text.split()` each unit belongs to, int32 [U]; -1 for boundaries between words."""
        ...

    def unknown(self, text: str, language: str = "") -> list[str]:
        """Return the symbols of a text that are none of the units, in order; `encode` makes them `UNKNOWN`."""
        ...

    def refusal(self, language: str) -> str:
        """Return why texts in a language have no units at all; empty where they may have some."""
        ...

    def prepare(self, examples: Iterable[tuple[str, str]]) -> None:
        """Compute, and store on disk, what `encode` will need for each (text, language)."""
        ...

    def save(self, folder: Path | str) -> None:
        """Write what `load_units` reads into a folder, which is created."""
        ...


def write_description(folder: Path | str, description: dict) -> None:
    """Write `units.json` into a folder, which is created."""
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

    def unknown(self, text: str, language: str = "") -> list[str]:
        return self.tokenizer.unknown(text)

    def label_tokens(self, labels: Iterable[int]) -> tuple[list[Token], np.ndarray, np.ndarray]:
        """Return the tokens of the text that labels [U] spell, and of which parts of labels they consist: the label and the
        token of each part, int32 [P] each, in order.

        The tokens are `tokens_of(tokenizer.decode(labels))`. A label has a part in each token that it helps to spell: a
        wordpiece of two Chinese characters in two, one that spells a boundary alone in none.
        """
        unknown = UNKNOWN_MARK if isinstance(self.tokenizer, Characters) else f" {UNKNOWN_MARK} "
        spelled = [unknown if label == UNKNOWN else self.symbols[label] for label in labels]
        text = "".join(spelled)
        label_of = [label for label, one in enumerate(spelled) for _ in one]
        parts = [
            (label, token)
            for token, (start, end) in enumerate(token_bounds(text))
            for label in dict.fromkeys(label_of[start:end])
        ]
        label, token = np.array(parts, np.int32).reshape(-1, 2).T
        return tokens_of(text), label, token

    def refusal(self, language: str) -> str:
        """Return an empty text: any language can be spelled."""
        return ""

    def prepare(self, examples: Iterable[tuple[str, str]]) -> None:
        """Do nothing: spelling needs no preparation."""

    def save(self, folder: Path | str) -> None:
        self.tokenizer.save(folder)
        write_description(folder, {"kind": self.kind})
