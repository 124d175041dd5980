"""How long decoding takes, by decoder and head: seconds of programs that are compiled before they are timed."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import jax


class Clock:
    """Wall seconds of decoding on this host, by what of it belongs to one decoder or head alone."""

    def __init__(self) -> None:
        self.audio = 0.0
        """Seconds of audio that were decoded; padding does not count."""
        self._spent: dict[tuple[str | None, str | None], float] = defaultdict(float)

    @contextlib.contextmanager
    def running(self, decoder: str | None = None, head: str | None = None) -> Iterator[None]:
        """Counts what is done inside for a decoder and a head; for all of them where none is named."""
        began = time.perf_counter()
        yield
        self._spent[decoder, head] += time.perf_counter() - began

    def factor(self, decoder: str, head: str) -> float | None:
        """Real-time factor: seconds of decoding by a second of audio; None where there was no audio.

        What several share counts whole for each of them, as if it were alone.
        """
        parts = ((d, h) for d in (None, decoder) for h in (None, head))
        return sum(self._spent.get(part, 0.0) for part in parts) / self.audio if self.audio else None


class Program:
    """A jitted function of arrays; with a clock, it is compiled for its shapes before the clock runs."""

    def __init__(self, function: Callable):
        self._jitted = jax.jit(function)
        self._compiled: dict[tuple, Callable] = {}

    def __call__(
        self, *arrays: Any, clock: Clock | None = None, decoder: str | None = None, head: str | None = None
    ) -> Any:
        """What the function makes of the arrays, trees of them; with a clock it is waited for."""
        if clock is None:
            return self._jitted(*arrays)
        shapes = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(arrays))
        if shapes not in self._compiled:
            self._compiled[shapes] = self._jitted.lower(*arrays).compile()
        jax.block_until_ready(arrays)
        with clock.running(decoder, head):
            return jax.block_until_ready(self._compiled[shapes](*arrays))
