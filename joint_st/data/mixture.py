"""Mixtures, between the index and the plan: which rows of a data set an epoch holds, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from joint_st.config import EveryRow, MixtureConfig
from joint_st.kinds import Kinds

if TYPE_CHECKING:
    from joint_st.data.dataset import Dataset


class Mixture(Protocol):
    """Draws rows from one length bucket at a time, so that batches keep their few shapes.

    The row of draw `n` of a run follows from the seed and `n` alone: every epoch has equally many draws of each bucket,
    and a generator seeded with the epoch's number makes them.
    """

    def size(self, rows: np.ndarray) -> int:
        """Return how many rows an epoch draws from a bucket with these rows, int64 [R]; the same in every epoch."""
        ...

    def draw(self, rows: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Return one epoch's draws from a bucket with these rows, int64 [`size(rows)`], in their order."""
        ...


Maker = TypeVar("Maker", bound=Callable[..., Any])

KINDS = Kinds(thing="mixture", section="data.mixture of kind {}", decorator="mixes")
"""Functions that make a mixture from its section and a data set, by its kind."""


def mixes(kind: str) -> Callable[[Maker], Maker]:
    """Register a class or a function that makes mixtures of a kind from their section and the data set; a decorator."""
    return KINDS.register(kind)


@mixes("every_row")
class EveryRowOnce:
    """Draws every row once an epoch, shuffled."""

    def __init__(self, config: EveryRow | None = None, dataset: Dataset | None = None):
        pass

    def size(self, rows: np.ndarray) -> int:
        return len(rows)

    def draw(self, rows: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return random.permutation(rows)


def make_mixture(config: MixtureConfig, dataset: Dataset) -> Mixture:
    """Make the mixture of a section of the configuration for a data set."""
    return KINDS[config.kind](config, dataset)
