"""Long recordings are decoded in overlapping windows, which are joined where both have a blank.

Neither memory nor attention goes beyond a window, so a recording may be of any length. Neighbouring windows both cover
their overlap. In its middle, with context on either side, the seam is put where both give the blank the highest
probability, which is a pause in most speech; where no frame is a blank in both, between two labels. The frames of the
first window after the seam and those of the second before it are discarded. So no label continues across a seam, and
the pieces can be decoded separately. With greedy decoding of CTC, their labels in order are those of the stitched
frames; a beam, and a head that remembers labels, start again in each piece. What is fused with a beam, and what rescores
it, goes on: a piece is scored in the context of the best hypothesis for those before it, and only the last one has the
end of a text. What is best at the end of a piece is decided without what follows. Such pieces are decoded one after the
other, and not on all devices at once.

Windows also keep full-context attention near the lengths on which it was trained, so the shorter the training
utterances, the shorter the windows should be. WER % in full context of sentences of the dev set, joined without a pause
between them into recordings of 2 minutes (`benchmarks/windows.py`): of the quickstart's model, trained on up to 4 s,
28.0 apart, 43.4 in windows of 6 s, 43.7 of 8 s, 44.9 of 10 s, 47.8 of 15 s, 50.0 of 30 s, 52.6 of 60 s; of that of
`read_speech` on `arctic`, trained on up to 12 s, 86.4 apart, and from 85.3 to 86.6 in windows of 8 to 60 s. The
streaming head, whose context is limited, says nearly the same in all. Separate utterances show where a sentence ends;
in joined ones the last word of a sentence runs into the first of the next.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from joint_st.config import Config, FeaturesConfig
from joint_st.data.dataset import Dataset
from joint_st.data.symbols import SymbolSizes
from joint_st.decoding.decoders import Decoder, share_programs
from joint_st.decoding.forward import Clock, Forward
from joint_st.decoding.piece import Context, Piece
from joint_st.decoding.windows import Frames, Windows, cut_frames, frames_of
from joint_st.distributed.mesh import fetch, put_batch, replicated, rows_here
from joint_st.heads import Emissions
from joint_st.heads.model import head_kinds
from joint_st.models.functional import Weights

LONGEST_SECONDS = 30.0
"""Length of windows where nothing else is said."""
CONTEXT_SECONDS = 4.0
"""Context of windows, at most a quarter of one. Neighbouring windows overlap by two contexts, the first two by three; a
seam is at least half a context away from the end of one window and from the beginning of the next."""


def make_windows(seconds: float, features: FeaturesConfig, context_seconds: float | None = None) -> Windows:
    """Make windows of a number of seconds."""
    context = min(CONTEXT_SECONDS, seconds / 4) if context_seconds is None else context_seconds
    return Windows.of_seconds(seconds, context, features)


def in_one_window(config: Config, dataset: Dataset) -> np.ndarray:
    """Return which utterances of a dataset one window holds whole, bool [N]."""
    return dataset.lengths <= make_windows(config.window_seconds, config.model.features).size


class _Heard(NamedTuple):
    """Emissions of some windows, one for each device."""

    emissions: list[Emissions]
    """[B, F, ...] of the head on each pass."""
    frames: Frames
    """What the frames say of seams, [passes, B, F]."""
    begins: np.ndarray
    """Frame of the recording at which each window begins, int32 [number of windows]."""


@dataclasses.dataclass
class _Found:
    """What a decoder has found in a recording so far on one pass."""

    pieces: list[tuple[int, Any]]
    """The frame at which each piece begins, and what it holds."""
    context: Context | None
    """The context of the next piece; None where the decoder has none."""


class LongRecordings:
    """Decodes recordings of any length; it compiles once, for the first recording. Call it under `jax.set_mesh(mesh)`.

    All devices share the windows of one recording. With several hosts, all call it with the same recordings and get the
    same results.
    """

    def __init__(
        self,
        config: Config,
        sizes: SymbolSizes,
        mesh: jax.sharding.Mesh,
        decoders: Sequence[Decoder],
        passes: Sequence[str],
        *,
        window_seconds: float = LONGEST_SECONDS,
        context_seconds: float | None = None,
    ):
        self.seconds = window_seconds
        self.windows = make_windows(window_seconds, config.model.features, context_seconds)
        self._features = config.model.features
        self._model = (config, sizes)
        self._mesh = mesh
        self._decoders = tuple(decoders)
        self._passes = tuple(passes)
        kinds = head_kinds(config.heads)
        self._one_program = share_programs([kinds[name] for name in passes])

    @functools.cached_property
    def _forward(self) -> Forward:
        return Forward(*self._model, self._mesh, (), self._passes)

    @functools.cached_property
    def _hear_windows(self) -> Callable:
        """Return the emissions of the head on each pass, as `Forward.emissions` does."""
        return self._forward.emissions

    @functools.cached_property
    def _tables(self) -> tuple:
        """The tables of each decoder, on every device."""
        return jax.device_put(tuple(decoder.tables for decoder in self._decoders), replicated(self._mesh))

    @functools.cached_property
    def _frames(self) -> dict[str, Callable]:
        """Return by pass a function of `(weights, emissions)`: what the frames say of seams, [B, F]."""
        return self._by_pass(
            lambda name: self._forward.program(lambda model, emissions: frames_of(model.head(name), emissions))
        )

    @functools.cached_property
    def _decode_pieces(self) -> dict[str, list[Callable]]:
        """Return by pass, for each decoder, a function of `(weights, tables, piece, emissions, first, count)`: what it
        finds in `count` [B] frames from `first` [B] on, which are a `Piece` or, without one, pieces without context."""

        def program(name, decoder):
            def decode(model, tables, piece, *frames):
                emissions, mask = cut_frames(*frames)
                return decoder.on_device([model.head(name)], [emissions], mask, self._mesh, tables, piece)[0]

            return self._forward.program(decode)

        return self._by_pass(lambda name: [program(name, decoder) for decoder in self._decoders])

    def _by_pass(self, make: Callable) -> dict:
        """Call `make(name)` for each pass, or once for all where one program serves all heads."""
        if self._one_program:
            return dict.fromkeys(self._passes, make(self._passes[0]))
        return {name: make(name) for name in self._passes}

    @property
    def longest(self) -> int:
        """Samples of a window; recordings up to this length need only one."""
        return self.windows.size

    def __call__(
        self, weights: Weights, audio: np.ndarray, clock: Clock | None = None, tables: tuple | None = None
    ) -> dict[str, dict[str, Any]]:
        """Return what each decoder finds on each pass (mostly labels, int32 [U]) in audio int16 [samples].

        clock: see `recognise`. tables: replace those of the decoders, on every device, without another compilation.
        """
        tables = self._tables if tables is None else tables
        found = {
            decoder.name: {name: _Found([], jax.device_get(decoder.start(own))) for name in self._passes}
            for decoder, own in zip(self._decoders, tables, strict=True)
        }
        frames = self._features.frames(len(audio))
        first = np.zeros(len(self._passes), np.int64)
        before = None
        for heard in self._hear(weights, audio, clock):
            if before is not None:
                first = self._decode(weights, tables, before, heard, first, frames, found, clock)
            before = heard
        self._decode(weights, tables, before, None, first, frames, found, clock)
        if clock:
            clock.audio += self._features.seconds(len(audio))
        return {
            decoder.name: {name: decoder.join(own.pieces) for name, own in found[decoder.name].items()}
            for decoder in self._decoders
        }

    def _hear(self, weights: Weights, audio: np.ndarray, clock: Clock | None) -> Iterator[_Heard]:
        """Yield the emissions of all windows in order, some at a time."""
        for rows, lengths, begins in self.windows.groups(audio, self._mesh.size):
            batch = self._put({"audio": rows, "lengths": lengths})
            emissions, _ = self._hear_windows(weights, batch["audio"], batch["lengths"], clock)
            frames = [
                self._frames[name](weights, own, clock=clock, head=name) for name, own in zip(self._passes, emissions)
            ]
            yield _Heard(emissions, Frames(*map(np.stack, zip(*fetch(frames), strict=True))), begins)

    def _decode(
        self,
        weights: Weights,
        tables: tuple,
        heard: _Heard,
        after: _Heard | None,
        first: np.ndarray,
        frames: int,
        found: dict[str, dict[str, _Found]],
        clock: Clock | None,
    ) -> np.ndarray:
        """Add to `found`, by decoder and pass, what each decoder finds in some windows of each pass.

        first: frame of the recording from which these windows are kept, by pass. after: the next windows, or None where
        the recording ends. Returns the frame from which the next windows are kept.
        """
        begins, windows = heard.begins, heard.frames
        if after is not None:
            begins = np.append(begins, after.begins[0])
            windows = Frames(
                *(np.concatenate([x, y[:, :1]], axis=1) for x, y in zip(windows, after.frames, strict=True))
            )
        ends = np.zeros(len(first), np.int64)
        for h, name in enumerate(self._passes):
            seams = [
                self.windows.seam(windows.of(h, k), windows.of(h, k + 1), *begins[k : k + 2])
                for k in range(len(begins) - 1)
            ]
            edges = np.array([first[h], *seams, *([frames] if after is None else [])])
            ends[h] = edges[-1]
            rows = len(edges) - 1
            starts, counts = np.zeros((2, self._mesh.size), np.int32)
            starts[:rows] = edges[:-1] - heard.begins
            counts[:rows] = np.diff(edges)
            together = np.arange(len(counts)) < rows
            for decoder, decode, own_tables in zip(self._decoders, self._decode_pieces[name], tables, strict=True):
                own, which = found[decoder.name][name], {"clock": clock, "decoder": decoder.name, "head": name}
                alone = own.context is not None
                for k, kept in enumerate(np.diag(together)[:rows] if alone else [together]):
                    put = self._put({"starts": starts, "counts": np.where(kept, counts, 0)})
                    piece = self._piece(own.context, after is None and k == rows - 1) if alone else None
                    cut = heard.emissions[h], put["starts"], put["counts"]
                    fetched = fetch(decode(weights, own_tables, piece, *cut, **which))
                    if alone:
                        fetched, contexts = fetched
                        own.context = jax.tree.map(lambda x, k=k: x[k], contexts)
                    with clock.running(decoder.name, name) if clock else contextlib.nullcontext():
                        spelled = decoder.on_host(fetched, whole=False)
                    own.pieces += [(int(edges[row]), spelled[row]) for row in np.flatnonzero(kept)]
        return ends

    def _piece(self, context: Context, last: bool) -> Piece:
        """Put a piece's place in a recording onto every device."""
        return jax.device_put(Piece(context, np.bool_(last)), replicated(self._mesh))

    def _put(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        """Put rows, one for each device, which every host has, onto their devices."""
        held, of = rows_here(self._mesh)
        return put_batch(
            {name: np.concatenate([np.split(rows, of)[part] for part in held]) for name, rows in batch.items()},
            self._mesh,
        )
