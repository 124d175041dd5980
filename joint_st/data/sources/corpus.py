"""What every source of utterances offers, and several of them as one."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from typing import Protocol

from joint_st.data.utterance import Entry, Utterance


class Corpus(Protocol):
    """Random access to utterances. It pickles, and holds no audio and no transcripts in memory."""

    name: str

    def __len__(self) -> int: ...

    def entry(self, i: int) -> Entry:
        """Utterance `i` without its audio."""
        ...

    def __getitem__(self, i: int) -> Utterance:
        """Utterance `i`, its audio at the source's own rate.

        Raises `joint_st.data.audio.UnreadableAudio` where the audio cannot be decoded.
        """
        ...


class Concatenated:
    """Corpora one after the other, as one."""

    def __init__(self, corpora: Sequence[Corpus]):
        self.corpora = tuple(corpora)
        self.name = "+".join(dict.fromkeys(corpus.name for corpus in self.corpora))
        self._ends = list(itertools.accumulate(len(corpus) for corpus in self.corpora))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def entry(self, i: int) -> Entry:
        corpus, row = self._locate(i)
        return corpus.entry(row)

    def __getitem__(self, i: int) -> Utterance:
        corpus, row = self._locate(i)
        return corpus[row]

    def _locate(self, i: int) -> tuple[Corpus, int]:
        if not 0 <= i < len(self):
            raise IndexError(f"utterance {i} of {len(self)}")
        which = bisect.bisect_right(self._ends, i)
        return self.corpora[which], i - (self._ends[which - 1] if which else 0)
