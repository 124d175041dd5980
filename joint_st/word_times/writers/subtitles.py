"""Subtitles: SubRip (SRT) and WebVTT."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence

from joint_st.word_times.result import Aligned, Span

LINE = 42
"""Characters of a subtitle, which is one line."""
SECONDS = 6.0
"""A subtitle stands no longer, but for a single word."""
PAUSE = 1.0
"""Seconds of silence that begin another subtitle."""


def srt(aligned: Aligned) -> str:
    """Numbered subtitles of the words as they are written."""
    return "".join(
        f"{number}\n{_clock(cue[0].start, ',')} --> {_clock(cue[-1].end, ',')}\n{_line(cue)}\n\n"
        for number, cue in enumerate(cues(aligned.written), 1)
    )


def vtt(aligned: Aligned) -> str:
    """Subtitles of the words as they are written, each word but the first with the time at which it begins."""
    parts = ["WEBVTT\n"]
    for cue in cues(aligned.written):
        words = [html.escape(span.text, quote=False) for span in cue]
        timed = [words[0], *(f"<{_clock(span.start, '.')}>{word}" for span, word in zip(cue[1:], words[1:]))]
        parts.append(f"{_clock(cue[0].start, '.')} --> {_clock(cue[-1].end, '.')}\n{' '.join(timed)}\n")
    return "\n".join(parts)


def cues(words: Sequence[Span]) -> Iterator[list[Span]]:
    """The words of each subtitle."""
    cue: list[Span] = []
    for word in words:
        if cue:
            too_long = len(_line([*cue, word])) > LINE or word.end - cue[0].start > SECONDS
            if too_long or word.start - cue[-1].end >= PAUSE:
                yield cue
                cue = []
        cue.append(word)
    if cue:
        yield cue


def _line(cue: Sequence[Span]) -> str:
    return " ".join(span.text for span in cue)


def _clock(seconds: float, point: str) -> str:
    """Hours, minutes, seconds and, behind the point, milliseconds."""
    milliseconds = round(1000 * seconds)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{point}{rest % 1000:03}"
