"""Text without audio made ready for batches."""

from __future__ import annotations

from array import array
from collections import Counter

import numpy as np
import tqdm

from joint_st.config import DataConfig
from joint_st.data.normalizers import Normalizer
from joint_st.data.prepared import TextExample
from joint_st.data.sources import Concatenated, Corpus, open_source
from joint_st.data.text_units import Units
from joint_st.data.text_units.counting import UnitCounter
from joint_st.data.tokenizers import Tokenizer
from joint_st.errors import UserError


class PreparedText:
    """`N` texts of a corpus, indexed in 16 bytes each; they are read when asked for."""

    def __init__(
        self,
        corpus: Corpus,
        rows: np.ndarray,
        unit_lengths: np.ndarray,
        label_lengths: np.ndarray,
        dropped: dict[str, int],
        normalizer: Normalizer,
        tokenizer: Tokenizer,
        units: Units,
    ):
        self.corpus = corpus
        self.rows = rows
        """Row in the corpus of each text, int64 [N]."""
        self.unit_lengths = unit_lengths
        """Units, int32 [N]."""
        self.label_lengths = label_lengths
        """Labels, int32 [N]."""
        self.dropped = dropped
        """How many texts were left out, by reason."""
        self.normalizer = normalizer
        self.tokenizer = tokenizer
        self.units = units

    def __len__(self) -> int:
        return len(self.rows)

    def id(self, n: int) -> str:
        """The id of text `n` in its corpus."""
        return self.corpus.entry(int(self.rows[n])).id

    def load(self, n: int) -> TextExample:
        """Text `n` as training takes it."""
        entry = self.corpus.entry(int(self.rows[n]))
        text = self.normalizer(entry.text)
        return TextExample(self.tokenizer.encode(text), self.units.encode(text, entry.language), entry.language)

    def describe(self) -> str:
        """What is in it and what was dropped, in one line."""
        dropped = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items())
        total = int(self.unit_lengths.sum(dtype=np.int64))
        return f"{len(self)} texts, {total / len(self):.1f} units each; dropped {dropped or 'none'}"


def prepare_text(data: DataConfig, normalizer: Normalizer, tokenizer: Tokenizer, units: Units) -> PreparedText:
    """Goes once through `data.text`, without decoding audio there may be, and computes the units of each text.

    Left out are texts that hold nothing once normalised, those that have no units, and those that have more than
    `data.max_text_units`. Raises `UserError` where none is left.
    """
    corpus = Concatenated([open_source(source) for source in data.text])
    rows, label_lengths = array("q"), array("i")
    counter = UnitCounter(units)
    dropped = Counter()
    what = f"indexing texts of {corpus.name}"
    for i in tqdm.trange(len(corpus), desc=what, unit=" texts", delay=1, leave=False, disable=None):
        entry = corpus.entry(i)
        text = normalizer(entry.text)
        labels = tokenizer.encode(text)
        if not len(labels):
            dropped["empty"] += 1
            continue
        rows.append(i)
        label_lengths.append(len(labels))
        counter.add(text, entry.language)
    unit_lengths = counter.lengths()
    short = unit_lengths <= data.max_text_units
    kept = (unit_lengths > 0) & short
    if not kept.all():
        reasons = {"without units": int((unit_lengths == 0).sum()), "too long": int((~short).sum())}
        dropped.update({reason: count for reason, count in reasons.items() if count})
    if not kept.any():
        why = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "the sources are empty"
        raise UserError(f"data.text: no text of {corpus.name} is left ({why}); correct the sources")
    return PreparedText(
        corpus,
        np.array(rows, np.int64)[kept],
        unit_lengths[kept],
        np.array(label_lengths, np.int32)[kept],
        dict(dropped),
        normalizer,
        tokenizer,
        units,
    )
