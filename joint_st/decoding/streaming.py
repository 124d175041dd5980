"""Streams of audio decoded while they come, many in one batch, and a second pass over each once it has ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from joint_st.config import FeaturesConfig
from joint_st.decoding.long import BLANK, default_window, make_windows
from joint_st.decoding.second_pass import SecondPass
from joint_st.errors import UserError
from joint_st.heads.model import model_structure
from joint_st.models.functional import merge
from joint_st.runs.trained import Trained


@dataclasses.dataclass
class Heard:
    """What one stream has said so far."""

    labels: list[int] = dataclasses.field(default_factory=list)
    """The labels, repeats collapsed and blanks dropped: they are only ever added to."""
    frames: list[int] = dataclasses.field(default_factory=list)
    """The frame of the utterance in which each label came."""
    length: int = 0
    """Frames heard."""
    last: int = 0
    """The symbol of the last frame."""
    second_pass: SecondPass | None = None
    """What the full-context layers have heard of it so far."""

    def add(self, symbols: np.ndarray) -> None:
        """Take in the likeliest symbols [C] of the next frames."""
        before = np.concatenate([[self.last], symbols[:-1]])
        for c in np.flatnonzero((symbols != 0) & (symbols != before)):
            self.labels.append(int(symbols[c]))
            self.frames.append(self.length + int(c))
        if len(symbols):
            self.last = int(symbols[-1])
        self.length += len(symbols)


class Streams:
    """`count` streams in the rows of one batch, one model state for all; each begins, pauses and ends by itself.

    Every turn takes up to `chunk_frames` frames of each stream. Both heads are decoded greedily, the full-context one
    in windows where a stream is longer than one (`window_seconds`, those of `default_window` where it is None), each as
    soon as it is whole: so memory is bounded, whatever comes.
    """

    def __init__(self, trained: Trained, count: int, chunk_frames: int, window_seconds: float | None = None):
        features = trained.config.model.features
        self._windows = make_windows(window_seconds or default_window(trained.config), features)
        self.samples_per_frame = features.samples_per_frame
        self.chunk_samples = chunk_frames * features.samples_per_frame
        """Samples of a turn."""
        self._count = count
        self._width, self._dtype = trained.config.model.width, jnp.dtype(trained.config.model.compute_dtype)
        self._weights = jax.device_put(trained.weights, jax.devices()[0])
        structure = model_structure(trained.config, trained.symbols.sizes)

        model = merge(structure, self._weights)
        self.look_ahead_ms = features.frames_ms(model.look_ahead)
        """How far beyond its own end a frame of the streaming head hears."""
        self._state = model.init_state(count)

        @jax.jit
        def turn(weights, audio, lengths, state, begins, pauses):
            model = merge(structure, weights)
            state = model.replace_state(begins, state, model.init_state(count))
            x, mask, after = model.step(audio, lengths, state)
            symbols = jnp.argmax(model.streaming_head(x), axis=-1)
            return symbols, mask.sum(axis=1), x, model.replace_state(pauses, after, state)

        @jax.jit
        def second_pass(weights, x, mask):
            model = merge(structure, weights)
            (logits,) = model.full_context_head(model.second_pass(x, mask))
            return jnp.argmax(logits, axis=-1), jax.nn.log_softmax(logits.astype(jnp.float32))[:, BLANK]

        def hear(x, mask):
            return jax.device_get(second_pass(self._weights, x, mask))

        self._turn, self._hear = turn, hear
        self._heard: dict[int, Heard] = {}

    def compile(self) -> None:
        """Compile what a stream of any length needs while it comes, so that it waits for nothing once it has begun."""
        self.turn({0: np.zeros(0, np.int16)})
        self.end(0)
        whole = self._windows.size // self.samples_per_frame
        SecondPass(self._hear, self._windows).add(np.zeros((whole + 1, self._width), self._dtype))

    def turn(self, pieces: Mapping[int, np.ndarray]) -> dict[int, Heard]:
        """Hear the next samples, int16, of the streams with some numbers, and return what each of them has said.

        A piece is of `chunk_samples`, or shorter where its stream ends; streams without one pause. A number that
        `end` has given back, or that comes for the first time, is a new stream.
        """
        audio = np.zeros((self._count, self.chunk_samples), np.int16)
        lengths = np.zeros(self._count, np.int32)
        begins = np.zeros(self._count, bool)
        for row, piece in pieces.items():
            audio[row, : len(piece)] = piece
            lengths[row] = len(piece)
            begins[row] = row not in self._heard
            self._heard.setdefault(row, Heard(second_pass=SecondPass(self._hear, self._windows)))
        pauses = np.array([row not in pieces for row in range(self._count)])
        symbols, frames, x, self._state = self._turn(self._weights, audio, lengths, self._state, begins, pauses)
        symbols, frames, x = jax.device_get((symbols, frames, x))
        for row in pieces:
            self._heard[row].add(symbols[row, : frames[row]])
            self._heard[row].second_pass.add(x[row, : frames[row]])
        return {row: self._heard[row] for row in pieces}

    def end(self, row: int) -> Heard:
        """End a stream; its number may then be another's."""
        return self._heard.pop(row)

    def full_context(self, heard: Heard) -> list[int]:
        """Labels of a stream that has ended, by the full-context layers over what the streaming ones put out."""
        return heard.second_pass.end()


def chunk_frames(chunk_ms: float, features: FeaturesConfig) -> int:
    """Frames of a chunk. Raises `UserError` where it is no whole number of them."""
    frames = round(chunk_ms / features.frame_ms)
    if frames < 1 or abs(frames * features.frame_ms - chunk_ms) > 1e-6:
        raise UserError(
            f"--chunk-ms {chunk_ms:g}: must be a multiple of a frame of the encoder, {features.frame_ms:g} ms"
        )
    return frames


def pieces(audio: np.ndarray | Iterable[np.ndarray], samples: int) -> Iterator[np.ndarray]:
    """`audio` int16 (or pieces of it of any lengths) in pieces of `samples`, the last one shorter or empty."""
    kept = np.zeros(0, np.int16)
    for more in [audio] if isinstance(audio, np.ndarray) else audio:
        kept = np.concatenate([kept, more])
        while len(kept) >= samples:
            yield kept[:samples]
            kept = kept[samples:]
    yield kept
