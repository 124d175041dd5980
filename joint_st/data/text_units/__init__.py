"""What the text encoder reads: phonemes, characters or wordpieces. Id 0 is padding, id 1 unknown."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import pydantic

from joint_st import storage
from joint_st.config import TokenizerConfig, UnitsConfig
from joint_st.data.text_units.phonemes import Phonemes
from joint_st.data.text_units.units import BOUNDARY, FILE, PADDING, UNKNOWN, Gather, Spelling, Units
from joint_st.data.tokenizers import load_tokenizer, make_tokenizer
from joint_st.errors import UserError
from joint_st.json_files import read_json

__all__ = ["BOUNDARY", "PADDING", "TOGETHER", "UNKNOWN", "Units", "load_units", "make_units"]


TOGETHER = 1_000
"""Number of texts whose units are computed together; storing phonemes one by one would take far longer."""


def make_units(config: UnitsConfig, examples: Iterable[tuple[str, str]], gather: Gather | None = None) -> Units | None:
    """Make the units from (normalised text, language tag or "") of each training text; None where the kind is `none`.

    gather: what a pass over the examples has found, if there was one already.

    Texts in a language that espeak-ng lacks have no phonemes. Raises `UserError` where there is no text, or none
    that has phonemes, and where SentencePiece cannot make that many pieces.
    """
    if config.kind == "none":
        return None
    if config.kind == "phonemes":
        return Phonemes.make(config.language, gather or _gather(examples), boundaries=config.boundaries)
    spelled = TokenizerConfig(kind=config.kind, vocabulary_size=config.vocabulary_size)
    return Spelling(make_tokenizer(spelled, (text for text, _ in examples), "data.units"))


def _gather(examples: Iterable[tuple[str, str]]) -> Gather:
    examples = list(examples)

    def gather(digest, symbols_of):
        found, rest = set(), iter(examples)
        while some := list(itertools.islice(rest, TOGETHER)):
            found |= symbols_of(some)
        return found

    return gather


def load_units(folder: Path | str) -> Units:
    """Load the units that `save` wrote into `folder`; raises `UserError` where there are none."""
    path = storage.path(folder) / FILE
    if not path.is_file():
        raise UserError(f"{path}: no such file; is this the folder of a run that has units?")
    description = read_json(path, _Description)
    if isinstance(description, _OfPhonemes):
        return Phonemes.load(description.model_dump())
    return Spelling(load_tokenizer(folder))


class _OfPhonemes(pydantic.BaseModel):
    """The file format of phonemes."""

    kind: Literal["phonemes"]
    symbols: list[Annotated[str, pydantic.Field(min_length=1)]]
    language: str
    version: str

    @pydantic.field_validator("symbols")
    @classmethod
    def _each_once(cls, symbols: list[str]) -> list[str]:
        if len(set(symbols)) < len(symbols):
            raise ValueError("symbols: one is there twice")
        return symbols


class _Spelled(pydantic.BaseModel):
    """The file format of units that spell; their tokenizer is saved next to it."""

    kind: Literal["characters", "sentencepiece"]


_Description = Annotated[_OfPhonemes | _Spelled, pydantic.Field(discriminator="kind")]
