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
        """Start empty, or from what `to_json` returned (`saved`), so that a row continues where a run was stopped."""
        self.clear()
        if saved:
            self._sums.update(saved["sums"])
            self._counts.update(saved["counts"])
            self._began -= saved["seconds"]

    def to_json(self) -> dict:
        """Return its content, for a checkpoint."""
        return {"sums": dict(self._sums), "counts": dict(self._counts), "seconds": self.seconds}

    def clear(self) -> None:
        """Start the next row."""
        self._sums = defaultdict(float)
        self._counts = defaultdict(float)
        self._began = time.perf_counter()

    def add(self, metrics: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
        """Add one step's pairs (sum, count)."""
        for name, (total, count) in metrics.items():
            self._sums[name] += float(total)
            self._counts[name] += float(count)

    def __contains__(self, name: str) -> bool:
        """Return whether the metric was reported since the row began."""
        return name in self._sums

    def mean(self, name: str) -> float | None:
        """Return the mean of a metric; `None` where nothing was counted."""
        return self._sums[name] / self._counts[name] if self._counts.get(name) else None

    def total(self, name: str) -> float:
        """Return the sum of a metric."""
        return self._sums.get(name, 0.0)

    @property
    def seconds(self) -> float:
        """Wall time in seconds since the row began, without pauses."""
        return time.perf_counter() - self._began

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the time inside this context."""
        began = time.perf_counter()
        yield
        self._began += time.perf_counter() - began
