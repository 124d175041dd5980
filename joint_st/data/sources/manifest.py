"""JSONL manifests in NeMo's form: one utterance a line, its audio in a file of its own."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from joint_st import storage
from joint_st.config import ManifestSource
from joint_st.data.audio import UnreadableAudio, audio_seconds, check_length, read_audio
from joint_st.data.paths import existing
from joint_st.data.sources.corpus import opens
from joint_st.data.sources.lines import Lines
from joint_st.data.utterance import Entry, Utterance, ids_of_audio
from joint_st.distributed.peers import current
from joint_st.errors import UserError

log = logging.getLogger(__name__)

KNOWN = {"id", "audio_filepath", "offset", "duration", "channel", "text", "language", "speaker"}
KNOWN |= {"word_starts", "word_ends", "synthetic"}
"""Keys with a meaning of their own; all others go to `Utterance.extra`."""

OF_RESULTS = {"noise", "snr"}
"""Keys by which results are broken down."""

OTHER_NAMES = {"channel_selector": "channel", "lang": "language", "source_lang": "language"}
"""NeMo's names of keys that `KNOWN` has under another name."""

FOREIGN = {
    **dict.fromkeys(("start", "start_time", "begin", "begin_time", "segment_start"), "write it as offset, in seconds"),
    **dict.fromkeys(("end", "end_time", "segment_end"), "write duration, the seconds from offset on"),
    "dur": "write it as duration, in seconds",
    "channels": "write channel, counted from 0",
    "text_filepath": "write what is said as text",
    **dict.fromkeys(
        ("recording", "supervisions", "tracks"), "a Lhotse cut: write audio_filepath, offset, duration, text"
    ),
    **dict.fromkeys(("features", "feature_file"), "give audio"),
    **dict.fromkeys(("speed", "tempo", "gain", "volume"), "apply it to the audio"),
}
"""Keys by which other tools would read something else than the audio as it is, and what to do about each."""

INSTEAD = ("audio", "audio_path", "audio_file", "audio_filename", "path", "file", "wav", "filename", "wav_path")
"""Names that other tools use for `audio_filepath`."""

SLACK_SECONDS = 1.0
"""Seconds by which a word may end after its utterance, because durations are rounded."""

LONG_SECONDS = 300.0
"""Durations beyond this are compared with the file's header, because they may be samples or milliseconds."""

LONGEST_SECONDS = 24 * 3600.0
"""Longer audio is refused."""

HALF_PAIR = re.compile("[\ud800-\udfff]")
"""Half a surrogate pair, which JSON can hold and UTF-8 cannot."""


class _Chosen:
    """Tells the lines that have one of the wanted values under each key; lines that cannot be read count as chosen,
    because reading them says what is wrong."""

    def __init__(self, where: Mapping[str, tuple[str, ...]]):
        self._where = where
        self.missing = {(key, value) for key, values in where.items() for value in values}

    def __call__(self, line: bytes) -> bool:
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            return True
        if not isinstance(fields, dict):
            return True
        fields = {key: value for key, value in fields.items() if value is not None}
        fields = {OTHER_NAMES.get(key, key): value for key, value in fields.items()} | fields
        found = {(key, _as_typed(fields.get(key, fields.get(OTHER_NAMES.get(key))))) for key in self._where}
        self.missing -= found
        return all(value in self._where[key] for key, value in found)


def _as_typed(value: object) -> str:
    """Return a value of a line as `where` names it: a text as it is, others as in JSON."""
    return value if isinstance(value, str) else json.dumps(value)


@opens("manifest")
class Manifest:
    """The utterances of a manifest.

    `audio_filepath` is relative to the manifest's folder or absolute, `duration` and `offset` are in seconds. Without
    `offset` the whole file is the utterance; with it, `duration` seconds from there, or the rest of the file. `channel`
    (or `channel_selector`): the channel to take, counted from 0, or a list of channels to average; by default all.
    `word_starts` and `word_ends`: seconds from the beginning of the utterance, a number for every word of `text`.
    `speaker`, `language` (or `lang`), `noise` (its name, or that of the condition), `snr` (dB) and `synthetic` (true
    where a machine speaks): evaluations can be broken down by them. Keys by which other tools would read other audio are refused; other keys are named once in the
    log.
    """

    def __init__(self, config: ManifestSource):
        path = existing(config.path)
        self.name = storage.printable(config.corpus or path.resolve().parent.name)
        self._folder = path.parent
        self._chosen = _Chosen(config.where) if config.where else None
        self._lines = Lines(path, self._chosen)
        self._unknown: set[str] = set()
        where = f" {json.dumps(config.where, sort_keys=True)}" if config.where else ""
        self.place = f"manifest {storage.printable(path.absolute())}{where}"
        self.version = self._lines.version

    def __len__(self) -> int:
        count = len(self._lines)
        if self._chosen and self._chosen.missing:
            key, value = min(self._chosen.missing)
            raise UserError(
                storage.printable_text(f"{self._lines.path}: no line has {key} {value}; correct the source's `where`")
            )
        return count

    def where(self, i: int) -> str:
        """Return the file and the line of an utterance."""
        return self._lines.where(i)

    def entry(self, i: int) -> Entry:
        """Return utterance `i` without its audio; where the manifest has no length, the audio file is asked."""
        fields = self._fields(i)
        self._note_unknown(fields)
        path = self._path(fields)
        try:
            seconds, problem = self._seconds(fields, path), ""
        except UnreadableAudio as error:
            seconds, problem = fields.get("duration", 0.0), f"{error.path}: {error.why}"
            seconds = 0.0 if seconds > LONG_SECONDS else seconds
        id, full = self._ids(fields)
        return Entry(
            id=id,
            seconds=float(seconds),
            text=fields["text"],
            has_audio=True,
            language=_text(fields.get("language")),
            speaker=_text(fields.get("speaker")),
            noise=_text(fields.get("noise")),
            snr=fields.get("snr"),
            problem=problem,
            full_id=full,
            synthetic=bool(fields.get("synthetic")),
            channel=fields["channel"][0] + 1 if len(fields.get("channel", ())) == 1 else 1,
        )

    def _seconds(self, fields: dict, path: Path) -> float:
        """Return the length of an utterance as its manifest or its audio file states it. Raises `UnreadableAudio`."""
        if why := storage.why_no_file(path):
            raise UnreadableAudio(path, why)
        seconds = fields.get("duration")
        if seconds is None or seconds > LONG_SECONDS:
            held, offset = audio_seconds(path), fields.get("offset", 0.0)
            if offset > held:
                raise UnreadableAudio(path, f"{held:.3f} s long, and its utterance begins at offset {offset:g} s")
            if seconds is None:
                seconds = held - offset
            elif seconds > held - offset:
                check_length(path, held - offset, seconds, SLACK_SECONDS)
        if seconds > LONGEST_SECONDS:
            raise UnreadableAudio(path, f"an utterance of {seconds / 3600:.0f} hours; cut it")
        return seconds

    def __getitem__(self, i: int) -> Utterance:
        fields = self._fields(i)
        path, channels = self._path(fields), fields.get("channel", ())
        if "offset" in fields:
            audio, rate, promised = read_audio(path, fields["offset"], fields.get("duration"), channels)
        else:
            audio, rate, promised = read_audio(path, channels=channels)
        return Utterance(
            id=self._ids(fields)[0],
            audio=audio,
            sample_rate=rate,
            text=fields["text"],
            language=_text(fields.get("language")),
            speaker=_text(fields.get("speaker")),
            corpus=self.name,
            word_times=_word_times(fields),
            promised=promised,
            extra={key: value for key, value in fields.items() if key not in KNOWN},
        )

    def _path(self, fields: dict) -> Path:
        return self._folder / fields["audio_filepath"]

    def _ids(self, fields: dict) -> tuple[str, str]:
        """Return the id and a longer one: the line's own id, or those of its audio (`ids_of_audio`)."""
        if fields.get("id") is not None:
            return storage.printable_text(str(fields["id"])), ""
        path = self._path(fields)
        whole = storage.printable(path.relative_to(self._folder) if path.is_relative_to(self._folder) else path)
        return ids_of_audio(whole, fields.get("offset"), fields.get("duration"), fields.get("channel"))

    def _fields(self, i: int) -> dict:
        """Return the keys and values of line `i`; keys with a meaning are checked, and `None` counts as absent."""
        try:
            fields = json.loads(self._lines[i])
        except json.JSONDecodeError as error:
            raise self._broken(i, f"not JSON ({error.msg} at column {error.colno}); fix the line") from None
        except (ValueError, RecursionError) as error:  # numbers with thousands of digits, deeply nested lists
            raise self._broken(i, f"not JSON that can be read ({str(error).split(';')[0]}); fix the line") from None
        if not isinstance(fields, dict):
            raise self._broken(i, f"a {type(fields).__name__}; each line must be a JSON object")
        self._take_names_of_others(i, fields)
        for key in ("offset", "duration"):
            value = fields.get(key)
            if value is None:
                fields.pop(key, None)
            elif not _is_seconds(value):
                raise self._broken(i, f"{key} is {value!r}; it must be a number of seconds")
        for key in ("audio_filepath", "text"):
            if not isinstance(fields.get(key), str):
                has = f"is {fields[key]!r}" if key in fields else "is missing"
                meant = [name for name in INSTEAD if key == "audio_filepath" and key not in fields and name in fields]
                raise self._broken(i, f"{key} {has}; it must be a string" + (f" (is it {meant[0]}?)" if meant else ""))
        if not fields["audio_filepath"]:
            raise self._broken(i, "audio_filepath is ''; it must name a file")
        for key in ("text", "speaker", "language", "noise"):
            if isinstance(fields.get(key), str):
                fields[key] = HALF_PAIR.sub("\N{REPLACEMENT CHARACTER}", fields[key])
        if fields.get("snr") is not None and not _is_finite(fields["snr"]):
            raise self._broken(i, f"snr is {fields['snr']!r}; it must be a number of dB")
        if not isinstance(fields.get("synthetic"), bool | None):
            raise self._broken(i, f"synthetic is {fields['synthetic']!r}; it must be true or false")
        self._read_channel(i, fields)
        self._check_word_times(i, fields)
        return fields

    def _take_names_of_others(self, i: int, fields: dict) -> None:
        """Rename NeMo's keys, and refuse keys that make another utterance of it in another tool."""
        for key, advice in FOREIGN.items():
            if fields.get(key):
                raise self._broken(i, f"{key}: a key of other tools, which has no meaning here; {advice}")
        target = fields.pop("target_lang", None)
        if target and target != fields.get("source_lang", target):
            raise self._broken(
                i, f"target_lang is {target!r}: its text is a translation, which cannot be trained on here"
            )
        for other, own in OTHER_NAMES.items():
            value = fields.pop(other, None)
            if value is None:
                continue
            if fields.get(own, value) not in (value, None):
                raise self._broken(i, f"{own} is {fields[own]!r}, and {other} {value!r}; leave one of them out")
            fields[own] = value

    def _read_channel(self, i: int, fields: dict) -> None:
        """Turn the channels into a tuple, which is empty for all of them (`average`)."""
        value = fields.pop("channel", None)
        if value is None:
            return
        channels = value if isinstance(value, list) else [] if value == "average" else [value]
        if not all(isinstance(channel, int) and not isinstance(channel, bool) and channel >= 0 for channel in channels):
            raise self._broken(i, f"channel is {value!r}; it must be a number from 0 on, a list of some, or average")
        fields["channel"] = tuple(channels)

    def _check_word_times(self, i: int, fields: dict) -> None:
        times = [[] if fields.get(key) is None else fields[key] for key in ("word_starts", "word_ends")]
        if not all(isinstance(seconds, list) and all(map(_is_seconds, seconds)) for seconds in times):
            raise self._broken(i, "word_starts and word_ends must be lists of seconds, one for each word")
        if len({len(seconds) for seconds in times}) > 1:
            raise self._broken(i, f"{len(times[0])} word_starts and {len(times[1])} word_ends; each word needs both")
        for n, (start, end) in enumerate(zip(*times), 1):
            if end < start:
                what = f"word {n} begins at {start} s and ends at {end} s"
                raise self._broken(
                    i, f"{what}; word_ends are seconds from the beginning of the utterance, no durations"
                )
        last, duration = max(map(max, filter(None, times)), default=0.0), fields.get("duration")
        if duration and last > duration + SLACK_SECONDS:
            raise self._broken(
                i, f"a word at {last} of {duration} s; word times are seconds from the beginning of the utterance"
            )

    def _note_unknown(self, fields: dict) -> None:
        """Name keys that have no meaning here in the log, each once."""
        new = fields.keys() - KNOWN - OF_RESULTS - self._unknown
        if new:
            self._unknown |= new
        if new and current().is_first:
            names = storage.printable_text(", ".join(sorted(new)))
            log.warning("%s: keys that have no meaning here: %s", storage.printable(self._lines.path), names)

    def _broken(self, i: int, what: str) -> UserError:
        return UserError(storage.printable_text(f"{self._lines.where(i)}: {what}"))


def _text(value: object) -> str:
    """Return a value of a line as text, also a number such as that of a speaker; empty where there is none."""
    return "" if value is None else str(value)


def _is_seconds(value) -> bool:
    return _is_finite(value) and value >= 0


def _is_finite(value) -> bool:
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _word_times(fields: dict) -> tuple[np.ndarray, np.ndarray] | None:
    starts, ends = fields.get("word_starts"), fields.get("word_ends")
    if starts is None or ends is None:
        return None
    return np.array(starts, np.float64), np.array(ends, np.float64)
