"""Which rows of a data set an epoch holds, and in which order: what lies between the index and the plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from joint_st.config import EveryRow, MixtureConfig

if TYPE_CHECKING:
    from joint_st.data.dataset import Dataset


class Mixture(Protocol):
    """Draws rows within one length bucket after the other, so that batches keep their few shapes.

    Which row is draw `n` of a run follows from the seed and `n` alone: every epoch has equally many draws of each
    bucket, and those of an epoch come from a generator that its number seeds.
    """

    def size(self, rows: np.ndarray) -> int:
        """How many draws an epoch makes of a bucket that holds these rows, int64 [R]; the same in every epoch."""
        ...

    def draw(self, rows: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """One epoch's draws of a bucket that holds these rows, int64 [`size(rows)`], in their order."""
        ...


Maker = TypeVar("Maker", bound=Callable[..., Any])

KINDS: dict[str, Callable[[Any, Dataset], Mixture]] = {}
"""What makes a mixture of its section and a data set, by its kind."""


def mixes(kind: str) -> Callable[[Maker], Maker]:
    """Declares a class or a function as what makes mixtures of a kind: it takes their section and the data set."""

    def declare(maker: Maker) -> Maker:
        KINDS[kind] = maker
        return maker

    return declare


@mixes("every_row")
class EveryRowOnce:
    """Every row once an epoch, shuffled."""

    def __init__(self, config: EveryRow | None = None, dataset: Dataset | None = None):
        pass

    def size(self, rows: np.ndarray) -> int:
        return len(rows)

    def draw(self, rows: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return random.permutation(rows)


def make_mixture(config: MixtureConfig, dataset: Dataset) -> Mixture:
    """What a section of the configuration says of a data set."""
    return KINDS[config.kind](config, dataset)
