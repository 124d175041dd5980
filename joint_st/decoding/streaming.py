"""Decodes streams of audio while they come, many in one batch, with a second pass over each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from joint_st.config import FeaturesConfig, ParallelConfig
from joint_st.decoding.decoders import Decoder, Greedy, emitted_labels
from joint_st.decoding.forward import Clock, Program
from joint_st.decoding.long import make_windows
from joint_st.decoding.windows import Frames, Windows, cut_frames, frames_of
from joint_st.distributed.mesh import make_mesh
from joint_st.errors import UserError
from joint_st.heads.model import model_structure
from joint_st.models.functional import merge
from joint_st.passes import FULL_CONTEXT
from joint_st.runs.trained import Trained

FRAMES = 64
"""Frames of the second pass are padded to a multiple of this, so that a folder of utterances needs few compilations."""


class _Window(NamedTuple):
    """A window of the second pass whose end is not yet known."""

    emissions: Any
    """[1, F, ...], on the device."""
    frames: Frames
    """What the frames say of seams, [F]."""
    begin: int
    """Frame of the stream at which the window begins."""
    first: int
    """First frame of the stream that is kept from the window."""


class SecondPass:
    """The second pass over one stream of any length, in windows joined at blanks as in `joint_st.decoding.long`.

    A stream no longer than a window is decoded as a whole. Memory and the time of a pass are bounded by a window.
    """

    def __init__(self, hear: Callable, spell: Callable, windows: Windows, decoder: Decoder = Greedy()):
        """Begin a second pass. hear: function of embeddings [1, F, D] and a mask [1, F] that returns emissions [1, F,
        ...] and what their frames say of seams, [F]. spell: function of emissions, a first frame and a
        count that returns the row which `decoder` fetches for these frames."""
        self._hear = hear
        self._spell = spell
        self._windows = windows
        self._decoder = decoder
        self._size = windows.size // windows.samples_per_frame
        self._found: list[tuple[int, Any]] = []
        self._pieces: list[np.ndarray] = []
        self._length = 0
        self._count = 0
        self._before: _Window | None = None

    @property
    def kept(self) -> int:
        """Number of frames whose embeddings are kept."""
        return sum(map(len, self._pieces))

    def add(self, embeddings: np.ndarray) -> None:
        """Add the outputs of the streaming layers for the next frames, [C, D]."""
        self._pieces.append(embeddings)
        self._length += len(embeddings)
        while self._length - self._begin > self._size:
            x = np.concatenate(self._pieces)
            self._next_window(x[: self._size])
            left = self._begin - (self._length - len(x))
            # (A copy, so that the memory of the frames before it is freed.)
            self._pieces = [x[left:].copy()]

    def end(self) -> Any:
        """Return what the decoder finds in the whole stream (mostly labels, int32 [U]), once it has ended."""
        if self._length:
            self._next_window(np.concatenate(self._pieces))
            self._leave(self._length)
        return self._decoder.join(self._found)

    @property
    def _begin(self) -> int:
        """Return the frame at which the next window begins."""
        return self._windows.begin(self._count) // self._windows.samples_per_frame

    def _next_window(self, x: np.ndarray) -> None:
        """Compute a window, and decode the kept part of the window before it."""
        frames = len(x)
        padded = -(-frames // FRAMES) * FRAMES
        mask = np.arange(padded)[None] < frames
        emissions, heard = self._hear(np.pad(x, ((0, padded - frames), (0, 0)))[None], mask)
        heard, begin, first = Frames(*map(np.asarray, heard)).cut(0, frames), self._begin, 0
        if self._before is not None:
            first = self._windows.seam(self._before.frames, heard, self._before.begin, begin)
            self._leave(first)
        self._before = _Window(emissions, heard, begin, first)
        self._count += 1

    def _leave(self, end: int) -> None:
        """Decode the kept part of the current window, which ends at a frame of the stream."""
        window = self._before
        fetched = self._spell(window.emissions, np.int32(window.first - window.begin), np.int32(end - window.first))
        [found] = self._decoder.on_host(jax.tree.map(lambda x: np.asarray(x)[None], fetched), whole=False)
        self._found.append((window.first, found))


@dataclasses.dataclass
class Heard:
    """The labels of one stream so far."""

    labels: list[int] = dataclasses.field(default_factory=list)
    """The labels so far; later frames only add labels."""
    frames: list[int] = dataclasses.field(default_factory=list)
    """The frame of the utterance in which each label came."""
    length: int = 0
    """Number of frames so far."""
    second_pass: SecondPass | None = None
    """Its second pass so far."""

    def add(self, emitted: np.ndarray) -> None:
        """Add what the next frames emit, int32 [C, E]; see `Head.step`."""
        labels, frames = emitted_labels(emitted)
        self.labels += labels.tolist()
        self.frames += (self.length + frames).tolist()
        self.length += len(emitted)


class Streams:
    """`count` streams in the rows of one batch, with one model state for all; each can begin, pause and end at any
    time.

    Every turn takes up to `chunk_frames` frames of each stream. Both heads are decoded greedily, the full-context one
    in windows where a stream is longer than one (`window_seconds`, the run's own where it is None), each as
    soon as it is complete, so that memory is bounded. The result of the full-context head has the form that
    `second_pass`, a greedy decoder, gives it.
    """

    def __init__(
        self,
        trained: Trained,
        count: int,
        chunk_frames: int,
        window_seconds: float | None = None,
        second_pass: Decoder = Greedy(),
    ):
        features = trained.config.model.features
        self._windows = make_windows(window_seconds or trained.config.window_seconds, features)
        self.samples_per_frame = features.samples_per_frame
        self.chunk_samples = chunk_frames * features.samples_per_frame
        """Samples of a chunk."""
        self._count = count
        self._width, self._dtype = trained.config.model.width, jnp.dtype(trained.config.model.compute_dtype)
        device = jax.devices()[0]
        self._weights = jax.device_put(trained.weights, device)
        structure = model_structure(trained.config, trained.symbols.sizes)
        # All streams are on one device.
        mesh = make_mesh(ParallelConfig(), jax.devices()[:1])

        model = merge(structure, self._weights)
        self.look_ahead_ms = trained.look_ahead_ms
        """Length of the blocks within which the streaming layers see ahead, in ms; every turn has whole blocks."""
        # It is put onto the device like the weights: otherwise the second turn, which gets the state from the first,
        # would compile again.
        self._state = jax.device_put(model.init_stream(count), device)

        def turn(weights, audio, lengths, state, begins, pauses):
            model = merge(structure, weights)
            state = model.replace_stream(begins, state, model.init_stream(count))
            emitted, x, mask, after = model.stream_step(audio, lengths, state)
            return emitted, mask.sum(axis=1), x, model.replace_stream(pauses, after, state)

        def hear(weights, x, mask):
            model = merge(structure, weights)
            head = model.head(FULL_CONTEXT)
            emissions = head.emissions(model.second_pass(x, mask))
            return emissions, frames_of(head, emissions).of(0)

        def spell(weights, emissions, first, count):
            head = merge(structure, weights).head(FULL_CONTEXT)
            piece, mask = cut_frames(emissions, first[None], count[None])
            (found,) = second_pass.on_device([head], [piece], mask, mesh, None)
            return jax.tree.map(lambda x: x[0], found)

        self.clock: Clock | None = None
        """Measures how long decoding takes on the device, without compilation, where it is set: the second pass for the
        head `full_context`, the rest for all."""
        self._turn = Program(turn)
        hear_window, spell_piece = Program(hear), Program(spell)
        self._second_pass = (
            lambda x, mask: hear_window(self._weights, x, mask, clock=self.clock, head=FULL_CONTEXT),
            lambda *piece: spell_piece(self._weights, *piece, clock=self.clock, head=FULL_CONTEXT),
            self._windows,
            second_pass,
        )
        self._heard: dict[int, Heard] = {}

    def compile(self) -> None:
        """Compile everything that a stream needs while it goes on, so that it does not wait once it has begun.

        Once it has ended, its last window, of any length up to a whole one, may have to be compiled. Where a clock
        is set, the programs that it measures are compiled, and it runs: set another one then.
        """
        self.turn({0: np.zeros(0, np.int16)})
        self.end(0)
        hear, spell, windows, _ = self._second_pass
        whole = -(-windows.size // self.samples_per_frame // FRAMES) * FRAMES
        emissions, _ = hear(np.zeros((1, whole, self._width), self._dtype), np.ones((1, whole), bool))
        jax.block_until_ready(spell(emissions, np.int32(0), np.int32(whole)))

    def turn(self, pieces: Mapping[int, np.ndarray]) -> dict[int, Heard]:
        """Feed the next samples, int16, of some streams by their numbers, and return the labels of each so far.

        A piece has `chunk_samples`, or fewer where its stream ends; streams without a piece pause. A number that is
        used for the first time, or for the first time since its `end`, is a new stream.
        """
        audio = np.zeros((self._count, self.chunk_samples), np.int16)
        lengths = np.zeros(self._count, np.int32)
        begins = np.zeros(self._count, bool)
        for row, piece in pieces.items():
            audio[row, : len(piece)] = piece
            lengths[row] = len(piece)
            begins[row] = row not in self._heard
            self._heard.setdefault(row, Heard(second_pass=SecondPass(*self._second_pass)))
        pauses = np.array([row not in pieces for row in range(self._count)])
        fed = audio, lengths, self._state, begins, pauses
        emitted, frames, x, self._state = self._turn(self._weights, *fed, clock=self.clock)
        emitted, frames, x = jax.device_get((emitted, frames, x))
        for row in pieces:
            self._heard[row].add(emitted[row, : frames[row]])
            self._heard[row].second_pass.add(x[row, : frames[row]])
        return {row: self._heard[row] for row in pieces}

    def end(self, row: int) -> Heard:
        """End a stream; its number can then be used for another one."""
        return self._heard.pop(row)

    def full_context(self, heard: Heard) -> Any:
        """Return the full-context head's result for a stream that has ended: labels, int32 [U], or whatever the decoder
        of the second pass returns."""
        return heard.second_pass.end()


CHUNK_MS = 320
"""Length of the chunks that streams are fed, unless another is given or the look-ahead is longer."""


def chunk_frames(chunk_ms: float | None, features: FeaturesConfig, block: int = 1) -> int:
    """Return the frames of a chunk, which has whole blocks of `block` frames; None: about `CHUNK_MS`, or one block.

    Raises `UserError` where it is not a whole number of frames or of blocks.
    """
    if chunk_ms is None:
        return -(-max(round(CHUNK_MS / features.frame_ms), 1) // block) * block
    frames = round(chunk_ms / features.frame_ms)
    if frames < 1 or abs(frames * features.frame_ms - chunk_ms) > 1e-6:
        raise UserError(
            f"--chunk-ms {chunk_ms:g}: must be a multiple of a frame of the encoder, {features.frame_ms:g} ms"
        )
    if frames % block:
        raise UserError(
            f"--chunk-ms {chunk_ms:g}: must be a multiple of the look-ahead, {features.frames_ms(block):g} ms"
        )
    return frames


def pieces(audio: np.ndarray | Iterable[np.ndarray], samples: int) -> Iterator[np.ndarray]:
    """Cut `audio` int16 (or pieces of it of any lengths) into pieces of `samples`; the last one is shorter or empty."""
    kept = np.zeros(0, np.int16)
    for more in [audio] if isinstance(audio, np.ndarray) else audio:
        kept = np.concatenate([kept, more])
        while len(kept) >= samples:
            yield kept[:samples]
            kept = kept[samples:]
    yield kept
