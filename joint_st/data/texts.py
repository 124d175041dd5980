"""The texts of a configuration: what a tokenizer learns from, and which words were heard or only read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from joint_st.config import Config, DataConfig, Source
from joint_st.data.normalizers import Normalizer, normalizer
from joint_st.data.sources import Corpus, open_source
from joint_st.data.tokenizers import Tokenizer, make_tokenizer
from joint_st.data.vocabulary import Vocabulary


def texts(corpora: Sequence[Corpus], normalize: Normalizer, *, spoken_only: bool = False) -> Iterator[str]:
    """The normalised texts of corpora, empty ones left out, and those without audio too if `spoken_only`."""
    for corpus in corpora:
        for i in range(len(corpus)):
            entry = corpus.entry(i)
            if entry.has_audio or not spoken_only:
                if text := normalize(entry.text):
                    yield text


def train_tokenizer(config: Config) -> Tokenizer:
    """The tokenizer of a run: made from its training texts, paired and unpaired, or loaded."""
    corpora = _open((*config.data.train, *config.data.text)) if not config.data.tokenizer.path else ()
    return make_tokenizer(config.data.tokenizer, texts(corpora, normalizer(config.data.normalizer)))


def training_vocabulary(data: DataConfig) -> Vocabulary:
    """The words of a run's training texts."""
    normalize = normalizer(data.normalizer)
    heard = texts(_open(data.train), normalize, spoken_only=True)
    return Vocabulary.of(heard, read=texts(_open(data.text), normalize))


def _open(sources: Sequence[Source]) -> list[Corpus]:
    return [open_source(source) for source in sources]
