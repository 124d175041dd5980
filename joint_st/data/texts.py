"""The texts of a configuration: what a tokenizer learns from, and which words occur in audio or in text alone.

Synthetic speech is made of text. So its words are not heard: evaluations compare words that people say in training with
words that a run knows from text, and a word stays one of the latter when a machine reads it out. And what it says is
counted once: a sentence that stands in `data.text` and is spoken too would otherwise weigh twice in an n-gram.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from joint_st.config import Config, Source
from joint_st.data.index import AUDIO, PROBLEM, SYNTHETIC, Entries, Indexes
from joint_st.data.normalizers import normalizer
from joint_st.data.symbols import Symbols
from joint_st.data.text_units import make_units
from joint_st.data.tokenizers import Tokenizer, make_tokenizer
from joint_st.data.vocabulary import Vocabulary


def train_tokenizer(config: Config) -> Tokenizer:
    """Return the tokenizer of a run: made from its training texts, paired and unpaired, or loaded."""
    return make_tokenizer(config.data.tokenizer, () if config.data.tokenizer.path else training_texts(config))


def training_texts(config: Config) -> Iterator[str]:
    """Yield the normalised training texts of a config, paired and unpaired, without empty ones."""
    return normalised_texts((*config.data.train, *config.data.text), open_indexes(config))


def open_indexes(config: Config) -> Indexes:
    """Open the indexes of a config's sources."""
    return Indexes(config.data.index_cache, normalizer(config.data.normalizer))


def normalised_texts(sources: Sequence[Source], indexes: Indexes) -> Iterator[str]:
    """Yield the normalised texts of some sources, without empty ones, and those of synthetic speech as far as no other
    row has them."""
    return (text for text, _ in _examples([indexes.entries(source) for source in sources]))


class Learnt(NamedTuple):
    """What a run learns from its training texts before training."""

    symbols: Symbols
    vocabulary: Vocabulary


def learn_from_texts(config: Config, indexes: Indexes | None = None) -> Learnt:
    """Return the inventories (the tokenizer may be loaded) and the vocabulary of a run.

    indexes: the indexes of the job. A source that has an index is not read.
    """
    data, indexes = config.data, indexes or open_indexes(config)
    train = [indexes.entries(source) for source in data.train]
    text = [indexes.entries(source) for source in data.text]
    heard: set[str] = set()
    read: set[str] = set()
    for entries in train:
        # What cannot be read is never heard.
        for row in np.flatnonzero(entries.flags & (AUDIO | PROBLEM) == AUDIO):
            found = read if entries.flags[row] & SYNTHETIC else heard
            found.update(entries.text(int(row)).split())
    for entries in text:
        for own, _ in entries.texts():
            read.update(own.split())

    def examples() -> Iterator[tuple[str, str]]:
        return _examples((*train, *text))

    def gather(digest, symbols_of) -> set[str]:
        return set().union(*(indexes.symbols(source, digest, symbols_of) for source in (*data.train, *data.text)))

    languages = {
        entries.languages[i] for entries in (*train, *text) for i in np.unique(entries.language[entries.words > 0])
    }
    tokenizer = make_tokenizer(data.tokenizer, (text for text, _ in examples()))
    symbols = Symbols(tokenizer, make_units(data.units, examples(), gather), ("", *sorted(languages - {""})))
    return Learnt(symbols, Vocabulary.of(heard, read))


def _examples(entries: Sequence[Entries]) -> Iterator[tuple[str, str]]:
    """Yield each text that is not empty, with its language tag; a text of synthetic speech only if no row before it and
    no row that is not synthetic has the same."""
    known: set[int] = set()
    if any((one.flags & SYNTHETIC).any() for one in entries):
        known.update(*(one.text_hash[one.flags & SYNTHETIC == 0].tolist() for one in entries))
    for one in entries:
        left_out = one.flags & SYNTHETIC > 0
        for row in np.flatnonzero(left_out):
            # That two texts have one hash of 64 bits is unlikely, and would cost one sentence.
            own = int(one.text_hash[row])
            left_out[row] = own in known
            known.add(own)
        yield from (example for row, example in enumerate(one.texts()) if example[0] and not left_out[row])
