"""Sums of what steps report, divided once when they are shown."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator

import numpy as np


class Window:
    """Metrics of the steps since the last row, and the time they took."""

    def __init__(self, saved: dict | None = None):
        """Empty, or as it was when `to_json` returned `saved`: a row goes on where a run was stopped in it."""
        self.clear()
        if saved:
            self._sums.update(saved["sums"])
            self._counts.update(saved["counts"])
            self._began -= saved["seconds"]

    def to_json(self) -> dict:
        """What is in it, for a checkpoint."""
        return {"sums": dict(self._sums), "counts": dict(self._counts), "seconds": self.seconds}

    def clear(self) -> None:
        """Begin the next row."""
        self._sums = defaultdict(float)
        self._counts = defaultdict(float)
        self._began = time.perf_counter()

    def add(self, metrics: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
        """One step's pairs (sum, count)."""
        for name, (total, count) in metrics.items():
            self._sums[name] += float(total)
            self._counts[name] += float(count)

    def __contains__(self, name: str) -> bool:
        """Whether the metric was reported since the row began."""
        return name in self._sums

    def mean(self, name: str) -> float | None:
        """The mean of a metric; `None` where nothing was counted."""
        return self._sums[name] / self._counts[name] if self._counts.get(name) else None

    def total(self, name: str) -> float:
        """The sum of a metric."""
        return self._sums.get(name, 0.0)

    @property
    def seconds(self) -> float:
        """Wall time since the row began, pauses left out."""
        return time.perf_counter() - self._began

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """The time inside is not training's."""
        began = time.perf_counter()
        yield
        self._began += time.perf_counter() - began
