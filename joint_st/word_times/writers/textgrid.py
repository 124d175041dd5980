"""Praat's TextGrid, in its long text form."""

from __future__ import annotations

from collections.abc import Iterable

from joint_st.word_times.result import Aligned, Span


def textgrid(aligned: Aligned) -> str:
    """Interval tiers `words`, `confidence` (of the words) and, where units are known, `units`; all of the audio.

    The intervals of a tier touch, as Praat wants it: what is between two words is an interval of no text.
    """
    tiers = {
        "words": [(span, span.text) for span in aligned.words],
        "confidence": [(span, f"{span.confidence:.3f}") for span in aligned.words],
    }
    if aligned.units is not None:
        tiers["units"] = [(span, span.text) for span in aligned.units]
    seconds = aligned.seconds
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {seconds:.6f}",
        "tiers? <exists>",
        f"size = {len(tiers)}",
        "item []:",
    ]
    for number, (name, spans) in enumerate(tiers.items(), 1):
        intervals = list(_intervals(spans, seconds))
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f"        name = {_quoted(name)}",
            "        xmin = 0",
            f"        xmax = {seconds:.6f}",
            f"        intervals: size = {len(intervals)}",
        ]
        for k, (start, end, text) in enumerate(intervals, 1):
            lines += [
                f"        intervals [{k}]:",
                f"            xmin = {start}",
                f"            xmax = {end}",
                f"            text = {_quoted(text)}",
            ]
    return "\n".join(lines) + "\n"


def _intervals(spans: Iterable[tuple[Span, str]], seconds: float):
    """(start, end, text) one after the other from 0 to the end, the times as they are written."""
    until, last = f"{0:.6f}", f"{seconds:.6f}"
    for span, text in spans:
        start, end = f"{span.start:.6f}", f"{span.end:.6f}"
        if start != until:
            yield until, start, ""
        yield start, end, text
        until = end
    if until != last:
        yield until, last, ""


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
