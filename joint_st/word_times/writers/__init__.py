"""Alignments in the formats of other tools."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from joint_st.word_times.result import Aligned
from joint_st.word_times.writers.ctm import ctm
from joint_st.word_times.writers.json_line import json_line
from joint_st.word_times.writers.subtitles import srt, vtt
from joint_st.word_times.writers.textgrid import textgrid

__all__ = ["FORMATS", "Format"]


class Format(NamedTuple):
    """How alignments are written."""

    write: Callable[[Aligned], str]
    """The text of one utterance."""
    suffix: str
    """How the names of its files end."""
    together: bool
    """Whether one file holds many utterances, one after the other."""


FORMATS = {
    "json": Format(json_line, ".jsonl", True),
    "ctm": Format(ctm, ".ctm", True),
    "textgrid": Format(textgrid, ".TextGrid", False),
    "srt": Format(srt, ".srt", False),
    "vtt": Format(vtt, ".vtt", False),
}
"""By the name given to `joint-st align --format`, which lists them too."""
