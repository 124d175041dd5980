"""The parts that both training scripts share: opening a run, the steps, their metrics, saving, and the end."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import jax
import numpy as np
import optax
import tqdm

from joint_st import storage
from joint_st.config import Config, LmConfig
from joint_st.config import save as save_config
from joint_st.data.batch import Batch
from joint_st.data.normalizers import Normalizer, normalizer
from joint_st.distributed.mesh import (
    available_devices,
    describe,
    device_name,
    fetch,
    keep_compiled,
    make_mesh,
    put_batch,
)
from joint_st.distributed.peers import current
from joint_st.distributed.preflight import check_config, check_data, check_directory
from joint_st.errors import UserError
from joint_st.losses.base import Column
from joint_st.runs.checkpoints import Checkpoints
from joint_st.runs.directory import RunDirectory, fixed_fields, open_run
from joint_st.runs.lock import check_held
from joint_st.runs.starts import record_start
from joint_st.training.compilation import Programs
from joint_st.training.interruption import EXIT_STATUS, Interruption
from joint_st.training.loggers import open_loggers
from joint_st.training.metrics import Window
from joint_st.training.profile import Profile
from joint_st.training.setup import log
from joint_st.training.step import UNLISTED, TrainState
from joint_st.training.symptoms import Symptoms

AnyConfig = TypeVar("AnyConfig", Config, LmConfig)
Data = TypeVar("Data")


def open_training(
    config: AnyConfig,
    workdir: Path,
    check_devices: Callable[[AnyConfig, int], None],
    open_data: Callable[[AnyConfig, RunDirectory, Normalizer], Data],
    fields: str,
) -> tuple[RunDirectory, jax.sharding.Mesh, Data]:
    """Open the directory of a run, its mesh and its data, and check that all processes agree on them.

    check_devices: function that raises `UserError` if the config does not fit a number of devices. fields: fields of
    the config that name data.
    """
    peers = current()
    check_config(peers, config)
    check_devices(config, len(available_devices(config.parallel)))
    mesh = make_mesh(config.parallel)
    with peers.process_zero_first("open the run"):
        run = open_run(workdir, config) if peers.is_first else RunDirectory(storage.path(workdir))
    check_directory(peers, run.root)
    keep_compiled(config.training.compilation_cache)
    with peers.process_zero_first("prepare the data"):
        data = open_data(config, run, normalizer(config.data.normalizer))
    check_data(peers, data.fingerprint_of_all, fields)
    return run, mesh, data


@dataclasses.dataclass(frozen=True)
class Session:
    """A run while it trains."""

    config: Config | LmConfig
    run: RunDirectory
    mesh: jax.sharding.Mesh
    checkpoints: Checkpoints
    programs: Programs
    """The compiled steps."""
    interruption: Interruption


@contextlib.contextmanager
def open_session(
    config: Config | LmConfig, run: RunDirectory, mesh: jax.sharding.Mesh, metric: str
) -> Iterator[Session]:
    """Open a run for training under its mesh, with checkpoints ranked by `metric` and SIGTERM handled; a context."""
    training = config.training
    kept = {"keep_latest": training.keep_latest, "keep_best": training.keep_best}
    with (
        jax.set_mesh(mesh),
        Interruption() as interruption,
        Checkpoints(run.checkpoints, **kept, metric=metric) as checkpoints,
        Programs(mesh) as programs,
    ):
        yield Session(config, run, mesh, checkpoints, programs, interruption)


def check_same_data(
    session: Session, step: int, fingerprint: str, by_field: Mapping[str, str], texts: Mapping[str, str]
) -> None:
    """Raise `UserError` where a run continues from `step` with other data than it was trained on or ranked by.

    by_field: fingerprint of the lengths of each field of the config that names data. A checkpoint of a version that did
    not store them has only that of all data, and then all fields are named. texts: fingerprint of the texts of each
    field; a checkpoint of a version that did not store them is not compared.
    """
    facts = session.checkpoints.facts(step) if step else {}
    changed = []
    if step and facts["data"] != fingerprint:
        before = facts.get("data_by_field", {})
        changed = [field for field, own in by_field.items() if before.get(field) != own] or list(by_field)
    if before := facts.get("texts_by_field"):
        changed += [field for field, own in texts.items() if before.get(field) != own and field not in changed]
    if changed:
        raise UserError(
            f"{', '.join(changed)}: {'their' if len(changed) > 1 else 'its'} utterances are not those that "
            f"{session.run.root} was trained with, so it cannot go on as it would have; "
            "restore the data, or name another --workdir"
        )


def record_training_start(session: Session, step: int) -> None:
    """Write into the run the config with which it goes on from `step`, and by which code and on what devices, unless no
    step is left."""
    if not current().is_first:
        return
    save_config(session.config, session.run.config)
    if step < (steps := session.config.training.steps):
        record_start(session.run, step, describe(session.mesh), device_name(), current().count, steps)


class DevResult(NamedTuple):
    """The result of an evaluation during training."""

    rank: float
    """Number by which the checkpoint is ranked; lower is better."""
    rates: Mapping[str, float | None]
    """Rates by the name of their column of `metrics.csv`; None where the dev set has none."""
    shown: str
    """The result in words, for the terminal."""
    more: dict[str, float] = {}
    """Further numbers for loggers other than `metrics.csv`."""
    images: Mapping[str, np.ndarray] = {}
    """Figures, uint8 [H, W, 3], by name."""


@dataclasses.dataclass(frozen=True)
class Reporting:
    """Additions of a training script to the metrics of its step."""

    columns: tuple[Column, ...]
    """Columns of `metrics.csv` after `step`."""
    schedule: optax.Schedule
    """Learning rate by step."""
    host_columns: Callable[[int, Window], tuple[dict[str, float], str]]
    """Function of `(steps done, window)` that returns columns computed on the host, and the pace in words."""
    nonfinite_rows: Callable[[Batch, dict[str, np.ndarray]], list[str]]
    """Function of a batch and the losses of its rows that returns the ids of rows with losses that are not finite, or
    of all rows if there are none."""
    complete: Callable[[Batch, dict], None] = lambda batch, metrics: None
    """Function that adds metrics of a batch that only the host knows."""


class Recorder:
    """Collects the metrics of every step, writes rows of them, and shows the progress of the run."""

    def __init__(
        self, config: Config | LmConfig, run: RunDirectory, reporting: Reporting, start: int, saved: dict | None
    ):
        """Begin to record. start: steps done before. saved: `window` of the checkpoint from which the run continues,
        None without one."""
        self._reporting = reporting
        self._training = config.training
        self._start = start
        self._began = time.perf_counter()
        self._counts = {column.name for column in reporting.columns if column.kind == "count"}
        self._known = {column.name for column in reporting.columns} | UNLISTED
        self.window = Window(saved)
        self._symptoms = Symptoms(config.training.text_first_steps if isinstance(config, Config) else 0)
        names = tuple(column.name for column in reporting.columns)
        self.loggers = open_loggers(config, run, names, resume_at=start) if current().is_first else []
        self._bar = tqdm.tqdm(
            total=config.training.steps,
            initial=start,
            desc=config.name,
            unit="step",
            disable=None if current().is_first else True,
            dynamic_ncols=True,
        )

    def add(self, batch: Batch, metrics: dict, checkpoints: Checkpoints) -> None:
        """Add the metrics of the step that took `batch`; raises `UserError` if its loss was not finite."""
        done, last = batch.number + 1, self._training.steps
        rows = {name: metrics[name] for name in ("utterance_loss", "text_loss") if name in metrics}
        metrics = jax.device_get({name: metrics[name] for name in metrics.keys() - rows.keys()})
        if unlisted := metrics.keys() - self._known:
            raise ValueError(f"no column of metrics.csv takes what a step reports as {', '.join(sorted(unlisted))}")
        check_finite(batch, metrics, rows, checkpoints, self._reporting.nonfinite_rows)
        check_spikes(batch, metrics, checkpoints)
        self._reporting.complete(batch, metrics)
        self.window.add(metrics)
        if done % self._training.log_every and done != last:
            return
        row, pace = self._reporting.host_columns(done, self.window)
        row["learning_rate"] = float(self._reporting.schedule(done - 1))
        for column in self._reporting.columns:
            name = column.name
            if name in self.window and name not in row:
                row[name] = self.window.total(name) if name in self._counts else self.window.mean(name)
        self.log(done, row)
        self._symptoms.add_loss(row["loss"], (done - 1) // self._training.log_every * self._training.log_every)
        shown = f"loss {row['loss']:.3f}, lr {row['learning_rate']:.2e}, {pace}"
        self._bar.set_postfix_str(shown)
        if self._bar.disable:  # without a terminal, log lines
            left = (time.perf_counter() - self._began) / (done - self._start) * (last - done) / 60
            log(f"step {done}/{last}: {shown}, {left:.0f} min left")
        self.window.clear()

    def advance(self) -> None:
        """Show that one more step was begun."""
        self._bar.update()

    def log(self, done: int, row: Mapping[str, float | None]) -> None:
        """Write a row of metrics after `done` steps."""
        for logger in self.loggers:
            logger.log(done, row)

    def log_dev(self, done: int, found: DevResult) -> None:
        """Write and show the result of an evaluation after `done` steps."""
        self.log(done, found.rates)
        lines = [f"dev {found.shown}", *self._symptoms.found(done, found.rank, found.shown, found.rates)]
        for line in lines if current().is_first else ():
            tqdm.tqdm.write(f"step {done}: {line}", file=sys.stderr)
        for logger in self.loggers if found.images else ():
            logger.log(done, found.more)
            logger.log_images(done, found.images)

    def flush(self) -> None:
        """Return when all rows that a resumed run would not write again are stored."""
        for logger in self.loggers:
            logger.flush()

    def close(self) -> None:
        """Close the progress bar and the loggers."""
        self._bar.close()
        for logger in self.loggers:
            logger.close()


@dataclasses.dataclass(frozen=True)
class Saving:
    """When a run is evaluated and saved, and how."""

    metric: str
    """Name of the number by which checkpoints are ranked."""
    facts: dict
    """Facts that are stored with every checkpoint."""
    evaluate: Callable[[dict], DevResult] | None
    """Evaluation of the dev set under some weights; None without a dev set."""


def run_steps(
    session: Session,
    state: TrainState,
    batches: Iterable[Batch],
    reporting: Reporting,
    saving: Saving,
    traced: range = range(0),
) -> TrainState:
    """Run the remaining steps with metrics, evaluations and checkpoints; return the last state.

    traced: numbers of the batches of which the profiler writes a trace.
    """
    training, checkpoints, start = session.config.training, session.checkpoints, int(state.step)
    saved = checkpoints.facts(start)["window"] if start else None
    recorder = Recorder(session.config, session.run, reporting, start, saved)
    due = [training.checkpoint_every] + [training.evaluate_every] * (saving.evaluate is not None)
    pending, profile = None, Profile(session.run, traced)
    try:
        for batch in batches:
            program = session.programs[batch.shape]
            with profile.step(batch.number, program, state):
                state, metrics = program(state, put_batch(batch.arrays, session.mesh))
            if profile.ends_with(batch.number):
                with recorder.window.paused():
                    profile.write(state)
            # Metrics are fetched one step late, so that the device never waits for the host.
            if pending:
                recorder.add(*pending, checkpoints)
            pending = batch, metrics
            done = batch.number + 1
            recorder.advance()
            stop = session.interruption.stops_after(done) or done == training.steps
            if stop or any(done % every == 0 for every in due):
                recorder.add(*pending, checkpoints)
                pending = None
                with recorder.window.paused(), profile.paused():
                    save(done, state, recorder, saving, session)
            if stop:
                break
        checkpoints.wait()
    finally:
        profile.close()
        recorder.close()
    return state


def save(done: int, state: TrainState, recorder: Recorder, saving: Saving, session: Session) -> None:
    """Save the state after `done` steps, and evaluate it first if an evaluation is due."""
    training = session.config.training
    rank, row_so_far = None, recorder.window.to_json()
    if saving.evaluate and (done % training.evaluate_every == 0 or done == training.steps):
        found = saving.evaluate(state.average)
        rank = found.rank
        recorder.log_dev(done, found)
    check_held(session.run.root)
    recorder.flush()
    facts = {**saving.facts, "step": done, saving.metric: rank, "window": row_so_far}
    facts["config"] = fixed_fields(session.config)
    session.checkpoints.save(done, state, facts, rank)


MOST_SKIPPED_IN_ROW = 10
"""Skipped steps in a row after which a run ends, because the level of the gradient has changed or the run diverges."""


def check_spikes(batch: Batch, metrics: dict, checkpoints: Checkpoints) -> None:
    """Report that a step was skipped because of its gradient (`optimizer.skip_above`); raise `UserError` after ten in a
    row."""
    in_row = int(metrics["skipped_in_row"][0]) if "skipped_in_row" in metrics else 0
    if not in_row:
        return
    norm, median = (float(metrics[name][0]) for name in ("gradient_norm", "median_norm"))
    what = f"step {batch.number + 1}: skipped, its gradient's norm is {norm:.4g}, the median {median:.4g}"
    if in_row >= MOST_SKIPPED_IN_ROW:
        raise UserError(
            f"{what}; that is the {in_row}th in a row; {_kept(checkpoints)}; "
            "lower optimizer.peak_learning_rate, or raise optimizer.skip_above"
        )
    if current().is_first:
        tqdm.tqdm.write(what, file=sys.stderr)


def _kept(checkpoints: Checkpoints) -> str:
    """Return in words which checkpoint a run that has to end can return to."""
    checkpoints.wait()
    good = checkpoints.latest()
    return f"the checkpoint of step {good} is good" if good is not None else "no checkpoint was saved yet"


def check_finite(batch: Batch, metrics: dict, rows: dict, checkpoints: Checkpoints, nonfinite_rows: Callable) -> None:
    """Raise `UserError` that names the step and its utterances where a result is not finite."""
    total, gradient, weights = (float(metrics[name][0]) for name in ("loss", "gradient_norm", "weights_norm"))
    loss = total / max(float(metrics["loss"][1]), 1.0)
    if not math.isfinite(loss):
        what = f"the loss is {loss}"
    elif not math.isfinite(gradient):
        what = f"the loss is {loss:.4g}, the norm of its gradient {gradient}"
    elif not math.isfinite(weights):
        what = f"the loss is {loss:.4g}, but the norm of the weights after the step {weights}"
    else:
        return
    names = nonfinite_rows(batch, fetch(rows))
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    raise UserError(
        f"step {batch.number + 1}: {what}, utterances {shown}; {_kept(checkpoints)}; "
        "look at these utterances, or lower optimizer.peak_learning_rate"
    )


def nonfinite_ids(dataset, rows: np.ndarray, losses: np.ndarray) -> list[str]:
    """Return the ids of the rows [B] of a data set (-1 for none) whose losses are not finite."""
    found = (rows >= 0) & ~np.isfinite(losses[: len(rows)])
    return [dataset.id(int(n)) for n in rows[found]]


def ids(dataset, rows: np.ndarray) -> list[str]:
    """Return the ids of the rows [B] of a data set, -1 for none."""
    return [dataset.id(int(n)) for n in rows[rows >= 0]]


def end_training(session: Session, state: TrainState, start: int, began: float) -> None:
    """Report how training ended, once everything is saved; exit with status 143 after SIGTERM."""
    done = int(state.step)
    if session.interruption.stopped:
        session.checkpoints.wait()
        log(f"SIGTERM: saved step {done} in {session.run.checkpoints}; the same command goes on from there")
        raise SystemExit(EXIT_STATUS)
    log(f"trained {done - start} steps in {(time.perf_counter() - began) / 60:.1f} min")


def obey_late_signal(session: Session) -> None:
    """Exit with status 143 where SIGTERM came after the last step, which is saved by now; to be called after the
    session."""
    if session.interruption.came_late():
        log(f"SIGTERM: all steps are saved in {session.run.checkpoints}; the same command goes on from there")
        raise SystemExit(EXIT_STATUS)
