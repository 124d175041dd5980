"""Audio files to int16 samples at the model's rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import soxr

from joint_st.errors import UserError


class UnreadableAudio(UserError):
    """An audio file that cannot be decoded, or is not what its manifest says."""

    def __init__(self, path: Path | str, why: str):
        super().__init__(f"{path}: {why}; fix the file or take it out of the data")
        self.path = str(path)
        self.why = why

    def __reduce__(self):
        return UnreadableAudio, (self.path, self.why)


def read_audio(path: Path | str, offset: float = 0.0, seconds: float | None = None) -> tuple[np.ndarray, int]:
    """WAV, FLAC, Ogg (Vorbis, Opus) or MP3 as (int16 [samples], rate in Hz); channels are averaged.

    Reads `seconds` from `offset` (seconds) on, or as much as there is. Raises `UnreadableAudio`.
    """
    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            if offset:
                file.seek(min(round(offset * rate), file.frames))
            frames = -1 if seconds is None else round(seconds * rate)
            # As float, whatever the file holds: libsndfile scales float files to int16 wrongly or not at all.
            audio = file.read(frames, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, TypeError) as error:  # TypeError: a `.raw` file tells no rate
        raise UnreadableAudio(path, _why(path, error)) from None
    audio = audio[:, 0] if audio.shape[1] == 1 else audio.mean(1)
    if not np.isfinite(audio.sum()):
        raise UnreadableAudio(path, "holds samples that are not finite")
    return to_int16(audio * 32768), rate


def audio_seconds(path: Path | str) -> float:
    """Length of an audio file by its header. Raises `UnreadableAudio`."""
    try:
        info = soundfile.info(str(path))
    except (soundfile.SoundFileError, OSError, TypeError) as error:
        raise UnreadableAudio(path, _why(path, error)) from None
    return info.frames / info.samplerate


def resample(audio: np.ndarray, rate: int, target: int) -> np.ndarray:
    """int16 [n] at `rate` Hz as int16 [m] at `target` Hz, with m at most ceil(n * target / rate)."""
    if rate == target or not len(audio):
        return audio
    # In float: soxr may dither what it rounds to int16, and the same file must give the same samples always.
    return to_int16(soxr.resample(audio.astype(np.float32), rate, target, quality="HQ"))


def to_int16(audio: np.ndarray) -> np.ndarray:
    """Samples in units of the int16 range, rounded to the nearest and clipped."""
    return np.clip(np.rint(audio), -32768, 32767).astype(np.int16)


def _why(path: Path | str, error: Exception) -> str:
    if not Path(path).is_file():
        return "no such file"
    if isinstance(error, soundfile.LibsndfileError):
        return error.error_string.rstrip(".")
    return str(error)
