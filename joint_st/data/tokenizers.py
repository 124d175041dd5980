"""Tokenizers, which turn text into the labels of the CTC heads: characters, or SentencePiece wordpieces. Id 0 is the
blank, id 1 unknown."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Protocol

import numpy as np
import pydantic
import sentencepiece

from joint_st import storage
from joint_st.config import TokenizerConfig
from joint_st.data.paths import expand
from joint_st.errors import UserError
from joint_st.json_files import DAMAGED, read_json

BLANK = 0
UNKNOWN = 1
UNKNOWN_MARK = "\u2047"
"""How an unknown symbol is written out, in SentencePiece too."""


class Tokenizer(Protocol):
    """Turns normalised text into labels and back. It can be pickled."""

    kind: str
    """`characters` or `sentencepiece`."""
    size: int
    """V, the blank included."""
    digest: str
    """Text that changes whenever `encode` may return something else for some text."""

    def encode(self, text: str) -> np.ndarray:
        """Return labels int32 [U], none of them the blank."""
        ...

    def decode(self, ids) -> str:
        """Return the text of labels [U], its words separated by single spaces; blanks are skipped."""
        ...

    def unknown(self, text: str) -> list[str]:
        """Return the characters of a text that become unknown labels, each as often as it occurs."""
        ...

    def save(self, folder: Path | str) -> None:
        """Write what `load_tokenizer` reads into a folder, which is created."""
        ...


class Characters:
    """One label per character."""

    kind = "characters"

    def __init__(self, characters: Iterable[str]):
        self.characters = tuple(characters)
        self.size = 2 + len(self.characters)
        self._ids = {character: 2 + i for i, character in enumerate(self.characters)}
        self.digest = hashlib.sha256(json.dumps(self.characters).encode()).hexdigest()[:16]

    def encode(self, text: str) -> np.ndarray:
        return np.fromiter((self._ids.get(character, UNKNOWN) for character in text), np.int32, len(text))

    def decode(self, ids) -> str:
        written = ("", UNKNOWN_MARK, *self.characters)
        return _single_spaced("".join(written[i] for i in ids))

    def unknown(self, text: str) -> list[str]:
        return [character for character in text if character not in self._ids]

    def save(self, folder: Path | str) -> None:
        _write(folder, {"kind": self.kind, "characters": list(self.characters)})


class Wordpieces:
    """The pieces of a SentencePiece model."""

    kind = "sentencepiece"

    def __init__(self, model: bytes):
        self.model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.size = self._processor.get_piece_size()
        self.digest = hashlib.sha256(model).hexdigest()[:16]

    def encode(self, text: str) -> np.ndarray:
        return np.asarray(self._processor.encode(text), np.int32)

    def decode(self, ids) -> str:
        return _single_spaced(self._processor.decode([int(i) for i in ids if i != BLANK]))

    def unknown(self, text: str) -> list[str]:
        pieces = zip(self.encode(text), self.pieces(text), strict=True)
        return [character for label, piece in pieces if label == UNKNOWN for character in piece if character != WORD]

    def save(self, folder: Path | str) -> None:
        _write(folder, {"kind": self.kind, "model": MODEL})
        (Path(folder) / MODEL).write_bytes(self.model)

    @property
    def has_our_ids(self) -> bool:
        """Return whether its padding, which stands for the blank, and its unknown piece have the ids of this
        package."""
        return (self._processor.pad_id(), self._processor.unk_id()) == (BLANK, UNKNOWN)

    def pieces(self, text: str) -> list[str]:
        """Return the pieces of `text` as they are written, with `WORD` where a word begins."""
        return self._processor.encode(text, out_type=str)

    def symbols(self) -> list[str]:
        """Return all pieces [V] as they are written."""
        return [self._processor.id_to_piece(i) for i in range(self.size)]

    def __reduce__(self):
        return Wordpieces, (self.model,)


def _single_spaced(text: str) -> str:
    """Return the text without outer and doubled spaces: a head may emit several, with blanks between them."""
    return " ".join(text.split())


WORD = "\u2581"
"""How SentencePiece writes the beginning of a word."""
DESCRIPTION = "tokenizer.json"
MODEL = "tokenizer.model"


def make_tokenizer(config: TokenizerConfig, texts: Iterable[str], section: str = "data.tokenizer") -> Tokenizer:
    """Return the tokenizer saved at `config.path`, or one made from normalised `texts`.

    `section`: path of `config` in the configuration, for messages. Raises `UserError` where there is no text,
    and where SentencePiece cannot make that many pieces.
    """
    if config.path:
        return load_tokenizer(expand(config.path))
    if config.kind == "characters":
        characters = sorted(set(itertools.chain.from_iterable(texts)))
        if not characters:
            raise UserError("data: the training texts are empty; correct data.train or data.normalizer")
        return Characters(characters)
    return _train_wordpieces(config.vocabulary_size, texts, section)


def load_tokenizer(folder: Path | str) -> Tokenizer:
    """Load the tokenizer that `save` wrote into `folder`; raises `UserError` where there is none."""
    path = storage.path(folder) / DESCRIPTION
    if not path.is_file():
        raise UserError(f"{path}: no such file; `joint-st data tokenizer` writes what data.tokenizer.path takes")
    description = read_json(path, _Description)
    if isinstance(description, _OfCharacters):
        return Characters(description.characters)
    model = path.parent / MODEL
    try:
        pieces = Wordpieces(model.read_bytes())
        pieces.symbols()
    except (RuntimeError, UnicodeDecodeError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"{model}: no model of SentencePiece ({why}); {DAMAGED}") from None
    if not pieces.has_our_ids:
        raise UserError(
            f"{model}: id {BLANK} must be its padding and id {UNKNOWN} unknown; make it with joint-st data tokenizer"
        )
    return pieces


class _OfCharacters(pydantic.BaseModel):
    """The file format of a tokenizer of characters."""

    kind: Literal["characters"]
    characters: list[Annotated[str, pydantic.Field(min_length=1, max_length=1)]] = pydantic.Field(min_length=1)

    @pydantic.field_validator("characters")
    @classmethod
    def _each_once(cls, characters: list[str]) -> list[str]:
        if len(set(characters)) < len(characters):
            raise ValueError("characters: one is there twice")
        return characters


class _OfPieces(pydantic.BaseModel):
    """The file format of a tokenizer of wordpieces; the model's file next to it has a fixed name, because a stored
    name could lead elsewhere."""

    kind: Literal["sentencepiece"]
    model: Literal["tokenizer.model"]


_Description = Annotated[_OfCharacters | _OfPieces, pydantic.Field(discriminator="kind")]


def _train_wordpieces(size: int, texts: Iterable[str], section: str) -> Wordpieces:
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(text for text in texts if text),
            model_writer=model,
            model_type="unigram",
            vocab_size=size,
            # The tokenizer never emits the padding symbol, so its id serves as the blank.
            pad_id=BLANK,
            pad_piece="<blank>",
            unk_id=UNKNOWN,
            bos_id=-1,
            eos_id=-1,
            normalization_rule_name="identity",
            character_coverage=1.0,
            max_sentence_length=1 << 16,
            minloglevel=3,
        )
    except RuntimeError as error:
        raise UserError(_complaint(section, size, str(error))) from None
    return Wordpieces(model.getvalue())


def _complaint(section: str, size: int, message: str) -> str:
    """Return SentencePiece's refusal in the words of the config, with its numbers."""
    field = f"{section}.vocabulary_size"
    if most := re.search(r"too high .*<= (\d+)", message):
        return f"{field}: {size} is too large for the training texts; at most {most[1]}"
    if least := re.search(r"required_chars\. \d+ vs (\d+)", message):
        return f"{field}: {size} is too small for the training texts; at least {least[1]}"
    return f"{section}: SentencePiece cannot train on the training texts: {message.splitlines()[0]}"


def _write(folder: Path | str, description: dict) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    text = json.dumps(description, ensure_ascii=False, indent=1)
    (Path(folder) / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
