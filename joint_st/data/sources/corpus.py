"""What every source of utterances offers, what opens each kind of source, and several of them as one."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from joint_st.data.audio import check_length
from joint_st.data.utterance import Entry, Utterance

Opener = TypeVar("Opener", bound=Callable[[Any], Any])

OPENERS: dict[str, Callable[[Any], Corpus]] = {}
"""What opens the section of a source, by its kind."""


def opens(kind: str) -> Callable[[Opener], Opener]:
    """Declares a class or a function as what opens sources of a kind: it takes their section, and gives a `Corpus`."""

    def declare(opener: Opener) -> Opener:
        OPENERS[kind] = opener
        return opener

    return declare


class Corpus(Protocol):
    """Random access to utterances. It pickles, and holds no audio and no transcripts in memory."""

    name: str
    place: str
    """Where it lies, with all of its section that changes its rows. Empty where nothing about it can be kept."""
    version: str
    """Changes whenever what lies there does."""

    def __len__(self) -> int: ...

    def entry(self, i: int) -> Entry:
        """Utterance `i` without its audio."""
        ...

    def where(self, i: int) -> str:
        """Where utterance `i` is written, for messages."""
        ...

    def __getitem__(self, i: int) -> Utterance:
        """Utterance `i`, its audio at the source's own rate.

        Raises `joint_st.data.audio.UnreadableAudio` where the audio cannot be decoded.
        """
        ...


def read_whole(corpus: Corpus, i: int, id: str, seconds: float, tolerance: float) -> Utterance:
    """Utterance `i` of a corpus, which calls it `id` and states `seconds`, all of it.

    Raises `UnreadableAudio` where its audio cannot be decoded, and where it is longer or shorter than stated, or than
    its own file promises, by more than `tolerance` seconds.
    """
    utterance = corpus[i]
    if utterance.sample_rate:
        has = len(utterance.audio) / utterance.sample_rate
        check_length(id, has, seconds, tolerance)
        if utterance.promised is not None:
            check_length(id, has, utterance.promised, tolerance, by="the header of its file")
    return utterance


class Concatenated:
    """Corpora one after the other, as one."""

    place = version = ""

    def __init__(self, corpora: Sequence[Corpus], sizes: Sequence[int] | None = None):
        """sizes: of the corpora, where they are known without asking them."""
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
        """Which corpus utterance `i` is in, and its number there."""
        if not 0 <= i < len(self):
            raise IndexError(f"utterance {i} of {len(self)}")
        which = bisect.bisect_right(self._ends, i)
        return which, i - (self._ends[which - 1] if which else 0)
