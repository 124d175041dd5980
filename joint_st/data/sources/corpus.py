"""The interface of every source of utterances, the registry of kinds of sources, and several sources joined into
one."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from joint_st.data.audio import check_length
from joint_st.data.utterance import Entry, Utterance
from joint_st.kinds import Kinds

Opener = TypeVar("Opener", bound=Callable[[Any], Any])

OPENERS = Kinds("joint_st.data.sources", "source", "a source of kind {}", "opens")
"""Functions that open the section of a source, by its kind."""


def opens(kind: str) -> Callable[[Opener], Opener]:
    """Register a class or a function that opens sources of a kind: it takes their section and returns a `Corpus`; a
    decorator."""
    return OPENERS.register(kind)


class Corpus(Protocol):
    """Random access to utterances. It pickles, and holds no audio and no transcripts in memory."""

    name: str
    place: str
    """Place of the source, with all fields of its section that change its rows; empty where no index can be kept."""
    version: str
    """Text that changes whenever the content of the place does."""

    def __len__(self) -> int: ...

    def entry(self, i: int) -> Entry:
        """Return utterance `i` without its audio."""
        ...

    def where(self, i: int) -> str:
        """Return the place of utterance `i` in its file, for messages."""
        ...

    def __getitem__(self, i: int) -> Utterance:
        """Return utterance `i`, with its audio at the source's own rate.

        Raises `joint_st.data.audio.UnreadableAudio` where the audio cannot be decoded.
        """
        ...


def read_whole(corpus: Corpus, i: int, id: str, seconds: float, tolerance: float) -> Utterance:
    """Return utterance `i` of a corpus, which calls it `id` and states `seconds`, with all of its audio.

    Raises `UnreadableAudio` where its audio cannot be decoded, or differs by more than `tolerance` seconds from the
    length that the source states or its own file promises.
    """
    utterance = corpus[i]
    if utterance.sample_rate:
        has = len(utterance.audio) / utterance.sample_rate
        # Less than half of a short utterance is another one, or nothing.
        check_length(id, has, seconds, tolerance if has > seconds else min(tolerance, seconds / 2))
        if utterance.promised is not None:
            check_length(id, has, utterance.promised, tolerance, by="the header of its file")
    return utterance


class Concatenated:
    """Several corpora, one after the other, as one corpus."""

    place = version = ""

    def __init__(self, corpora: Sequence[Corpus], sizes: Sequence[int] | None = None):
        """Join corpora. sizes: sizes of the corpora, if they are known already."""
        self.corpora = tuple(corpora)
        self.name = "+".join(dict.fromkeys(corpus.name for corpus in self.corpora))
        self._ends = list(itertools.accumulate(map(len, self.corpora) if sizes is None else sizes))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def entry(self, i: int) -> Entry:
        which, row = self.locate(i)
        return self.corpora[which].entry(row)

    def where(self, i: int) -> str:
        which, row = self.locate(i)
        return self.corpora[which].where(row)

    def __getitem__(self, i: int) -> Utterance:
        which, row = self.locate(i)
        return self.corpora[which][row]

    def locate(self, i: int) -> tuple[int, int]:
        """Return which corpus utterance `i` is in, and its number there."""
        if not 0 <= i < len(self):
            raise IndexError(f"utterance {i} of {len(self)}")
        which = bisect.bisect_right(self._ends, i)
        return which, i - (self._ends[which - 1] if which else 0)
