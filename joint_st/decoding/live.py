"""One stream to a reader: what is heard as it comes, then what the second pass makes of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import soxr

from joint_st.data.audio import read_audio, resample, to_int16
from joint_st.decoding.streaming import Streams, chunk_frames, pieces
from joint_st.distributed.mesh import keep_compiled
from joint_st.runs.trained import load_trained


class Said(NamedTuple):
    """A hypothesis, and when it was there."""

    seconds: float
    """Of audio heard until then."""
    head: str
    """`streaming` while the audio comes, `full_context` once it has ended."""
    text: str


def listen(
    workdir: Path,
    source: Path | BinaryIO,
    *,
    rate: int = 0,
    chunk_ms: float = 320,
    window_seconds: float | None = None,
    checkpoint: str = "best",
) -> Iterator[Said]:
    """Hypotheses of a file, or of raw mono int16 samples (little-endian, at `rate` Hz) that come through a pipe.

    One whenever the text has changed, and the second pass's at the end, when speed and delay are told on stderr. What
    is longer than a window is heard in windows by the second pass, while it comes (`Streams`).
    """
    trained = load_trained(workdir, checkpoint)
    features = trained.config.model.features
    keep_compiled(trained.config.training.compilation_cache)
    streams = Streams(trained, 1, chunk_frames(chunk_ms, features), window_seconds)
    streams.compile()
    if isinstance(source, Path):
        audio = resample(*read_audio(source), features.sample_rate)
    else:
        audio = raw_audio(source, rate or features.sample_rate, features.sample_rate, chunk_ms)
    samples, computing, shown, first = 0, 0.0, "", None
    for piece in pieces(audio, streams.chunk_samples):
        began = time.perf_counter()
        labels = streams.turn({0: piece})[0].labels
        computing += time.perf_counter() - began
        samples += len(piece)
        text = trained.tokenizer.decode(labels)
        if text != shown:
            shown, first = text, features.seconds(samples) if first is None else first
            yield Said(features.seconds(samples), "streaming", text)
    began = time.perf_counter()
    final = trained.tokenizer.decode(streams.full_context(streams.end(0)))
    second = time.perf_counter() - began
    seconds = features.seconds(samples)
    yield Said(seconds, "full_context", final)
    chunks = f"{seconds:.2f} s of audio in chunks of {chunk_ms:g} ms, look-ahead {streams.look_ahead_ms:g} ms"
    speed = f"real-time factor {computing / max(seconds, 1e-9):.3f}, second pass {1000 * second:.0f} ms"
    print(f"{chunks}; {speed}; first text after {seconds if first is None else first:.2f} s", file=sys.stderr)


def raw_audio(pipe: BinaryIO, rate: int, target: int, chunk_ms: float) -> Iterable[np.ndarray]:
    """int16 samples at `target` Hz from raw ones at `rate` Hz, as they come, a chunk at a time."""
    size = 2 * max(round(rate * chunk_ms / 1000), 1)
    resampler = None if rate == target else soxr.ResampleStream(rate, target, 1, dtype="float32")
    while True:
        read = pipe.read(size)
        chunk = np.frombuffer(read[: len(read) // 2 * 2], "<i2")
        if resampler:
            chunk = to_int16(resampler.resample_chunk(chunk.astype(np.float32), last=len(read) < size))
        yield chunk
        if len(read) < size:
            return
