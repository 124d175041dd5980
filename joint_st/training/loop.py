"""The training loop, from a config to a trained and evaluated model; it reads from top to bottom."""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from pathlib import Path

import jax
import tqdm

from joint_st import storage
from joint_st.config import Config, LmConfig
from joint_st.distributed.hosts import fetch
from joint_st.distributed.mesh import available_devices, keep_compiled, make_mesh, put_batch
from joint_st.distributed.peers import current
from joint_st.distributed.preflight import check_config, check_data, check_directory
from joint_st.errors import UserError
from joint_st.runs.checkpoints import Checkpoints
from joint_st.runs.directory import RunDirectory, open_run
from joint_st.training.apart import compile_apart
from joint_st.training.compilation import Programs
from joint_st.training.interruption import EXIT_STATUS, Interruption
from joint_st.training.joint import JointTask
from joint_st.training.lm.task import LmTask
from joint_st.training.loggers import Logger, open_loggers
from joint_st.training.metrics import Window
from joint_st.training.setup import say
from joint_st.training.step import TrainState
from joint_st.training.task import Task


@dataclasses.dataclass(frozen=True)
class Session:
    """A run while it trains: what its steps read and where they report."""

    task: Task
    mesh: jax.sharding.Mesh
    checkpoints: Checkpoints
    loggers: list[Logger]
    interruption: Interruption


def train(config: Config | LmConfig, workdir: Path) -> None:
    """Train `config` in `workdir`, or go on with the run there, then evaluate its test splits.

    Precedence of weights: the run's latest complete checkpoint, then fresh ones from the seed. Raises `UserError`
    for mistakes of the user and for a loss that is not finite; exits with status 143 after SIGTERM, all saved.
    """
    began, peers = time.perf_counter(), current()
    task = LmTask(config) if isinstance(config, LmConfig) else JointTask(config)
    check_config(peers, config)
    task.check(len(available_devices(config.parallel)))
    mesh = make_mesh(config.parallel)
    with peers.process_zero_first("open the run"):
        run = open_run(workdir, config) if peers.is_first else RunDirectory(storage.path(workdir))
    check_directory(peers, run.root)
    keep_compiled(config.training.compilation_cache)
    with peers.process_zero_first("prepare the data"):
        task.open(run)
    check_data(peers, task.fingerprint, task.fields[1])

    with (
        jax.set_mesh(mesh),
        Interruption() as interruption,
        Checkpoints(
            run.checkpoints,
            keep_latest=config.training.keep_latest,
            keep_best=config.training.keep_best,
            metric=task.metric,
        ) as checkpoints,
        Programs(mesh) as programs,
        compile_apart(task.steps_apart(checkpoints.latest() or 0)) as apart,
    ):
        state = task.restore(mesh, checkpoints)
        start = int(state.step)
        if start and checkpoints.facts(start)["data"] != task.facts["data"]:
            raise UserError(
                f"{task.fields[0]}: their utterances are not those that {run.root} was trained on, so it cannot "
                "go on as it would have; restore the data, or name another --workdir"
            )
        task.introduce(run, state, mesh)
        if start < config.training.steps:
            compiled = task.compile(programs, state, mesh, *([apart.wait] if apart else []))
            say(f"ready {time.perf_counter() - began:.1f} s after the start{compiled}")
            loggers = open_loggers(config, run, task.columns, resume_at=start) if peers.is_first else []
            state = run_steps(Session(task, mesh, checkpoints, loggers, interruption), state, programs)
        if interruption.stopped:
            checkpoints.wait()
            say(f"SIGTERM: saved step {int(state.step)} in {run.checkpoints}; the same command goes on from there")
            raise SystemExit(EXIT_STATUS)
    say(f"trained {int(state.step) - start} steps in {(time.perf_counter() - began) / 60:.1f} min")
    peers.wait("the last checkpoint")
    task.finish(run)


def run_steps(session: Session, state: TrainState, programs: Programs) -> TrainState:
    """Steps from the state's to the last, with metrics, evaluations and checkpoints on the way."""
    task, checkpoints = session.task, session.checkpoints
    training = task.config.training
    start, last = int(state.step), training.steps
    learning_rate = task.schedule()
    window = Window(checkpoints.facts(start)["window"] if start else None)
    hidden = None if current().is_first else True
    bar = tqdm.tqdm(total=last, initial=start, desc=task.config.name, unit="step", disable=hidden, dynamic_ncols=True)
    began = time.perf_counter()

    def account(done: int, metrics) -> None:
        """Take in the metrics of the step that made `done`; stop if it was not finite."""
        rows = {name: metrics[name] for name in ("utterance_loss", "text_loss") if name in metrics}
        metrics = jax.device_get({name: metrics[name] for name in metrics.keys() - rows.keys()})
        check_finite(session, done, metrics, rows)
        task.complete(done, metrics)
        window.add(metrics)
        if done % training.log_every and done != last:
            return
        row, pace = task.row(done, window)
        row["learning_rate"] = float(learning_rate(done - 1))
        for name in task.columns:
            if name in window and name not in row:
                row[name] = window.total(name) if name in task.counts else window.mean(name)
        for logger in session.loggers:
            logger.log(done, row)
        shown = f"loss {row['loss']:.3f}, lr {row['learning_rate']:.2e}, {pace}"
        bar.set_postfix_str(shown)
        if bar.disable:  # no terminal: a log of lines
            left = (time.perf_counter() - began) / (done - start) * (last - done) / 60
            say(f"step {done}/{last}: {shown}, {left:.0f} min left")
        window.clear()

    def save(done: int) -> None:
        """Save the state after `done` steps, evaluated first where it is time."""
        rank, row_so_far = None, window.to_json()
        if task.evaluates and (done % training.evaluate_every == 0 or done == last):
            found = task.evaluate(state.average)
            rank = found.rank
            for logger in session.loggers:
                logger.log(done, found.rates)
            if current().is_first:
                tqdm.tqdm.write(f"step {done}: dev {found.shown}", file=sys.stderr)
            for logger in session.loggers if found.images else ():
                logger.log(done, found.more)
                logger.log_images(done, found.images)
        for logger in session.loggers:
            logger.flush()
        facts = {**task.facts, "step": done, task.metric: rank, "window": row_so_far}
        checkpoints.save(done, state, facts, rank)

    # Metrics are fetched one step late, so that the device never waits for the host.
    pending = None
    try:
        for i, batch in task.batches(start, session.mesh):
            state, metrics = programs[task.shape_of(i)](state, put_batch(batch, session.mesh))
            if pending:
                account(*pending)
            pending = (i + 1, metrics)
            done = i + 1
            bar.update()
            due = [training.checkpoint_every] + [training.evaluate_every] * task.evaluates
            stop = session.interruption.stops_after(done) or done == last
            if stop or any(done % every == 0 for every in due):
                account(*pending)
                pending = None
                with window.paused():
                    save(done)
            if stop:
                break
        checkpoints.wait()
    finally:
        bar.close()
        for logger in session.loggers:
            logger.close()
    return state


def check_finite(session: Session, done: int, metrics, rows) -> None:
    """Raise `UserError` that names the step and its utterances where it made something that is not finite."""
    loss, gradient, weights = (float(metrics[name][0]) for name in ("loss", "gradient_norm", "weights_norm"))
    if not math.isfinite(loss):
        what = f"the loss is {loss}"
    elif not math.isfinite(gradient):
        what = f"the loss is {loss:.4g}, the norm of its gradient {gradient}"
    elif not math.isfinite(weights):
        what = f"the loss is {loss:.4g}, but the norm of the weights after the step {weights}"
    else:
        return
    names = session.task.culprits(done, fetch(rows))
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    session.checkpoints.wait()
    good = session.checkpoints.latest()
    kept = f"the checkpoint of step {good} is good" if good is not None else "no checkpoint was saved yet"
    raise UserError(
        f"step {done}: {what}, utterances {shown}; {kept}; "
        "look at these utterances, or lower optimizer.peak_learning_rate"
    )
