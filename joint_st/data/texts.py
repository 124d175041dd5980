"""The texts of a configuration: what a tokenizer learns from, and which words were heard or only read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from joint_st.config import Config, Source
from joint_st.data.normalizers import Normalizer, normalizer
from joint_st.data.sources import Corpus, open_source
from joint_st.data.symbols import Symbols
from joint_st.data.text_units import make_units
from joint_st.data.tokenizers import Tokenizer, make_tokenizer
from joint_st.data.utterance import Entry
from joint_st.data.vocabulary import Vocabulary


def train_tokenizer(config: Config) -> Tokenizer:
    """The tokenizer of a run: made from its training texts, paired and unpaired, or loaded."""
    return make_tokenizer(config.data.tokenizer, () if config.data.tokenizer.path else training_texts(config))


def training_texts(config: Config) -> Iterator[str]:
    """The normalised training texts of a config, paired and unpaired, without the empty ones."""
    return normalised_texts((*config.data.train, *config.data.text), normalizer(config.data.normalizer))


def normalised_texts(sources: Sequence[Source], normalize: Normalizer) -> Iterator[str]:
    """The normalised texts of some sources, without the empty ones."""
    return (text for _, text in _normalised(_open(sources), normalize))


class Learnt(NamedTuple):
    """What a run takes from its training texts."""

    symbols: Symbols
    vocabulary: Vocabulary


def learn_from_texts(config: Config) -> Learnt:
    """The inventories (the tokenizer may be one that is loaded) and the vocabulary of a run, in one pass over its texts."""
    data, normalize = config.data, normalizer(config.data.normalizer)
    heard, read, languages = set(), set(), set()
    # Normalised texts lie on disk meanwhile: they may be too many for memory, and normalising takes a while.
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogatepass") as file:
        for words, corpora, spoken_only in ((heard, _open(data.train), True), (read, _open(data.text), False)):
            for entry, text in _normalised(corpora, normalize):
                if entry.has_audio or not spoken_only:
                    words.update(text.split())
                languages.add(entry.language)
                file.write(f"{entry.language}\t{text}\n")

        def examples() -> Iterator[tuple[str, str]]:
            file.seek(0)
            for line in file:
                language, _, text = line.removesuffix("\n").partition("\t")
                yield text, language

        tokenizer = make_tokenizer(data.tokenizer, (text for text, _ in examples()))
        units = make_units(data.units, examples())
        symbols = Symbols(tokenizer, units, ("", *sorted(languages - {""})))
        return Learnt(symbols, Vocabulary.of(heard, read))


def _open(sources: Sequence[Source]) -> list[Corpus]:
    return [open_source(source) for source in sources]


def _normalised(corpora: Sequence[Corpus], normalize: Normalizer) -> Iterator[tuple[Entry, str]]:
    """Each entry with its normalised text, where that is not empty."""
    for corpus in corpora:
        for i in range(len(corpus)):
            entry = corpus.entry(i)
            if text := normalize(entry.text):
                yield entry, text
