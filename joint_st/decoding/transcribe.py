"""Transcribes files, or one stream while it comes, with a run's checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax
import numpy as np

from joint_st.data.audio import audio_channels, tell_averaged
from joint_st.decoding.decoders import Decoder, Greedy, fuse
from joint_st.decoding.forward import Clock, Forward
from joint_st.decoding.fusion.build import FusionFiles
from joint_st.decoding.inputs import AudioFiles, piped_audio, whole_file
from joint_st.decoding.long import LongRecordings
from joint_st.decoding.streaming import Streams, chunk_frames, pieces
from joint_st.decoding.timed import TimedLabels
from joint_st.distributed.mesh import keep_compiled, put_batch
from joint_st.passes import FULL_CONTEXT, STREAMING
from joint_st.runs.trained import Trained, load_trained

LENGTH_STEP_SECONDS = 2
"""Files are padded to a multiple of this, so that a folder of them needs few compilations."""


def transcribe_files(
    workdir: Path,
    files: Sequence[Path] | AudioFiles,
    *,
    head: str = FULL_CONTEXT,
    decoder: Decoder = Greedy(),
    fusion: FusionFiles | None = None,
    window_seconds: float | None = None,
    look_ahead_ms: float | None = None,
    checkpoint: str = "best",
) -> Iterator[tuple[Path, str]]:
    """Yield the text of each readable file in order, by the head on the pass `head`; see `AudioFiles`.

    Files longer than `window_seconds` are decoded in windows of that length (None: the run's own,
    `Config.window_seconds`). look_ahead_ms: look-ahead of the streaming layers, at most the longest that the run was
    trained with (None: the first). fusion: a language model and hot words for the beam search.

    Raises `UserError` where there is no such run or checkpoint, and where the only file cannot be read.
    """
    trained = load_trained(workdir, checkpoint).with_look_ahead(look_ahead_ms)
    if fusion:
        (decoder,) = fuse([decoder], fusion.open(trained.tokenizer, trained.normalizer))
    for path, _, labels in decode_files(trained, files, head=head, decoder=decoder, window_seconds=window_seconds):
        yield path, trained.tokenizer.decode(labels)


def decode_files(
    trained: Trained,
    files: Sequence[Path] | AudioFiles,
    *,
    head: str,
    decoder: Decoder,
    window_seconds: float | None = None,
) -> Iterator[tuple[Path, float, Any]]:
    """Yield each file, its length in seconds, and what the decoder finds in it; see `transcribe_files`."""
    features = trained.config.model.features
    keep_compiled(trained.config.training.compilation_cache)
    model = (trained.config, trained.symbols.sizes, trained.mesh, [decoder], [head])
    forward = Forward(*model)
    long = LongRecordings(*model, window_seconds=window_seconds or trained.config.window_seconds)
    step = LENGTH_STEP_SECONDS * features.sample_rate // features.samples_per_frame * features.samples_per_frame
    with jax.set_mesh(trained.mesh):
        inputs = files if isinstance(files, AudioFiles) else AudioFiles(files)
        for path, audio in inputs.read(features.sample_rate, trained.config.data.length_tolerance):
            if len(audio) > long.longest:
                yield path, features.seconds(len(audio)), long(trained.weights, audio)[decoder.name][head]
                continue
            # One file is one row; the other devices of the mesh, if any, get rows of length 0.
            rows = np.zeros((trained.mesh.size, -(-max(len(audio), 1) // step) * step), np.int16)
            rows[0, : len(audio)] = audio
            lengths = np.zeros(trained.mesh.size, np.int32)
            lengths[0] = len(audio)
            batch = put_batch({"audio": rows, "audio_lengths": lengths}, trained.mesh)
            ((found,),) = jax.device_get(forward(trained.weights, batch["audio"], batch["audio_lengths"]))
            yield path, features.seconds(len(audio)), decoder.on_host(found)[0]


class Said(NamedTuple):
    """A hypothesis, and the time at which it was known."""

    seconds: float
    """Seconds of audio until then."""
    head: str
    """Head of the hypothesis: `streaming` while the audio comes, `full_context` once it has ended."""
    text: str
    found: TimedLabels | None = None
    """Result of a second pass with times."""


def listen(
    workdir: Path,
    source: Path | BinaryIO,
    *,
    rate: int | None = None,
    stdin: str | None = None,
    chunk_ms: float | None = None,
    look_ahead_ms: float | None = None,
    window_seconds: float | None = None,
    checkpoint: str = "best",
    trained: Trained | None = None,
    second_pass: Decoder = Greedy(),
) -> Iterator[Said]:
    """Yield hypotheses for a file, or for audio that comes through a pipe; `stdin` and `rate` say what comes, as in
    `piped_audio`.

    A hypothesis comes whenever the text has changed, and that of the second pass at the end, when speed and delay are
    printed on stderr. The second pass decodes longer audio in windows while it comes (`Streams`); with the decoder
    `Timed` it returns more than text. chunk_ms: see `chunk_frames`. look_ahead_ms: see `transcribe_files`. trained: the
    checkpoint of the run, if it is loaded already.
    """
    trained = (trained or load_trained(workdir, checkpoint)).with_look_ahead(look_ahead_ms)
    features = trained.config.model.features
    keep_compiled(trained.config.training.compilation_cache)
    frames = chunk_frames(chunk_ms, features, trained.config.model.blocks[0])
    chunk_ms = features.frames_ms(frames)
    streams = Streams(trained, 1, frames, window_seconds, second_pass)
    streams.clock = Clock()
    streams.compile()
    clock = streams.clock = Clock()
    if isinstance(source, Path):
        audio = whole_file(source, features.sample_rate, trained.config.data.length_tolerance)
        tell_averaged(audio_channels(source) > 1)
    else:
        tolerance = trained.config.data.length_tolerance
        audio = piped_audio(source, stdin, rate, features.sample_rate, chunk_ms, tolerance)
    samples, shown, first = 0, "", None
    for piece in pieces(audio, streams.chunk_samples):
        labels = streams.turn({0: piece})[0].labels
        samples += len(piece)
        text = trained.tokenizer.decode(labels)
        if text != shown:
            shown, first = text, features.seconds(samples) if first is None else first
            yield Said(features.seconds(samples), STREAMING, text)
    while_it_came = clock.spent(head=FULL_CONTEXT)
    final = streams.full_context(streams.end(0))
    found = final if isinstance(final, TimedLabels) else None
    text = trained.tokenizer.decode(found.labels if found else final)
    second = clock.spent(head=FULL_CONTEXT) - while_it_came
    seconds = features.seconds(samples)
    yield Said(seconds, FULL_CONTEXT, text, found)
    chunks = f"{seconds:.2f} s of audio in chunks of {chunk_ms:g} ms, look-ahead {streams.look_ahead_ms:g} ms"
    factor = f"real-time factor {clock.spent() / seconds:.3f}" if samples else "no audio came"
    speed = f"{factor}, second pass {1000 * second:.0f} ms"
    shown_first = "no streaming text" if first is None else f"first text after {first:.2f} s"
    print(f"{chunks}; {speed}; {shown_first}", file=sys.stderr)
