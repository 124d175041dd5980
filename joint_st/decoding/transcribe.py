"""Text of audio files, by a run's checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from joint_st.data.audio import read_audio, resample
from joint_st.decoding.decoders import Decoder, Greedy, fuse
from joint_st.decoding.forward import Forward
from joint_st.decoding.fusion.build import FusionFiles
from joint_st.decoding.long import LongRecordings, default_window
from joint_st.distributed.mesh import keep_compiled, put_batch
from joint_st.runs.trained import load_trained

LENGTH_STEP_SECONDS = 2
"""Files are padded to a multiple of this, so that a folder of them needs few compilations."""


def transcribe_files(
    workdir: Path,
    files: Sequence[Path],
    *,
    head: str = "full_context",
    decoder: Decoder = Greedy(),
    fusion: FusionFiles | None = None,
    window_seconds: float | None = None,
    checkpoint: str = "best",
) -> Iterator[str]:
    """The text of each file, one after the other, by head `streaming` or `full_context`.

    Files longer than `window_seconds` are heard in windows of so many (`joint_st.decoding.long`, which has a length for
    each run where it is None). fusion: a language model and hot words for the beam search.

    Raises `UserError` where there is no such run or checkpoint, and for a file that cannot be read.
    """
    trained = load_trained(workdir, checkpoint)
    features = trained.config.model.features
    keep_compiled(trained.config.training.compilation_cache)
    if fusion:
        (decoder,) = fuse([decoder], fusion.open(trained.tokenizer, trained.normalizer))
    model = (trained.config, trained.symbols.sizes, trained.mesh, [decoder], [head])
    forward = Forward(*model)
    long = LongRecordings(*model, window_seconds=window_seconds or default_window(trained.config))
    step = LENGTH_STEP_SECONDS * features.sample_rate // features.samples_per_frame * features.samples_per_frame
    with jax.set_mesh(trained.mesh):
        for path in files:
            audio = resample(*read_audio(path), features.sample_rate)
            if len(audio) > long.longest:
                yield trained.tokenizer.decode(long(trained.weights, audio)[decoder.name][head])
                continue
            # One file is one row; the other devices of the mesh, if any, are given silence of length 0.
            rows = np.zeros((trained.mesh.size, -(-max(len(audio), 1) // step) * step), np.int16)
            rows[0, : len(audio)] = audio
            lengths = np.zeros(trained.mesh.size, np.int32)
            lengths[0] = len(audio)
            batch = put_batch({"audio": rows, "audio_lengths": lengths}, trained.mesh)
            ((found,),), frames = jax.device_get(forward(trained.weights, batch["audio"], batch["audio_lengths"]))
            yield trained.tokenizer.decode(decoder.on_host(found, frames)[0])
