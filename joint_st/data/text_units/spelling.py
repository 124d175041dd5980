"""Units that spell: characters or wordpieces, whatever the language."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from joint_st.data.text_units.units import BOUNDARY, SPECIAL, write_description
from joint_st.data.tokenizers import Characters, Tokenizer, Wordpieces

WORD = "\u2581"
"""How SentencePiece writes the beginning of a word."""


class Spelling:
    """The labels of a tokenizer as units."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.size = tokenizer.size
        self.digest = tokenizer.digest
        if isinstance(tokenizer, Characters):
            self.kind, written = "characters", list(tokenizer.characters)
        else:
            assert isinstance(tokenizer, Wordpieces)
            self.kind, written = "sentencepiece", tokenizer.symbols()[len(SPECIAL) :]
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

    def prepare(self, examples: Iterable[tuple[str, str]]) -> None:
        """Nothing: spelling needs no preparation."""

    def save(self, folder: Path | str) -> None:
        self.tokenizer.save(folder)
        write_description(folder, {"kind": self.kind})
