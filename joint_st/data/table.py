"""The rows of several sources: their indexes, one after the other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from joint_st.config import Source
from joint_st.data.index import Counts, Entries, Indexes
from joint_st.data.sources import Concatenated
from joint_st.data.text_units import Units
from joint_st.data.tokenizers import Tokenizer


class Table:
    """The indexes of several sources, one after the other."""

    def __init__(self, entries: Sequence[Entries], labels: Sequence[Counts], units: Sequence[Counts]):
        self.entries = entries
        self.labels, self.units = _joined(labels), _joined(units)
        self.corpus = Concatenated(entries, [len(one) for one in entries])
        self.languages = tuple(sorted(set(itertools.chain(*(one.languages for one in entries)))))
        self.seconds = self.column(lambda one: one.seconds)
        self.flags = self.column(lambda one: one.flags)
        self._starts = [0, *itertools.accumulate(len(one) for one in entries)]

    def __len__(self) -> int:
        return self._starts[-1]

    def column(self, of: Callable[[Entries], np.ndarray]) -> np.ndarray:
        """Return a column of all rows."""
        columns = [of(one) for one in self.entries]
        return columns[0] if len(columns) == 1 else np.concatenate(columns)

    def where(self, row: int) -> tuple[Entries, int]:
        """Return the source of a row, and the number of the row there."""
        which, row = self.corpus.locate(row)
        return self.entries[which], row


def _joined(counts: Sequence[Counts]) -> Counts:
    if len(counts) == 1:
        return counts[0]
    return Counts(*map(np.concatenate, zip(*counts, strict=True)))


def open_table(indexes: Indexes, sources: Iterable[Source], tokenizer: Tokenizer, units: Units | None) -> Table:
    """Open the indexes of some sources."""
    sources = tuple(sources)
    return Table(
        [indexes.entries(source) for source in sources],
        [indexes.labels(source, tokenizer) for source in sources],
        [indexes.units(source, units) for source in sources],
    )
