"""Writes alignments and transcripts in the formats of other tools.

The formats: JSON, an utterance a line; NIST's CTM, a word a line; Praat's TextGrid, in its long text form; and
subtitles, as SubRip (SRT) and WebVTT.
"""

from __future__ import annotations

import html
import json
import os
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from joint_st import storage
from joint_st.errors import UserError
from joint_st.word_times.spans import Span, TimedText


def json_line(one: TimedText) -> str:
    """Return a line with a JSON object; the `record` of the alignment or transcript says which keys it has."""
    return json.dumps(one.record(), ensure_ascii=False) + "\n"


def ctm(one: TimedText) -> str:
    """Return lines of utterance, channel, start and duration in seconds, word, confidence; white space in ids becomes
    `_`.

    A duration is the difference of the rounded times, so that words that touch still do.
    """
    utterance, lines = id_in_ctm(one.id), []
    for span in one.words:
        duration = round(span.end, 3) - round(span.start, 3)
        lines.append(f"{utterance} {one.channel} {span.start:.3f} {duration:.3f} {span.text} {span.confidence:.4f}\n")
    return "".join(lines)


def id_in_ctm(id: str) -> str:
    """Return an id as a CTM has it: white space becomes `_`."""
    return "_".join(id.split())


SHORTEST = 0.0001
"""Least length of a TextGrid in seconds."""


def textgrid(one: TimedText) -> str:
    """Return a TextGrid of all of the audio with interval tiers `words`, `confidence` (of the words) and, where known,
    `units`.

    The intervals of a tier touch, as Praat requires: a gap between two words is an interval without text. Audio without
    samples is as long as one (`SHORTEST`), since Praat opens no TextGrid of length 0.
    """
    tiers = {
        "words": [(span, span.text) for span in one.words],
        "confidence": [(span, f"{span.confidence:.3f}") for span in one.words],
    }
    if one.units is not None:
        tiers["units"] = [(span, span.text) for span in one.units]
    seconds = max(one.seconds, SHORTEST)
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
    """Yield (start, end, text) without gaps from 0 to the end of the audio, times as they are written.

    A span without length has no interval: of two that begin at the same time, Praat drops the later one.
    """
    until, last = f"{0:.6f}", f"{seconds:.6f}"
    for span, text in spans:
        start, end = f"{span.start:.6f}", f"{span.end:.6f}"
        if start == end:
            continue
        if start != until:
            yield until, start, ""
        yield start, end, text
        until = end
    if until != last:
        yield until, last, ""


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


LINE = 42
"""Most characters of a subtitle, which is one line; those that are twice as wide, such as Chinese, count twice."""
SECONDS = 6.0
"""Most seconds that a subtitle is shown, unless a single word takes longer."""
PAUSE = 1.0
"""A silence of this many seconds begins a new subtitle."""


def srt(one: TimedText) -> str:
    """Return numbered subtitles of the words as the source writes them."""
    return "".join(
        f"{number}\n{_clock(cue[0].start, ',')} --> {_clock(_end(cue), ',')}\n{_line(cue)}\n\n"
        for number, cue in enumerate(cues(one.written), 1)
    )


def vtt(one: TimedText) -> str:
    """Return subtitles of the words as the source writes them, with a time stamp before each word that begins after the
    word before it and before the subtitle ends, as WebVTT demands."""
    parts = ["WEBVTT\n"]
    for cue in cues(one.written):
        until, end, timed = _clock(cue[0].start, "."), _clock(_end(cue), "."), []
        for span in cue:
            stamp, word = _clock(span.start, "."), html.escape(span.text, quote=False)
            timed.append(span._replace(text=f"<{stamp}>{word}" if until < stamp < end else word))
            until = max(until, stamp)
        parts.append(f"{_clock(cue[0].start, '.')} --> {end}\n{_line(timed)}\n")
    return "\n".join(parts)


def cues(words: Sequence[Span]) -> Iterator[list[Span]]:
    """Yield the words of each subtitle."""
    cue: list[Span] = []
    for word in words:
        if cue:
            too_long = _width(_line([*cue, word])) > LINE or word.end - cue[0].start > SECONDS
            if too_long or word.start - cue[-1].end >= PAUSE:
                yield cue
                cue = []
        cue.append(word)
    if cue:
        yield cue


def _end(cue: Sequence[Span]) -> float:
    """Return the end of a subtitle, which lasts a millisecond where its words have no length."""
    return max(cue[-1].end, cue[0].start + 0.001)


def _line(cue: Sequence[Span]) -> str:
    return "".join(span.text if span.joined or not n else f" {span.text}" for n, span in enumerate(cue))


def _width(line: str) -> int:
    """Return the width of a line in characters of the Latin script."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in line)


def _clock(seconds: float, point: str) -> str:
    """Return a time as hours, minutes and seconds with milliseconds after `point`."""
    milliseconds = round(1000 * seconds)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{point}{rest % 1000:03}"


class Format(NamedTuple):
    """A file format for alignments and transcripts."""

    write: Callable[[TimedText], str]
    """Returns the text of one utterance in the format."""
    suffix: str
    """Ending of file names."""
    together: bool
    """Whether one file may hold many utterances."""


FORMATS = {
    "json": Format(json_line, ".jsonl", True),
    "ctm": Format(ctm, ".ctm", True),
    "textgrid": Format(textgrid, ".TextGrid", False),
    "srt": Format(srt, ".srt", False),
    "vtt": Format(vtt, ".vtt", False),
}
"""Formats by name, as the option --format of `joint-st align` and `joint-st transcribe` takes them."""


class Destination:
    """A file, a folder or standard output to which alignments or transcripts are written in one of `FORMATS`.

    `split` names a set of many utterances; it is None for a single file and its text. Raises `UserError` where the
    format needs a folder and `output` is not one.
    """

    def __init__(self, form: str, output: Path | None, split: str | None = None):
        self._format = FORMATS[form]
        self._output = output = None if output == _STDOUT else output
        self._split = split
        self._folder = split is not None and not self._format.together
        if self._folder and output is None:
            raise UserError(f"--format {form} writes a file for each utterance: name a folder with --output")
        if self._folder and output.exists() and not output.is_dir():
            raise UserError(f"{output}: a file; --format {form} writes a file for each utterance, into a folder")

    @property
    def is_stdout(self) -> bool:
        """Whether they go to standard output, to which nothing else may then be printed."""
        return self._output is None

    def check(self, ids: Iterable[str]) -> None:
        """Raise `UserError` where two utterances with these ids would be written to the same file, or have one name in a
        CTM."""
        names: dict[Path | str, str] = {}
        for id in ids if self._folder or self._format.write is ctm else ():
            name, what = (self._file(id), "the file") if self._folder else (id_in_ctm(id), "the name in the CTM")
            if name in names:
                both = f"{names[name]!r} and {id!r}"
                raise UserError(f"{name}: would be {what} of both {both}; give the utterances other ids")
            names[name] = id

    def prepare(self) -> None:
        """Make the folder of the files. Raises `UserError` where it cannot be made or written into, so that this is known
        before the work and not after it."""
        if self._output is None:
            return
        if storage.is_remote(self._output):
            storage.check_access(self._output)
            return
        if self._output.exists() and not (self._output.is_file() or self._output.is_dir()):
            return  # a pipe or a device
        folder = self._output if self._folder or self._output.is_dir() else self._output.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            why = error.strerror or error
            raise UserError(f"{folder}: cannot be written into: {why}; name another place") from None

    def write(self, results: Sequence[TimedText]) -> str:
        """Write all of them; a file that would hold those of a set is emptied where there is none. Return in one line what
        could not be written, and where it was written instead (`storage.keep`); empty if nothing went wrong.

        Raises `UserError` as `check` does.
        """
        self.check(one.id for one in results)
        if self._folder:
            assert self._output is not None
            texts = {self._file(one.id).name: self._format.write(one) for one in results}

            def write_into(folder: Path) -> None:
                for name, text in texts.items():
                    storage.write_whole(folder / name, text)

            return storage.keep(write_into, self._output)
        text = "".join(self._format.write(one) for one in results)
        if self._output is None:
            sys.stdout.write(text)
            return ""
        path = self._file(self._split if self._split is not None else results[0].id)
        # What the name of a file in a folder leads to is not followed: it comes from an utterance.
        write = storage.write_output if path == self._output else storage.write_whole
        return storage.keep(lambda path: write(path, text), path)

    def _file(self, id: str) -> Path:
        assert self._output is not None
        if not self._folder and not self._output.is_dir():
            return self._output
        name = self._split if self._split is not None and self._format.together else id
        # An id may be a path; all files are in the one folder.
        name = storage.bounded(name.replace("/", "_").replace(os.sep, "_").lstrip("."))
        return self._output / f"{name}{self._format.suffix}"


_STDOUT = Path("-")
