"""JSONL manifests in NeMo's form: one utterance a line, its audio in a file of its own."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from joint_st import storage
from joint_st.config import ManifestSource
from joint_st.data.audio import UnreadableAudio, audio_seconds, read_audio
from joint_st.data.paths import existing
from joint_st.data.sources.corpus import opens
from joint_st.data.sources.lines import Lines
from joint_st.data.utterance import Entry, Utterance
from joint_st.errors import UserError

KNOWN = {"id", "audio_filepath", "offset", "duration", "text", "language", "speaker", "word_starts", "word_ends"}
"""Keys with a meaning of their own; all others go to `Utterance.extra`."""

SLACK_SECONDS = 1.0
"""A word may be this much later than the end of its utterance: durations are rounded."""


@opens("manifest")
class Manifest:
    """The utterances of a manifest.

    `audio_filepath` is relative to the manifest's folder or absolute, `duration` and `offset` are in seconds.
    Without `offset` the whole file is the utterance; with it, `duration` seconds from there, or the rest.
    `word_starts` and `word_ends`: seconds from the beginning of the utterance, one each for every word of `text`.
    `speaker`, `language`, `noise` (its name, or the condition's) and `snr` (dB): evaluations are broken down by them.
    """

    def __init__(self, config: ManifestSource):
        path = existing(config.path)
        self.name = config.corpus or path.resolve().parent.name
        self._folder = path.parent
        self._lines = Lines(path)
        self.place = f"manifest {path.absolute()}"
        self.version = storage.version(path)

    def __len__(self) -> int:
        return len(self._lines)

    def entry(self, i: int) -> Entry:
        """Utterance `i` without its audio; the file says its length where the manifest does not."""
        fields = self._fields(i)
        path = self._path(fields)
        seconds, problem = fields.get("duration"), ""
        if not path.is_file():
            seconds, problem = seconds or 0.0, f"{path}: no such file"
        elif seconds is None:
            try:
                seconds = audio_seconds(path) - fields.get("offset", 0.0)
            except UnreadableAudio as error:
                seconds, problem = 0.0, f"{path}: {error.why}"
        return Entry(
            id=self._id(fields),
            seconds=float(seconds),
            text=fields["text"],
            has_audio=True,
            language=str(fields.get("language") or ""),
            speaker=str(fields.get("speaker") or ""),
            noise=str(fields.get("noise") or ""),
            snr=fields.get("snr"),
            problem=problem,
            timed_words=len(fields.get("word_starts") or ()),
        )

    def __getitem__(self, i: int) -> Utterance:
        fields = self._fields(i)
        path = self._path(fields)
        if "offset" in fields:
            audio, rate = read_audio(path, fields["offset"], fields.get("duration"))
        else:
            audio, rate = read_audio(path)
        return Utterance(
            id=self._id(fields),
            audio=audio,
            sample_rate=rate,
            text=fields["text"],
            language=str(fields.get("language") or ""),
            speaker=str(fields.get("speaker") or ""),
            corpus=self.name,
            word_times=_word_times(fields),
            extra={key: value for key, value in fields.items() if key not in KNOWN},
        )

    def _path(self, fields: dict) -> Path:
        return self._folder / fields["audio_filepath"]

    def _id(self, fields: dict) -> str:
        """The line's own id, or its audio's path without the ending, with the offset where it has one."""
        if fields.get("id") is not None:
            return str(fields["id"])
        path = self._path(fields).with_suffix("")
        path = path.relative_to(self._folder) if path.is_relative_to(self._folder) else path
        return f"{path}@{fields['offset']}" if fields.get("offset") else str(path)

    def _fields(self, i: int) -> dict:
        """The keys and values of line `i`, those with a meaning checked; `None` counts as absent."""
        try:
            fields = json.loads(self._lines[i])
        except json.JSONDecodeError as error:
            raise self._broken(i, f"not JSON ({error.msg} at column {error.colno}); fix the line") from None
        if not isinstance(fields, dict):
            raise self._broken(i, f"a {type(fields).__name__}; each line must be a JSON object")
        for key in ("offset", "duration"):
            value = fields.get(key)
            if value is None:
                fields.pop(key, None)
            elif not _is_seconds(value):
                raise self._broken(i, f"{key} is {value!r}; it must be a number of seconds")
        for key in ("audio_filepath", "text"):
            if not isinstance(fields.get(key), str):
                has = repr(fields[key]) if key in fields else "missing"
                raise self._broken(i, f"{key} is {has}; it must be a string")
        if fields.get("snr") is not None and not _is_finite(fields["snr"]):
            raise self._broken(i, f"snr is {fields['snr']!r}; it must be a number of dB")
        self._check_word_times(i, fields)
        return fields

    def _check_word_times(self, i: int, fields: dict) -> None:
        times = [fields[key] for key in ("word_starts", "word_ends") if fields.get(key) is not None]
        if not all(isinstance(seconds, list) and all(map(_is_seconds, seconds)) for seconds in times):
            raise self._broken(i, "word_starts and word_ends must be lists of seconds, one for each word")
        if len({len(seconds) for seconds in times}) > 1:
            raise self._broken(i, f"{len(times[0])} word_starts and {len(times[1])} word_ends; each word needs both")
        last, duration = max(map(max, filter(None, times)), default=0.0), fields.get("duration")
        if duration and last > duration + SLACK_SECONDS:
            raise self._broken(
                i, f"a word at {last} of {duration} s; word times are seconds from the beginning of the utterance"
            )

    def _broken(self, i: int, what: str) -> UserError:
        return UserError(f"{self._lines.where(i)}: {what}")


def _is_seconds(value) -> bool:
    return _is_finite(value) and value >= 0


def _is_finite(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _word_times(fields: dict) -> tuple[np.ndarray, np.ndarray] | None:
    starts, ends = fields.get("word_starts"), fields.get("word_ends")
    if starts is None or ends is None:
        return None
    return np.array(starts, np.float64), np.array(ends, np.float64)
