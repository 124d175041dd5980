"""Length buckets: the few fixed shapes that batches have, chosen to waste the least padding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LABEL_MULTIPLE = 8
"""Bounds of labels and units are rounded up to a multiple of this, so that a change of the data seldom means another
compilation."""

GRID = 512
"""Most bounds that are tried; finer grids change the padding by less than a percent."""

WORTH = 0.02
"""A further bucket costs a compilation, and must save this share of a pass."""


@dataclass(frozen=True)
class Buckets:
    """`K` buckets by increasing bound; batches of bucket `k` have `batch_sizes[k]` rows of `bounds[k]`."""

    bounds: tuple[int, ...]
    """Longest length in each bucket."""
    label_bounds: tuple[int, ...]
    """Most labels in each bucket."""
    batch_sizes: tuple[int, ...]
    """Rows of a batch of each bucket."""
    unit_bounds: tuple[int, ...] = ()
    """Most units of the text encoder in each bucket; empty where there are none."""

    def __len__(self) -> int:
        return len(self.bounds)

    def of(self, lengths: np.ndarray) -> np.ndarray:
        """Return the bucket of each length [N]."""
        return np.searchsorted(self.bounds, lengths, side="left")

    @classmethod
    def choose(
        cls,
        lengths: np.ndarray,
        label_lengths: np.ndarray,
        unit_lengths: np.ndarray | None = None,
        *,
        count: int,
        multiple: int,
        batch_size: int,
    ) -> Buckets:
        """Choose at most `count` buckets for `lengths` [N]; each bound is a multiple of `multiple`.

        Dynamic programming over the distinct rounded lengths minimises what one pass computes,
        `sum_k batches_k * batch_sizes_k * bounds_k`, including the empty rows of each bucket's last batch. A batch has
        `batch_size` rows in the longest bucket, and a whole multiple of it in a bucket that much shorter.
        """
        units = np.maximum(-(-np.asarray(lengths) // multiple), 1)
        step = -(-int(units.max()) // GRID)
        candidates, counts = np.unique(-(-units // step) * step, return_counts=True)
        candidates[-1] = units.max()
        sizes = batch_size * np.maximum(candidates[-1] // candidates, 1)
        bounds = candidates[_cuts(candidates, counts, sizes, count)] * multiple
        bucket = np.searchsorted(bounds, lengths)

        def most(lengths):
            longest = [int(np.max(lengths[bucket == k], initial=1)) for k in range(len(bounds))]
            return tuple(-(-length // LABEL_MULTIPLE) * LABEL_MULTIPLE for length in longest)

        return cls(
            bounds=tuple(int(b) for b in bounds),
            label_bounds=most(label_lengths),
            batch_sizes=tuple(int(batch_size * max(1, bounds[-1] // b)) for b in bounds),
            unit_bounds=() if unit_lengths is None else most(unit_lengths),
        )


def _cuts(bounds: np.ndarray, counts: np.ndarray, sizes: np.ndarray, most: int) -> np.ndarray:
    """Return which of the candidate bounds [C] to keep: the fewest, up to `most`, whose cost is within `WORTH` of the
    cheapest."""
    through = np.concatenate([[0], np.cumsum(counts)])
    held = through[None, 1:] - through[:-1, None]
    # cost[a, b]: what the bucket of candidates a..b computes in a pass.
    cost = -(-held // sizes) * sizes * bounds.astype(float)
    cost[held < counts] = np.inf  # a > b
    best, back = [cost[0]], [np.zeros(len(bounds), int)]
    for _ in range(1, min(most, len(bounds))):
        total = best[-1][:-1, None] + cost[1:]
        back.append(total.argmin(0) + 1)
        best.append(total.min(0))
    costs = np.array([row[-1] for row in best])
    used = int(np.flatnonzero(costs <= costs.min() * (1 + WORTH))[0])
    cuts, end = [], len(bounds) - 1
    for k in range(used, -1, -1):
        cuts.append(end)
        end = back[k][end] - 1
    return np.array(cuts[::-1])
