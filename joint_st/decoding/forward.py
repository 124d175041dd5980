"""The model and the decoders as separate programs, so that the time of each can be measured."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from joint_st.config import Config
from joint_st.data.symbols import SymbolSizes
from joint_st.decoding.decoders import Decoder, Greedy
from joint_st.distributed.mesh import replicated
from joint_st.heads.model import model_structure
from joint_st.models.functional import Weights, merge
from joint_st.passes import PASSES


class Clock:
    """Wall seconds of decoding on this host: shared by all, or spent for one decoder or head alone."""

    def __init__(self) -> None:
        self.audio = 0.0
        """Seconds of audio that were decoded; padding does not count."""
        self._spent: dict[tuple[str | None, str | None], float] = defaultdict(float)

    @contextlib.contextmanager
    def running(self, decoder: str | None = None, head: str | None = None) -> Iterator[None]:
        """Count the time inside this context for a decoder and a head; for all of them if none is named."""
        began = time.perf_counter()
        yield
        self._spent[decoder, head] += time.perf_counter() - began

    def spent(self, decoder: str | None = None, head: str | None = None) -> float:
        """Return the seconds spent for a decoder and a head alone; those that all share if none is named."""
        return self._spent.get((decoder, head), 0.0)

    def factor(self, decoder: str, head: str) -> float | None:
        """Return the real-time factor, seconds of decoding for one second of audio; None where there was no audio.

        Work that several share counts fully for each of them, as if it were alone.
        """
        parts = ((d, h) for d in (None, decoder) for h in (None, head))
        return sum(self.spent(*part) for part in parts) / self.audio if self.audio else None


class Program:
    """A jitted function of arrays; with a clock, it is compiled for its shapes before the clock runs."""

    def __init__(self, function: Callable):
        self._jitted = jax.jit(function)
        self._compiled: dict[tuple, Callable] = {}

    def __call__(
        self, *arrays: Any, clock: Clock | None = None, decoder: str | None = None, head: str | None = None
    ) -> Any:
        """Call the function with trees of arrays; with a clock, wait for the result."""
        if clock is None:
            return self._jitted(*arrays)
        shapes = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(arrays))
        if shapes not in self._compiled:
            self._compiled[shapes] = self._jitted.lower(*arrays).compile()
        jax.block_until_ready(arrays)
        with clock.running(decoder, head):
            return jax.block_until_ready(self._compiled[shapes](*arrays))


class Forward:
    """Decodes audio in programs for the streaming layers, for each pass and its head, and for each decoder.

    A decoder may search all heads at once, since most of its time goes into the steps from frame to frame: the time of
    its search counts fully for each head.
    """

    def __init__(
        self,
        config: Config,
        sizes: SymbolSizes,
        mesh: jax.sharding.Mesh,
        decoders: Sequence[Decoder] = (Greedy(),),
        passes: Sequence[str] = PASSES,
    ):
        self._structure = model_structure(config, sizes)

        def emit(name):
            return lambda model, x, mask: model.head(name).emissions(model.pass_over(name, x, mask))

        def search(decoder):
            def run(model, tables, emissions, mask):
                heads = [model.head(name) for name in passes]
                return decoder.on_device(heads, emissions, mask, mesh, tables)

            return run

        self._embed = self.program(lambda model, audio, lengths: model.first_pass(audio, lengths))
        self._emit = {name: self.program(emit(name)) for name in passes}
        self._searches = [(decoder.name, self.program(search(decoder))) for decoder in decoders]
        self._tables = jax.device_put(tuple(decoder.tables for decoder in decoders), replicated(mesh))

    def program(self, function: Callable) -> Program:
        """Make `function(model, *arrays)` a program of weights and arrays."""
        return Program(lambda weights, *arrays: function(merge(self._structure, weights), *arrays))

    def emissions(self, weights: Weights, audio, lengths, clock: Clock | None = None) -> tuple[list, Any]:
        """Return the emissions [B, T, ...] of the head on each pass, and the mask [B, T] of valid frames.

        audio: int16 [B, S]. lengths: int32 [B], samples. Call it under `jax.set_mesh`.
        """
        x, mask = self._embed(weights, audio, lengths, clock=clock)
        return [emit(weights, x, mask, clock=clock, head=name) for name, emit in self._emit.items()], mask

    def __call__(self, weights: Weights, audio, lengths, tables: tuple | None = None, clock: Clock | None = None):
        """Return, for each decoder, the result of its `on_device` for the head on each pass.

        `tables` replaces the tables of decoders, without another compilation.
        """
        emissions, mask = self.emissions(weights, audio, lengths, clock)
        tables = self._tables if tables is None else tables
        return tuple(
            search(weights, own, emissions, mask, clock=clock, decoder=name)
            for (name, search), own in zip(self._searches, tables, strict=True)
        )
