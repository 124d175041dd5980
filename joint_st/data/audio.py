"""Reads audio files as int16 samples at the model's rate."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import soundfile
import soxr

from joint_st import storage
from joint_st.data import ffmpeg
from joint_st.data.containers import HEAD, Structure, examine, format_of
from joint_st.errors import UserError

BLOCK = 1 << 18
"""Samples of all channels that are decoded at once, so that memory follows the data and not a header's promise."""

LEAST_RATE, MOST_RATE = 2000, 1_000_000
"""Range of sample rates in Hz; rates outside it come from broken headers."""

MOST_SAMPLES = 2**48

MOST_SAMPLES_A_BYTE = 10_000
"""More than any codec packs into a byte; FLAC codes 65,535 equal samples in a dozen. More are filled in by a decoder
where a broken header leaves a gap."""

USUAL_RATES = (8000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
"""Hz."""


class UnreadableAudio(UserError):
    """An audio file that cannot be decoded, or is not what its manifest says."""

    def __init__(self, path: Path | str, why: str):
        super().__init__(f"{storage.printable(path)}: {why}; fix the file or take it out of the data")
        self.path = storage.printable(path)
        self.why = why

    def __reduce__(self):
        return UnreadableAudio, (self.path, self.why)


class Decoded(NamedTuple):
    """The content of an audio file, or of a part of it."""

    audio: np.ndarray
    """int16 [samples], mono."""
    rate: int
    """Hz."""
    promised: float | None
    """Seconds that the file's own header promises; None where it states no length."""


class Decoder(Protocol):
    """An open audio file."""

    rate: int
    """Hz."""
    channels: int

    def blocks(self, start: int) -> Iterator[np.ndarray]:
        """Yield float32 [samples, channels], full scale being 1, from sample `start` to the end; no block is empty."""
        ...

    def __enter__(self) -> Decoder: ...

    def __exit__(self, *error) -> None: ...


def read_audio(
    path: Path | str, offset: float = 0.0, seconds: float | None = None, channels: Sequence[int] = ()
) -> Decoded:
    """Decode WAV, FLAC, Ogg (Vorbis, Opus) or MP3, and with PyAV what FFmpeg reads.

    Reads `seconds` from `offset` (seconds) on, or as much as there is. channels: the channels to average, counted from
    0; all of them if it is empty. Raises `UnreadableAudio`, also for a file that was visibly cut, and for one of which
    the decoder would drop a part.
    """
    decoder, structure = _open(path)
    part = offset, seconds, channels
    with decoder:
        try:
            audio, rate = _samples(path, decoder, *part), decoder.rate
        except (soundfile.SoundFileError, OSError, MemoryError, *ffmpeg.errors()) as error:
            why = _why(path, error)
            if not isinstance(error, soundfile.SoundFileError):
                raise UnreadableAudio(path, why) from None
            audio, rate = _decoded_again(path, decoder, why, structure.slack, *part)
    promised = structure.promised
    if promised is not None:
        promised = max(promised - offset, 0.0)
        promised = promised if seconds is None else min(promised, seconds)
    elif seconds is None and structure.present not in (None, float("inf")):
        # Samples that the header does not count are read all the same.
        present = max(structure.present - offset, 0.0)
        if len(audio) / rate < present - structure.slack:
            raise UnreadableAudio(path, f"{len(audio) / rate:.3f} of its {present:.3f} s can be decoded")
    return Decoded(audio, rate, promised)


def _samples(
    path: Path | str, decoder: Decoder, offset: float, seconds: float | None, channels: Sequence[int]
) -> np.ndarray:
    """Return a part of an open file, int16 [samples]; the arguments are those of `read_audio`."""
    if channels and not all(0 <= channel < decoder.channels for channel in channels):
        several = f"{decoder.channels} channel{'s' * (decoder.channels > 1)}"
        raise UnreadableAudio(path, f"has {several}, and channel {max(channels)} is asked for; they count from 0")
    # No file has so many samples; a product of numbers in a manifest may be infinite.
    start = round(min(offset * decoder.rate, MOST_SAMPLES))
    left = None if seconds is None else round(min(seconds * decoder.rate, MOST_SAMPLES))
    pieces = [np.zeros(0, np.int16)]
    for block in in_measure(path, decoder.blocks(start)):
        block = block if left is None else block[:left]
        pieces.append(mono(path, block, channels))
        left = None if left is None else left - len(block)
        if left == 0:
            break
    return np.concatenate(pieces)


def _decoded_again(
    path: Path | str,
    decoder: Decoder,
    why: str,
    slack: float,
    offset: float,
    seconds: float | None,
    channels: Sequence[int],
) -> tuple[np.ndarray, int]:
    """Return the samples of a part of an Ogg file, and their rate in Hz, as FFmpeg decodes them.

    libsndfile gives up in the midst of files whose pages state other positions than their packets have, such as some that
    FFmpeg has written. Raises `UnreadableAudio` with `why`, its reason, where FFmpeg finds less audio than the
    header promises (to `slack` s).
    """
    if not isinstance(decoder, _Sndfile) or decoder.kind != "OGG" or decoder.frames is None:
        raise UnreadableAudio(path, why)
    left = decoder.frames / decoder.rate - offset
    with _by_ffmpeg(path, why) as other:
        try:
            audio = _samples(path, other, offset, seconds, channels)
        except (soundfile.SoundFileError, OSError, MemoryError, *ffmpeg.errors()) as error:
            raise UnreadableAudio(path, f"{why}; FFmpeg: {_why(path, error)}") from None
    if len(audio) / other.rate < (left if seconds is None else min(left, seconds)) - slack:
        raise UnreadableAudio(path, why)
    return audio, other.rate


def audio_seconds(path: Path | str) -> float:
    """Return the length of an audio file: from its header, or by decoding it if the header has none. Raises
    `UnreadableAudio`."""
    decoder, structure = _open(path)
    with decoder:
        if isinstance(decoder, _Sndfile) and decoder.frames is not None:
            _check_measure(path, decoder.frames)
            seen, promised = decoder.frames / decoder.rate, structure.promised
            return seen if promised is None or promised < seen + structure.slack else promised
        try:
            return sum(map(len, in_measure(path, decoder.blocks(0)))) / decoder.rate
        except (soundfile.SoundFileError, OSError, MemoryError, *ffmpeg.errors()) as error:
            raise UnreadableAudio(path, _why(path, error)) from None


def audio_channels(path: Path | str) -> int:
    """Return the number of channels of an audio file. Raises `UnreadableAudio`."""
    decoder, _ = _open(path)
    with decoder:
        return decoder.channels


def tell_averaged(files: int) -> None:
    """Say on stderr how many files have several channels; nothing where none has."""
    if files:
        print(
            f"joint-st: {int(files)} file{'s' * (files > 1)} with several channels: their mean is heard",
            file=sys.stderr,
        )


def check_length(path: Path | str, has: float, stated: float, tolerance: float, by: str = "its source") -> None:
    """Raise `UnreadableAudio` where audio of `has` seconds differs from the stated length by more than a tolerance in
    s."""
    if abs(has - stated) <= tolerance:
        return
    ratio = stated / has if has else 0.0
    hint = ""
    if 900 < ratio < 1100:
        hint = " (is it in milliseconds?)"
    elif any(abs(ratio - rate) < 0.01 * rate for rate in USUAL_RATES):
        hint = " (is it in samples?)"
    raise UnreadableAudio(path, f"{has:.3f} s long, where {by} says {stated:.3f} s{hint}")


def resample(audio: np.ndarray, rate: int, target: int) -> np.ndarray:
    """Resample int16 [n] at `rate` Hz to int16 [m] at `target` Hz, with m at most ceil(n * target / rate)."""
    if rate == target or not len(audio):
        return audio
    # In float: soxr may dither when it rounds to int16, and a file must always give the same samples.
    return to_int16(soxr.resample(audio.astype(np.float32), rate, target, quality="HQ"))


def to_int16(audio: np.ndarray) -> np.ndarray:
    """Round samples, given in units of the int16 range, to the nearest integer, and clip them."""
    return np.clip(np.rint(audio), -32768, 32767).astype(np.int16)


def mono(path: Path | str, block: np.ndarray, channels: Sequence[int] = ()) -> np.ndarray:
    """Return the mean of some channels, or of all, of a block float32 [samples, channels], as int16 [samples].

    Raises `UnreadableAudio`, which names `path`, where samples are not finite.
    """
    if channels:
        block = block[:, list(channels)]
    audio = block[:, 0] if block.shape[1] == 1 else block.mean(1)
    if not np.isfinite(audio.sum()):
        raise UnreadableAudio(path, "holds samples that are not finite")
    return to_int16(audio * 32768)


class Sequential(soundfile.SoundFile):
    """A file that is read block by block, without seeking.

    SoundFile seeks before and after each block of a file that it can seek in, which decoders of MP3 and FLAC answer
    with other samples or with errors, and reads no more than the header promises.
    """

    def seekable(self) -> bool:
        return False


def in_measure(path: Path | str, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield blocks, as long as a file of this size can hold them."""
    samples = 0
    for block in blocks:
        samples += len(block)
        _check_measure(path, samples)
        yield block


def _check_measure(path: Path | str, samples: int) -> None:
    if samples > MOST_SAMPLES_A_BYTE * (size := os.stat(path).st_size):
        raise UnreadableAudio(path, f"{samples:,} samples in {size:,} bytes: its header is broken")


class _Sndfile:
    """A file as libsndfile decodes it."""

    def __init__(self, path: Path | str):
        # As bytes, since the name may be in any encoding.
        self._file = Sequential(os.fsencode(path))
        self.rate, self.channels = self._file.samplerate, self._file.channels
        frames = self._file.frames
        self.frames = None if frames >= 2**62 else frames
        """Samples according to its header; None where that states no length."""
        self.kind, self.subtype = self._file.format, self._file.subtype

    def blocks(self, start: int) -> Iterator[np.ndarray]:
        if self.frames is None:
            yield from _dropped(sndfile_blocks(self._file), start)
        elif start < self.frames:
            yield from _dropped(sndfile_blocks(self._file), start - self._seek_before(start))

    def _seek_before(self, start: int) -> int:
        """Go to a sample from which on the decoder gives the right ones up to `start` and beyond, and return it."""
        if self.kind == "OGG" and self.subtype != "OPUS":
            # After a seek, Vorbis may begin some samples too early.
            return 0
        # The first frames of MP3 that are decoded may need bits of the ones before them.
        place = max(start - self.rate // 2, 0) if self.kind == "MP3" else start
        if place:
            # In an Ogg file of which no sample can be decoded, libsndfile's decoder crashes on a seek.
            if self.kind == "OGG" and not len(self._file.read(1)):
                return place
            self._file.seek(place)
        return place

    def __enter__(self) -> _Sndfile:
        return self

    def __exit__(self, *error) -> None:
        self._file.close()


def sndfile_blocks(file: Sequential, most: int = BLOCK) -> Iterator[np.ndarray]:
    """Yield the rest of an open file, float32 [samples, channels], about `most` numbers at a time."""
    size = max(most // file.channels, 1)
    while True:
        # As float, whatever the file holds: libsndfile scales float files to int16 wrongly or not at all.
        block = file.read(size, dtype="float32", always_2d=True)
        if not len(block):
            return
        yield block


def _dropped(blocks: Iterator[np.ndarray], start: int) -> Iterator[np.ndarray]:
    """Yield blocks without the first `start` samples of all."""
    for block in blocks:
        if start < len(block):
            yield block[start:]
        start = max(start - len(block), 0)


def _open(path: Path | str) -> tuple[Decoder, Structure]:
    """Open a file with the decoder that reads all of it, and return its structure too. Raises `UnreadableAudio`."""
    if why := storage.why_no_file(path):
        raise UnreadableAudio(path, why)
    decoder: Decoder
    try:
        decoder = sndfile = _Sndfile(path)
    except (soundfile.SoundFileError, OSError, TypeError) as error:  # TypeError: a `.raw` file tells no rate
        decoder, structure = _by_ffmpeg(path, _why(path, error)), _structure(path)
    else:
        structure = _structure(path, sndfile.kind)
        seen = None if sndfile.frames is None else sndfile.frames / sndfile.rate
        if structure.present is not None and (seen is not None and seen < structure.present - structure.slack):
            sndfile.__exit__()
            many = "several files in one" if structure.present == float("inf") else f"{structure.present:.3f} s"
            decoder = _by_ffmpeg(path, f"holds {many}, of which its header says {seen:.3f} s")
        elif sndfile.kind == "FLAC":
            structure = structure._replace(promised=seen)
    if structure.damage:
        decoder.__exit__()
        raise UnreadableAudio(path, structure.damage)
    if not LEAST_RATE <= decoder.rate <= MOST_RATE:
        decoder.__exit__()
        raise UnreadableAudio(path, f"has a sample rate of {decoder.rate} Hz by its header")
    return decoder, structure


def _structure(path: Path | str, kind: str = "") -> Structure:
    try:
        status = os.stat(path)
        return _examined(path, kind, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise UnreadableAudio(path, _why(path, error)) from None


@functools.lru_cache(maxsize=1024)  # many utterances may lie in one file, all of which is read here
def _examined(path: Path | str, kind: str, size: int, changed: int) -> Structure:
    """Return the structure of a file that has a size and a time of its last change."""
    with open(path, "rb") as file:
        return examine(file, kind or format_of(file.read(HEAD)))


def _by_ffmpeg(path: Path | str, why: str) -> Decoder:
    """Open a file with FFmpeg; where that is not installed or cannot read it either, raise `UnreadableAudio` with
    `why`."""
    if gone := storage.why_no_file(path):
        raise UnreadableAudio(path, gone)
    if not ffmpeg.available():
        raise UnreadableAudio(path, f"{why} (FFmpeg may read all of it: pip install 'joint_st[av]')")
    try:
        return ffmpeg.FfmpegFile(path)
    except (soundfile.SoundFileError, OSError, MemoryError, *ffmpeg.errors()) as error:
        raise UnreadableAudio(path, f"{why}; FFmpeg: {_why(path, error)}") from None


def _why(path: Path | str, error: BaseException) -> str:
    if isinstance(error, soundfile.SoundFileError | OSError) and (gone := storage.why_no_file(path)):
        return gone  # another process may have removed it since it was looked for
    if isinstance(error, soundfile.LibsndfileError):
        return error.error_string.rstrip(".")
    if isinstance(error, MemoryError):
        return "does not fit into memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
