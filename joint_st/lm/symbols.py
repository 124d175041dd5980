"""How the labels of a tokenizer are written: in the text that they spell, and as tokens of a language model."""

from __future__ import annotations

from collections.abc import Sequence

from joint_st.data.tokenizers import BLANK, UNKNOWN, UNKNOWN_MARK, Characters, Tokenizer
from joint_st.lm import arpa

SPACE = "\u2581"
"""Stands for a space where tokens are separated by spaces; SentencePiece writes it where a word begins."""


def spellings(tokenizer: Tokenizer) -> list[str]:
    """What each label [V] adds to a text: "" the blank, `\u2047` the unknown one, a space in it where a word ends."""
    if isinstance(tokenizer, Characters):
        return ["", UNKNOWN_MARK, *tokenizer.characters]
    written = [piece.replace(SPACE, " ") for piece in tokenizer.symbols()]
    written[BLANK], written[UNKNOWN] = "", UNKNOWN_MARK
    return written


def symbols(tokenizer: Tokenizer) -> list[str]:
    """The token of each label [V] in a language model over labels: its spelling, `\u2581` for a space."""
    written = [spelling.replace(" ", SPACE) for spelling in spellings(tokenizer)]
    written[UNKNOWN] = arpa.UNKNOWN
    return written


def label_tokens(tokenizer: Tokenizer, text: str) -> Sequence[str]:
    """A normalised text as tokens of a language model over labels."""
    written = symbols(tokenizer)
    return [written[label] for label in tokenizer.encode(text)]
