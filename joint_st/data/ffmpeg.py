"""Audio files decoded by FFmpeg, where PyAV is installed: `pip install 'joint_st[av]'`.

PyAV is used and not torchcodec, because its wheels contain FFmpeg, while torchcodec needs PyTorch and an installed
FFmpeg.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

FORMATS = "wav,w64,aiff,au,caf,flac,ogg,mp3,aac,mov,matroska,asf,amr,ac3,eac3,wv,tta,ape,mpc,mpegts,mpeg,nistsphere"
"""Demuxers that may be used; each reads a single file. Others, such as playlists, open whatever a file names."""

MOST_CHANNELS = 8
"""Most channels: with more, in a plane each, PyAV reads beyond its memory."""


@functools.cache
def available() -> bool:
    """Return whether PyAV is installed."""
    return importlib.util.find_spec("av") is not None


def errors() -> tuple[type[Exception], ...]:
    """Return the errors that PyAV raises for a file that it cannot read; none where PyAV is not installed."""
    if not available():
        return ()
    import av

    return (av.error.FFmpegError, ValueError)


class FfmpegFile:
    """An open file, of which the first stream of audio is decoded. Raises one of `errors`."""

    def __init__(self, path: Path | str):
        import av

        av.logging.set_level(av.logging.PANIC)
        # Opened here, since FFmpeg takes some names for addresses.
        self._file = open(path, "rb")
        try:
            self._container: Any = av.open(self._file, options={"format_whitelist": FORMATS, "protocol_whitelist": ""})
            if not self._container.streams.audio:
                raise ValueError("holds no audio")
            context = self._container.streams.audio[0].codec_context
            if context is None:
                raise ValueError("holds audio in a form that is not known")
            self.rate: int = context.sample_rate
            self.channels: int = context.channels
            if not 1 <= self.channels <= MOST_CHANNELS:
                raise ValueError(f"holds {self.channels} channels; at most {MOST_CHANNELS} are read")
            self._resampler = av.AudioResampler(format="flt", layout=context.layout, rate=self.rate)
        except BaseException:
            self._file.close()
            raise

    def blocks(self, start: int) -> Iterator[np.ndarray]:
        """Yield float32 [samples, channels] from sample `start` to the end."""
        # Always decoded from the beginning, because seeking in such files relies on guesses from their headers.
        for frame in self._container.decode(audio=0):
            for part in self._resampler.resample(frame):
                block = part.to_ndarray().reshape(-1, self.channels)
                if start < len(block):
                    yield block[start:]
                start = max(start - len(block), 0)
        for part in self._resampler.resample(None):
            if len(block := part.to_ndarray().reshape(-1, self.channels)[start:]):
                yield block

    def __enter__(self) -> FfmpegFile:
        return self

    def __exit__(self, *error) -> None:
        self._container.close()
        self._file.close()
