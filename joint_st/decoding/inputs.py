"""Inputs of a transcription: audio files, one after the other, or audio that comes through a pipe."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from joint_st.data.audio import (
    Sequential,
    UnreadableAudio,
    audio_channels,
    check_length,
    mono,
    read_audio,
    resample,
    sndfile_blocks,
    tell_averaged,
    to_int16,
)
from joint_st.data.containers import HEAD, PCM, UNKNOWN, format_of
from joint_st.errors import UserError

PIPE = "standard input"
"""Name of a pipe in messages."""

RAW, FILE = "raw", "file"
"""Forms of audio in a pipe: samples alone, int16 (little-endian) and mono, or an audio file."""

LIVE = ("WAV",)
"""Formats that can be decoded while they come; others are decoded once they are complete."""

LIVE_CODECS = (*PCM, 2, 17)
"""Numbers of the codecs of a WAV that libsndfile decodes without seeking: PCM, and the ADPCM of Microsoft and of IMA."""

LONGEST_HEADER = 1 << 26
"""Bytes within which the samples of a WAV in a pipe have to begin."""

FOLLOWS_SECONDS = 1.0
"""Seconds to wait for what follows the samples of a WAV in a pipe that its writer leaves open."""

SAMPLE_BYTES = {"PCM_U8": 1, "ULAW": 1, "ALAW": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
"""Bytes that a sample takes in a WAV file, by libsndfile's name of its subtype."""


class AudioFiles:
    """Audio files to read one after the other. A file that cannot be read is reported on stderr and left out, unless it
    is the only one; of how many files channels are averaged is reported at the end."""

    def __init__(self, paths: Sequence[Path]):
        self.paths = tuple(paths)
        self.unread: list[Path] = []
        """The files that could not be read so far."""

    def read(self, rate: int, tolerance: float) -> Iterator[tuple[Path, np.ndarray]]:
        """Yield each file with its audio at `rate` Hz, int16 [samples]; see `whole_file`."""
        several = 0
        for path in self.paths:
            try:
                audio = whole_file(path, rate, tolerance)
                several += audio_channels(path) > 1
            except UnreadableAudio as error:
                if len(self.paths) == 1:
                    raise
                print(f"joint-st: not transcribed: {error.path}: {error.why}", file=sys.stderr)
                self.unread.append(path)
                continue
            yield path, audio
        tell_averaged(several)


def whole_file(path: Path, rate: int, tolerance: float) -> np.ndarray:
    """Return the audio of a file at `rate` Hz, int16 [samples].

    Raises `UnreadableAudio`, also where its length differs from its own header by more than `tolerance` seconds.
    """
    audio, own_rate, promised = read_audio(path)
    if promised is not None:
        check_length(path, len(audio) / own_rate, promised, tolerance, by="its own header")
    return resample(audio, own_rate, rate)


def piped_audio(
    pipe: BinaryIO, form: str | None, rate: int | None, target: int, chunk_ms: float, tolerance: float
) -> Iterator[np.ndarray]:
    """Yield int16 samples at `target` Hz from a pipe, in chunks of `chunk_ms` where the format allows it.

    form: `RAW` or `FILE`; None to tell it from the first bytes. What it is taken for is printed on stderr. rate: rate
    of raw samples, by default `target`. Raises `UserError`.
    """
    head = _read(pipe, HEAD)
    if not head:
        raise UserError(f"{PIPE}: empty; see why the program that should write audio into it wrote nothing")
    kind = format_of(head)
    taken = form or (FILE if kind else RAW)
    if taken == RAW:
        what, other = f"raw samples, int16 and mono, at {rate or target} Hz", f"--stdin {FILE} for an audio file"
    else:
        what, other = f"an audio file{kind and f' ({kind})'}", f"--stdin {RAW} for samples alone"
    print(f"{PIPE}: {what}{'' if form else f' ({other})'}", file=sys.stderr)
    if taken == RAW:
        yield from raw_audio(_Joined(head, pipe), rate or target, target, chunk_ms)
        return
    if rate is not None:
        raise UserError(f"--rate {rate}: {PIPE} is an audio file, which has a rate of its own; leave it out")
    if kind in LIVE:
        head = _whole_header(head, pipe)
        if _codec(head) in LIVE_CODECS:
            yield from _live(head, pipe, target, chunk_ms, tolerance)
            return
    with tempfile.NamedTemporaryFile(prefix="joint_st_") as file:
        while head:
            file.write(head)
            head = pipe.read(1 << 20)
        file.flush()
        try:
            audio = whole_file(Path(file.name), target, tolerance)
            tell_averaged(audio_channels(file.name) > 1)
            yield audio
        except UnreadableAudio as error:
            raise UnreadableAudio(PIPE, error.why) from None


def raw_audio(pipe: BinaryIO, rate: int, target: int, chunk_ms: float) -> Iterator[np.ndarray]:
    """Yield int16 samples at `target` Hz from raw samples at `rate` Hz as they come, a chunk at a time."""
    size = 2 * max(round(rate * chunk_ms / 1000), 1)

    def chunks():
        while True:
            read = pipe.read(size)
            yield np.frombuffer(read[: len(read) // 2 * 2], "<i2")
            if len(read) < size:
                return

    return _resampled(chunks(), rate, target)


def _resampled(chunks: Iterable[np.ndarray], rate: int, target: int) -> Iterator[np.ndarray]:
    """Resample int16 chunks from `rate` Hz to `target` Hz."""
    if rate == target:
        yield from chunks
        return
    resampler = soxr.ResampleStream(rate, target, 1, dtype="float32")
    for chunk in chunks:
        yield to_int16(resampler.resample_chunk(chunk.astype(np.float32)))
    yield to_int16(resampler.resample_chunk(np.zeros(0, np.float32), last=True))


def _live(head: bytes, pipe: BinaryIO, target: int, chunk_ms: float, tolerance: float) -> Iterator[np.ndarray]:
    """Yield the samples of a WAV file while it comes. head: at least its header, see `_whole_header`."""
    head = _of_unknown_size(head)
    reading, writing = os.pipe()
    pump = _Pump(head, pipe, writing)
    try:
        with Sequential(reading, closefd=True) as file:
            tell_averaged(file.channels > 1)
            size = max(round(file.samplerate * chunk_ms / 1000), 1)
            samples = 0

            def chunks():
                nonlocal samples
                for block in sndfile_blocks(file, size * file.channels):
                    samples += len(block)
                    yield mono(PIPE, block)

            yield from _resampled(chunks(), file.samplerate, target)
            # What has come was decoded already, so that what is wrong is only said.
            if file.frames * file.channels * SAMPLE_BYTES.get(file.subtype, 8) < UNKNOWN:
                has, promised = samples / file.samplerate, file.frames / file.samplerate
                try:
                    check_length(PIPE, has, promised, tolerance, by="its header")
                except UnreadableAudio as error:
                    print(f"joint-st: {PIPE}: {error.why}", file=sys.stderr)
            pump.done.wait(FOLLOWS_SECONDS)
            if _begins_another(bytes(pump.rest)):
                told = f"another WAV follows the {samples / file.samplerate:.3f} s of the first one and is not heard"
                print(f"joint-st: {PIPE}: {told}; give each a command of its own", file=sys.stderr)
    except soundfile.SoundFileError as error:
        raise UnreadableAudio(PIPE, getattr(error, "error_string", str(error)).rstrip(".")) from None


def _begins_another(rest: bytes) -> bool:
    """Return whether another WAV begins in what follows the samples of one, at once or after other chunks."""
    at = 0
    while at < len(rest) and rest[at : at + 4] not in (b"RIFF", b"RF64", b"RIFX"):
        length = int.from_bytes(rest[at + 4 : at + 8], "little")
        at += 8 + length + length % 2
    return at < len(rest)


def _chunks(head: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield where each chunk of the beginning of a WAV file begins, its name and its length; the last one may end beyond
    it."""
    at = 12
    while at + 8 <= len(head):
        length = int.from_bytes(head[at + 4 : at + 8], "little")
        yield at, head[at : at + 4], length
        at += 8 + length + length % 2


def _whole_header(head: bytes, pipe: BinaryIO) -> bytes:
    """Return the beginning of a WAV file that comes through a pipe up to its samples, given the first bytes of it."""
    while True:
        at, name, length = max(_chunks(head), default=(0, b"data", 0))
        needed = at + 8 + length + length % 2 + 8
        if name == b"data" or needed > LONGEST_HEADER:
            return head
        more = _read(pipe, needed - len(head))
        if not more:
            return head
        head += more


def _codec(head: bytes) -> int:
    """Return the number of the codec of the beginning of a WAV file; 0 where it states none."""
    found = (at for at, name, _ in _chunks(head) if name == b"fmt ")
    return next((int.from_bytes(head[at + 8 : at + 10], "little") for at in found), 0)


def _of_unknown_size(head: bytes) -> bytes:
    """Return the beginning of a WAV file with its size marked as unknown if the program that wrote it has left 0 there,
    because it could not seek back."""
    end = 8 + int.from_bytes(head[4:8], "little")
    data = next((at for at, name, length in _chunks(head) if name == b"data" and not length), None)
    if data is None:
        return head
    at = begin = data + 8
    while at < end and head[at : at + 4].rstrip().isalnum():
        length = int.from_bytes(head[at + 4 : at + 8], "little")
        at += 8 + length + length % 2
    if begin < at == end:  # other chunks, up to the end of the file: it has no audio
        return head
    return head[: data + 4] + b"\xff\xff\xff\xff" + head[begin:]


class _Pump:
    """A thread that writes all that comes through a pipe, of which it has the head, into another one."""

    def __init__(self, head: bytes, pipe: BinaryIO, writing: int):
        self.rest = bytearray()
        """Up to `HEAD` bytes or more that follow the samples of a WAV, by its header."""
        self.done = threading.Event()
        """Whether they are complete."""
        self._left = next((at + 8 + size + size % 2 for at, name, size in _chunks(head) if name == b"data"), 1 << 62)
        threading.Thread(target=self._write, args=(head, pipe, writing), daemon=True).start()

    def _write(self, head: bytes, pipe: BinaryIO, writing: int) -> None:
        # The consumer may stop at any time; leaving the block may write too.
        with contextlib.suppress(BrokenPipeError, ValueError), open(writing, "wb") as out:
            while head:
                if len(self.rest) < HEAD:
                    self.rest += head[self._left :]
                    self._left = max(self._left - len(head), 0)
                    if len(self.rest) >= HEAD:
                        self.done.set()
                out.write(head)
                out.flush()
                head = pipe.read1(1 << 16) if hasattr(pipe, "read1") else pipe.read(1 << 16)
        self.done.set()


def _read(pipe: BinaryIO, size: int) -> bytes:
    """Read the next `size` bytes of a pipe, fewer where it ends."""
    parts = []
    while size > 0 and (part := pipe.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


class _Joined:
    """A pipe from which some bytes were read already."""

    def __init__(self, head: bytes, pipe: BinaryIO):
        self._head = head
        self._pipe = pipe

    def read(self, size: int) -> bytes:
        own, self._head = self._head[:size], self._head[size:]
        return own + (_read(self._pipe, size - len(own)) if len(own) < size else b"")
