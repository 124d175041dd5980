"""Transcripts in the files of any system: JSON lines, trn, CTM, STM, Kaldi's text.

| format | a line | from |
|---|---|---|
| `jsonl` | an object with an id, or the path of the audio, and a text | NeMo's manifests, `joint-st` |
| `trn` | `words of it (utterance-id)` | NIST sclite, ESPnet |
| `ctm` | `recording channel start duration word [confidence]`, a word each | NIST sclite, Kaldi, NeMo |
| `stm` | `recording channel speaker start end [<label>] words of it` | NIST sclite, TED-LIUM |
| `kaldi` | `utterance-id words of it` | Kaldi's and icefall's `text` |

Lines of `;;` are comments in trn, CTM and STM. The format follows from a file's ending, or from its content where that
is unambiguous; a CTM, an STM and Kaldi's text look alike, so that their format has to be given.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from joint_st import storage
from joint_st.data.utterance import ids_of_audio
from joint_st.errors import UserError
from joint_st.json_files import NOT_JSON

FORMATS = ("jsonl", "trn", "ctm", "stm", "kaldi")

ENDINGS = {".jsonl": "jsonl", ".json": "jsonl", ".ndjson": "jsonl", ".trn": "trn", ".ctm": "ctm", ".stm": "stm"}

REFERENCE_KEYS = ("text", "reference")
HYPOTHESIS_KEYS = ("pred_text", "hypothesis", "text")
"""Keys of the text in JSON lines, by precedence. NeMo writes `pred_text` next to the reference in `text`."""

IGNORED = "IGNORE_TIME_SEGMENT_IN_SCORING"
"""Text of an STM's segment whose words are not scored; files have it in any case (TED-LIUM's in lower case)."""

_TRN = re.compile(r"(.*)\(([^()\s]+)\)\s*")


class Said(NamedTuple):
    """A text, or a word of one."""

    id: str
    """Name of the utterance; in a CTM and an STM, of the recording, with the channel where it has several."""
    text: str
    line: int
    """Number of its line, from 1."""
    start: float = 0.0
    """Seconds from the beginning of the recording, for words of a CTM and segments of an STM."""
    end: float = 0.0
    audio: str = ""
    """In JSON lines, the id by the audio (`ids_of_audio`); "" where there is none."""

    @property
    def ignored(self) -> bool:
        """Whether it is a segment of an STM whose words are not scored."""
        return self.text.strip().upper() == IGNORED


class TranscriptFile(NamedTuple):
    """The content of a file."""

    path: Path
    form: str
    """One of `FORMATS`."""
    how: str
    """How it was read, for a title: `jsonl, key text`."""
    said: list[Said]
    """In the order of the file; words of a CTM by recording and time."""
    channels: Mapping[str, set[str]] = MappingProxyType({})
    """Channels of each recording of a CTM or an STM."""

    def texts(self) -> dict[str, str]:
        """Return the text of each utterance in the order of the file; raises `UserError` that names ids which occur
        twice."""
        texts: dict[str, str] = {}
        lines: dict[str, int] = {}
        twice: dict[str, list[int]] = {}
        for one in self.said:
            if one.id not in texts:
                texts[one.id], lines[one.id] = one.text, one.line
            elif self.form == "ctm":
                texts[one.id] += f" {one.text}"
            else:
                twice.setdefault(one.id, [lines[one.id]]).append(one.line)
        if twice:
            id, found = next(iter(twice.items()))
            where = " and ".join(map(str, found[:3])) + (" …" if len(found) > 3 else "")
            raise UserError(
                f"{self.path}: {named(list(twice))} twice ({id} in lines {where}); keep one line for each utterance"
            )
        return texts


def named(ids: list[str], most: int = 3) -> str:
    """Return a number of ids with the first of them, for messages."""
    some = ", ".join(ids[:most]) + (", …" if len(ids) > most else "")
    return f"{len(ids)} id{'s' if len(ids) > 1 else ''} ({some})"


def read_transcripts(
    path: Path,
    form: str | None = None,
    *,
    keys: tuple[str, ...],
    id_key: str | None = None,
    folder: Path | None = None,
    flag: str = "--format",
    reference: TranscriptFile | None = None,
) -> TranscriptFile:
    """Read a file.

    form: one of `FORMATS`; None to tell it from the ending or the content. keys: keys of the text in JSON lines, of
    which the first that some line has is used. id_key: key of the id; by default `id`, or the path of the audio, relative
    to `folder` if it is inside, as a manifest's line without an id is called (`ids_of_audio`). flag: the option for the
    format, for messages. reference: what the file is scored against, whose names recordings with channels get. Raises
    `UserError` that names a line in another format.
    """
    lines = list(_lines(path))
    how = form
    if form is None:
        form, how = _form(path, lines, flag)
    if form == "jsonl":
        said, key = _read_jsonl(path, lines, keys, id_key, folder)
        return TranscriptFile(path, form, f"{how}, key {key}", said)
    said = [one for number, line in lines for one in _READERS[form](path, number, line)]
    if form == "ctm":
        said.sort(key=lambda one: (one.id, one.start))
    channels: dict[str, set[str]] = defaultdict(set)
    if form in ("ctm", "stm"):
        for one in said:
            recording, channel = one.id.split()
            channels[recording].add(channel)
        said = _name_recordings(path, said, channels, reference.channels if reference else {})
    return TranscriptFile(path, form, how, said, dict(channels))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number, from 1, and the text of each line that has any."""
    if not (
        path.is_file() or not storage.is_remote(path) and path.is_fifo()
    ):  # a pipe may come from another system's command
        raise UserError(f"{path}: {'no such file' if storage.is_remote(path) else storage.why_no_file(path)}")
    data = path.read_bytes()
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError as error:
            raise UserError(f"{path}:{number}: not UTF-8 ({error.reason}); convert the file") from None
        if text:
            yield number, text


def _form(path: Path, lines: list[tuple[int, str]], flag: str) -> tuple[str, str]:
    """Return the format, and how it was found."""
    if path.suffix.lower() in ENDINGS:
        form = ENDINGS[path.suffix.lower()]
        return form, form
    texts = [text for _, text in lines if not text.startswith(";;")]
    if texts and all(text.startswith("{") for text in texts):
        return "jsonl", "jsonl by its content"
    if texts and all(_TRN.fullmatch(text) for text in texts):
        return "trn", "trn by its content"
    raise UserError(f"{path}: which format? Neither its ending nor its content says so; add {flag} {'|'.join(FORMATS)}")


def _read_jsonl(path, lines, keys, id_key, folder) -> tuple[list[Said], str]:
    read = []
    for number, line in lines:
        try:
            fields = json.loads(line)
        except NOT_JSON as error:
            why = error.msg if isinstance(error, json.JSONDecodeError) else str(error)[:100]
            raise UserError(f"{path}:{number}: not JSON ({why}); each line must be a JSON object") from None
        if not isinstance(fields, dict):
            raise UserError(f"{path}:{number}: a {type(fields).__name__}; each line must be a JSON object")
        read.append((number, fields))
    # Of all lines: NeMo's manifests have the reference as `text`, also where an utterance has no `pred_text`.
    key = next((key for key in keys if any(key in fields for _, fields in read)), keys[0])
    said, longer = [], []
    for number, fields in read:
        if not isinstance(fields.get(key), str):
            has = repr(fields[key])[:40] if key in fields else "missing"
            raise UserError(f"{path}:{number}: {key} is {has}; it must be a text")
        audio = fields.get("audio_filepath")
        short, full = _audio(audio, fields, folder) if isinstance(audio, str) and audio else ("", "")
        own = _id(path, number, fields, id_key)
        said.append(Said(short if own is None else own, fields[key], number, audio=short))
        longer.append((full, own is None))
    # As in the index of a manifest, where several lines take parts of one file.
    lines_of = Counter(one.audio for one in said)
    for i, one in enumerate(said):
        if one.audio and lines_of[one.audio] > 1:
            full, is_id = longer[i]
            said[i] = one._replace(id=full if is_id else one.id, audio=full)
    return said, key


def _id(path: Path, number: int, fields: dict, id_key: str | None) -> str | None:
    """Return the id that a line states; None where that is the path of its audio."""
    key = id_key or ("id" if fields.get("id") is not None else "audio_filepath")
    value = fields.get(key)
    if not isinstance(value, (str, int)) or isinstance(value, bool) or value == "":
        has = "no id and no audio_filepath" if key == "audio_filepath" and key not in fields else f"no {key}"
        raise UserError(f"{path}:{number}: {has}; name the key of the ids with --id-key")
    return None if key == "audio_filepath" and isinstance(value, str) else storage.printable_text(str(value))


def _audio(value: str, fields: dict, folder: Path | None) -> tuple[str, str]:
    """Return the ids of a line's audio, as `ids_of_audio` does."""
    audio = Path(value)
    if folder is not None and audio.is_relative_to(folder):
        audio = audio.relative_to(folder)
    channels = fields.get("channel", fields.get("channel_selector"))
    if channels is not None:
        channels = [] if channels == "average" else channels if isinstance(channels, list) else [channels]
    found = ids_of_audio(str(audio), _number(fields.get("offset")), _number(fields.get("duration")), channels)
    return storage.printable_text(found[0]), storage.printable_text(found[1])


def _number(value: object) -> float | None:
    """Return a number that a line has as a number or as text; None where it is none."""
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _read_trn(path: Path, number: int, line: str) -> Iterator[Said]:
    if line.startswith(";;"):
        return
    found = _TRN.fullmatch(line)
    if not found:
        raise UserError(f"{path}:{number}: no (utterance-id) at its end; a line of trn is: words of it (utterance-id)")
    _refuse_alternatives(path, number, found[1])
    yield Said(found[2], found[1], number)


def _read_kaldi(path: Path, number: int, line: str) -> Iterator[Said]:
    id, *text = line.split(maxsplit=1)
    yield Said(id, text[0] if text else "", number)


def _read_ctm(path: Path, number: int, line: str) -> Iterator[Said]:
    if line.startswith(";;"):
        return
    fields = line.split()
    if len(fields) < 5:
        raise UserError(
            f"{path}:{number}: {len(fields)} fields; a line of CTM is: recording channel start duration word"
        )
    recording, channel, start, duration, word = fields[:5]
    if word.startswith("<ALT"):
        raise UserError(f"{path}:{number}: alternatives ({word}) are not scored; keep one of them")
    start, duration = _seconds(path, number, start, duration)
    yield Said(f"{recording} {channel}", word, number, start, start + duration)


def _read_stm(path: Path, number: int, line: str) -> Iterator[Said]:
    if line.startswith(";;"):
        return
    fields = line.split(maxsplit=5)
    if len(fields) < 5:
        raise UserError(
            f"{path}:{number}: {len(fields)} fields; a line of STM is: recording channel speaker start end words of it"
        )
    recording, channel, _, start, end = fields[:5]
    # A label names subsets, such as <o,f0,female>; an unknown word is none.
    text = re.sub(r"^<(?!unk>)[^>]*>\s*", "", fields[5], flags=re.IGNORECASE) if len(fields) > 5 else ""
    _refuse_alternatives(path, number, text)
    start, end = _seconds(path, number, start, end)
    if end < start:
        raise UserError(f"{path}:{number}: ends at {end:g} s, before its start at {start:g} s")
    yield Said(f"{recording} {channel}", text, number, start, end)


_READERS: dict[str, Callable[[Path, int, str], Iterator[Said]]] = {
    "trn": _read_trn,
    "kaldi": _read_kaldi,
    "ctm": _read_ctm,
    "stm": _read_stm,
}


def _seconds(path: Path, number: int, *texts: str) -> tuple[float, ...]:
    try:
        found = tuple(map(float, texts))
    except ValueError:
        found = (-1.0,)
    if not all(0 <= value < float("inf") for value in found):
        raise UserError(f"{path}:{number}: {' and '.join(texts)} must be numbers of seconds")
    return found


def _refuse_alternatives(path: Path, number: int, text: str) -> None:
    if re.search(r"\{[^}]*/[^}]*\}", text):
        raise UserError(f"{path}:{number}: alternatives in braces are not scored; keep one of them")


def _name_recordings(
    path: Path, said: list[Said], channels: Mapping[str, set[str]], expected: Mapping[str, set[str]]
) -> list[Said]:
    """Return the same, named by the recording alone where it has one channel, in the reference if it is there.

    channels: those of this file by recording; expected: those of the reference. Of several channels of a recording that
    has one in the reference, that one has the recording's name. Raises `UserError` where two recordings, or channels of
    them, get one name.
    """

    def name(id: str) -> str:
        recording, channel = id.split()
        own = channels[recording]
        wanted = expected.get(recording, own)
        alone = len(wanted) == 1 and (len(own) == 1 or channel in wanted)
        return recording if alone else f"{recording}-{channel}"

    first: dict[str, Said] = {}
    for one in said:
        other = first.setdefault(name(one.id), one)
        if other.id != one.id:
            parts = (f"{two.id.replace(' ', ', channel ')} (line {two.line})" for two in (other, one))
            raise UserError(
                f"{path}: {' and '.join(parts)} would have the same name, {name(one.id)}; rename one recording, also in the "
                "other files"
            )
    return [one._replace(id=name(one.id)) for one in said]
