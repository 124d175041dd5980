"""Texts as the labels that spell them, made ready for the batches of a language model."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator

import numpy as np
import tqdm

from joint_st.config import LmDataConfig, Source
from joint_st.data.buckets import LABEL_MULTIPLE, Buckets
from joint_st.data.normalizers import Normalizer
from joint_st.data.plan import BatchPlan
from joint_st.data.prepared import TextExample
from joint_st.data.sources import Concatenated, Corpus, open_source
from joint_st.data.tokenizers import Tokenizer
from joint_st.errors import UserError


class LabelledTexts:
    """`N` texts of a corpus, indexed in 12 bytes each; they are read when asked for."""

    def __init__(
        self,
        corpus: Corpus,
        rows: np.ndarray,
        label_lengths: np.ndarray,
        dropped: dict[str, int],
        normalizer: Normalizer,
        tokenizer: Tokenizer,
    ):
        self.corpus = corpus
        self.rows = rows
        """Row in the corpus of each text, int64 [N]."""
        self.label_lengths = label_lengths
        """Labels, int32 [N]."""
        self.dropped = dropped
        """How many texts were left out, by reason."""
        self.normalizer = normalizer
        self.tokenizer = tokenizer

    def __len__(self) -> int:
        return len(self.rows)

    def id(self, n: int) -> str:
        """The id of text `n` in its corpus."""
        return self.corpus.entry(int(self.rows[n])).id

    def texts(self) -> Iterator[str]:
        """All texts, normalised."""
        return (self.normalizer(self.corpus.entry(int(row)).text) for row in self.rows)

    def load(self, n: int) -> TextExample:
        """Text `n` as training takes it, without units."""
        entry = self.corpus.entry(int(self.rows[n]))
        return TextExample(self.tokenizer.encode(self.normalizer(entry.text)), np.zeros(0, np.int32), entry.language)

    def describe(self) -> str:
        """What is in it and what was dropped, in one line."""
        dropped = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items())
        total = int(self.label_lengths.sum(dtype=np.int64))
        return f"{len(self)} texts, {total / len(self):.1f} labels each; dropped {dropped or 'none'}"


def label_texts(
    sources: Iterable[Source],
    data: LmDataConfig,
    normalizer: Normalizer,
    tokenizer: Tokenizer,
    field: str,
    held_out: Collection[str] = (),
) -> LabelledTexts:
    """Goes once through some sources, without decoding audio there may be.

    Left out are texts that hold nothing once normalised, those of more than `data.max_labels` labels, and those
    `held_out` (normalised). field: of the config, for messages. Raises `UserError` where none is left.
    """
    corpus = Concatenated([open_source(source) for source in sources])
    rows, lengths, dropped = array("q"), array("i"), Counter()
    what = f"indexing texts of {corpus.name}"
    for i in tqdm.trange(len(corpus), desc=what, unit=" texts", delay=1, leave=False, disable=None):
        text = normalizer(corpus.entry(i).text)
        labels = len(tokenizer.encode(text))
        if not labels:
            dropped["empty"] += 1
        elif labels > data.max_labels:
            dropped["too long"] += 1
        elif text in held_out:
            dropped["that data.dev has too"] += 1
        else:
            rows.append(i)
            lengths.append(labels)
    if not rows:
        why = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "the sources are empty"
        raise UserError(f"{field}: no text of {corpus.name} is left ({why}); correct the sources")
    return LabelledTexts(
        corpus, np.array(rows, np.int64), np.array(lengths, np.int32), dict(dropped), normalizer, tokenizer
    )


def label_plan(texts: LabelledTexts, data: LmDataConfig, seed: int, *, shuffle: bool) -> BatchPlan:
    """Batches in buckets of numbers of labels; without `shuffle`, one pass."""
    lengths = texts.label_lengths
    buckets = Buckets.choose(lengths, lengths, count=data.buckets, multiple=LABEL_MULTIPLE, batch_size=data.batch_size)
    return BatchPlan(lengths, buckets, seed=seed, shuffle=shuffle)
