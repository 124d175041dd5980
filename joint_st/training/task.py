"""What a run trains: all that the loop has to ask of one kind of model. There is the joint model, and the LM."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
import numpy as np
import optax

from joint_st.config import Config, LmConfig
from joint_st.runs.checkpoints import Checkpoints
from joint_st.runs.directory import RunDirectory
from joint_st.training.apart import Steps
from joint_st.training.compilation import Programs, Shape
from joint_st.training.metrics import Window
from joint_st.training.step import TrainState


class DevResult(NamedTuple):
    """What an evaluation during training found."""

    rank: float
    """Ranks the checkpoint; lower is better."""
    rates: dict[str, float]
    """Columns of `metrics.csv`."""
    shown: str
    """For the terminal."""
    more: dict[str, float] = {}
    """Further numbers, which loggers other than `metrics.csv` take."""
    images: Mapping[str, np.ndarray] = {}


class Task(abc.ABC):
    """Called in this order: `check`, `open`, then under the run's mesh `restore`, `introduce`, `compile`, and the
    others while steps are made; `finish` at last, on a run that was trained to its end."""

    config: Config | LmConfig
    facts: dict
    """What is stored with every checkpoint, once open; `data` changes with the batches."""
    fingerprint: str
    """Changes with all data, once open."""
    fields: tuple[str, str]
    """Of the config: those that the batches depend on, and all that name data."""
    metric: str
    """Of `DevResult.rank`."""
    columns: tuple[str, ...]
    """Of `metrics.csv` after `step`."""
    counts: frozenset[str] = frozenset()
    """Columns that are sums over the steps of a row; others are means."""
    evaluates = False
    """Whether there is something to evaluate, once compiled."""

    @abc.abstractmethod
    def check(self, device_count: int) -> None:
        """Raise `UserError` where the config does not fit so many devices."""

    @abc.abstractmethod
    def open(self, run: RunDirectory) -> None:
        """Read the data; make tokenizer and the like in the run's directory, where they are not there yet."""

    @abc.abstractmethod
    def restore(self, mesh: jax.sharding.Mesh, checkpoints: Checkpoints) -> TrainState:
        """The state to start from: the run's latest complete checkpoint, or fresh weights."""

    @abc.abstractmethod
    def introduce(self, run: RunDirectory, state: TrainState, mesh: jax.sharding.Mesh) -> None:
        """Print the derived numbers before anything long begins."""

    def steps_apart(self, done: int) -> Steps | None:
        """The kinds of steps after `done`, where they are worth a process that compiles them."""
        return None

    @abc.abstractmethod
    def compile(
        self, programs: Programs, state: TrainState, mesh: jax.sharding.Mesh, *before: Callable[[Shape], None]
    ) -> str:
        """Compile what the next step needs, begin to compile the rest; returns a word on that.

        before: as of `Programs.add`, where there is something.
        """

    @abc.abstractmethod
    def batches(self, start: int, mesh: jax.sharding.Mesh) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Batches from `start` on with their numbers, this host's rows."""

    @abc.abstractmethod
    def shape_of(self, i: int) -> tuple[int | None, int]:
        """Which of the programs batch `i` is for."""

    @abc.abstractmethod
    def schedule(self) -> optax.Schedule:
        """Learning rate by step."""

    def complete(self, done: int, metrics: dict) -> None:  # noqa: B027
        """Add to the metrics of the step that made `done` what only the host knows."""

    @abc.abstractmethod
    def row(self, done: int, window: Window) -> tuple[dict[str, float], str]:
        """Columns that are computed on the host, and the pace in words."""

    @abc.abstractmethod
    def culprits(self, done: int, rows: dict[str, np.ndarray]) -> list[str]:
        """Utterances whose losses, in the step that made `done`, are not finite; all of its where none is."""

    @abc.abstractmethod
    def evaluate(self, weights) -> DevResult:
        """The dev set under some weights."""

    def finish(self, run: RunDirectory) -> None:  # noqa: B027
        """What is left to do with a trained run."""
