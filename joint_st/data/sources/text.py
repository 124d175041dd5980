"""Sentences without audio, one a line."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from joint_st.config import TextSource
from joint_st.data.paths import existing
from joint_st.data.sources.corpus import opens
from joint_st.data.sources.lines import Lines
from joint_st.data.utterance import Entry, Utterance


def without(pattern: str) -> Callable[[bytes], bool]:
    """Return a function that tells of a line, in UTF-8, whether a regular expression is found nowhere in its text, without
    the white space around it."""
    compiled = re.compile(pattern)
    return lambda line: not compiled.search(line.decode("utf-8", "replace").strip())


@opens("text")
class Sentences:
    """A text file as utterances without audio."""

    def __init__(self, config: TextSource):
        path = existing(config.path)
        self.name = path.stem
        self._language = config.language
        self._lines = Lines(path, without(config.leave_out) if config.leave_out else None)
        self.place = f"text {path.absolute()} {config.language}"
        if config.leave_out:
            self.place += f" without {config.leave_out}"
        self.version = self._lines.version

    def __len__(self) -> int:
        return len(self._lines)

    def entry(self, i: int) -> Entry:
        return Entry(id=self._id(i), seconds=0.0, text=self._lines[i], has_audio=False, language=self._language)

    def __getitem__(self, i: int) -> Utterance:
        return Utterance(
            id=self._id(i),
            audio=np.zeros(0, np.int16),
            sample_rate=0,
            text=self._lines[i],
            language=self._language,
            speaker="",
            corpus=self.name,
        )

    def where(self, i: int) -> str:
        """Return the file and the line of a sentence."""
        return self._lines.where(i)

    def _id(self, i: int) -> str:
        return f"{self.name}-{i}"
