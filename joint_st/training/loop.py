"""The training loop, from a config to a trained and evaluated model; it reads from top to bottom."""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from pathlib import Path

import jax
import numpy as np
import tqdm

from joint_st import storage
from joint_st.analysis.layers import LayerAnalysis
from joint_st.config import Config
from joint_st.config.devices import check_devices
from joint_st.data.normalizers import normalizer
from joint_st.data.pipeline import batches
from joint_st.errors import UserError
from joint_st.evaluation.evaluate import Scorer, evaluate_run
from joint_st.parallel.hosts import fetch
from joint_st.parallel.mesh import available_devices, make_mesh, put_batch, rows_here
from joint_st.parallel.peers import current
from joint_st.parallel.preflight import check_config, check_data, check_directory
from joint_st.runs.checkpoints import Checkpoints
from joint_st.runs.compilation import keep_compiled
from joint_st.runs.directory import RunDirectory, open_run
from joint_st.training.apart import Steps, compile_apart
from joint_st.training.compilation import Programs
from joint_st.training.interruption import EXIT_STATUS, Interruption
from joint_st.training.loggers import COLUMNS, COUNTS, Logger, open_loggers
from joint_st.training.metrics import Window
from joint_st.training.opening import TrainingData, introduce, open_data, open_state, say
from joint_st.training.optimizer import schedule
from joint_st.training.step import TrainState, make_train_step


@dataclasses.dataclass(frozen=True)
class Session:
    """A run while it trains: what its steps read and where they report."""

    config: Config
    mesh: jax.sharding.Mesh
    data: TrainingData
    checkpoints: Checkpoints
    facts: dict
    """Stored with every checkpoint."""
    loggers: list[Logger]
    score_dev: Scorer | None
    analyse_dev: LayerAnalysis | None
    """Where there is text and a logger that shows figures."""
    interruption: Interruption


def train(config: Config, workdir: Path) -> None:
    """Train `config` in `workdir`, or go on with the run there, then evaluate its test splits.

    Precedence of weights: the run's latest complete checkpoint, then fresh ones from the seed. Raises `UserError`
    for mistakes of the user and for a loss that is not finite; exits with status 143 after SIGTERM, all saved.
    """
    began, peers = time.perf_counter(), current()
    check_config(peers, config)
    check_devices(config, len(available_devices(config.parallel)))
    mesh = make_mesh(config.parallel)
    normalize = normalizer(config.data.normalizer)
    with peers.first_alone("open the run"):
        run = open_run(workdir, config) if peers.is_first else RunDirectory(storage.path(workdir))
    check_directory(peers, run.root)
    keep_compiled(config.training.compilation_cache)
    with peers.first_alone("prepare the data"):
        data = open_data(config, run, normalize)
    check_data(peers, data.fingerprint_of_all, "data.train, data.dev, data.text")
    sizes = data.tokenizer.size, data.unit_count
    facts = {"normalizer": str(normalize), "data": data.fingerprint}

    with (
        jax.set_mesh(mesh),
        Interruption() as interruption,
        Checkpoints(
            run.checkpoints, keep_latest=config.training.keep_latest, keep_best=config.training.keep_best
        ) as checkpoints,
        Programs(mesh) as programs,
        compile_apart(steps_to_do(config, data, checkpoints)) as apart,
    ):
        state = open_state(config, *sizes, mesh, checkpoints)
        start = int(state.step)
        if start and checkpoints.facts(start)["data"] != facts["data"]:
            raise UserError(
                f"data.train, data.text: their utterances are not those that {run.root} was trained on, so it cannot "
                "go on as it would have; restore the data, or name another --workdir"
            )
        introduce(config, run, data, state, mesh)
        if start < config.training.steps:
            text_buckets, before = data.text_buckets, [apart.wait] if apart else []
            on_text = start < data.text_first
            if on_text:
                programs.add(make_train_step(config, *sizes, mesh, speech=False), state, None, text_buckets, *before)
                programs.wait()
            programs.add(make_train_step(config, *sizes, mesh), state, data.plan.buckets, text_buckets, *before)
            if not on_text:
                programs.wait()
            ready = f"ready {time.perf_counter() - began:.1f} s after the start"
            say(f"{ready}; what speech needs is compiled meanwhile" if on_text else f"{ready}, {len(programs)} shapes")
            loggers = open_loggers(config, run, resume_at=start) if peers.is_first else []
            score_dev = Scorer(config, data.dev, mesh, data.unit_count) if data.dev else None
            shows_figures = data.units and data.dev and config.training.loggers
            analyse_dev = LayerAnalysis(config, data.dev, mesh, data.unit_count) if shows_figures else None
            session = Session(config, mesh, data, checkpoints, facts, loggers, score_dev, analyse_dev, interruption)
            state = run_steps(session, state, programs)
        if interruption.stopped:
            checkpoints.wait()
            say(f"SIGTERM: saved step {int(state.step)} in {run.checkpoints}; the same command goes on from there")
            raise SystemExit(EXIT_STATUS)
    say(f"trained {int(state.step) - start} steps in {(time.perf_counter() - began) / 60:.1f} min")
    peers.wait("the last checkpoint")
    if config.data.test:
        evaluate_run(run.root)


def steps_to_do(config: Config, data: TrainingData, checkpoints: Checkpoints) -> Steps | None:
    """The kinds of steps that a run has before it."""
    done = checkpoints.latest() or 0
    if done >= config.training.steps:
        return None
    on_text = done < data.text_first
    return Steps(config, data.tokenizer.size, data.unit_count, data.plan.buckets, data.text_buckets, on_text)


def run_steps(session: Session, state: TrainState, programs: Programs) -> TrainState:
    """Steps from the state's to the last, with metrics, evaluations and checkpoints on the way."""
    config, data, checkpoints = session.config, session.data, session.checkpoints
    start, last = int(state.step), config.training.steps
    learning_rate = schedule(config.optimizer, last, config.training.text_first_steps)
    rate = config.model.features.sample_rate
    window = Window(checkpoints.facts(start)["window"] if start else None)
    hidden = None if current().is_first else True
    bar = tqdm.tqdm(total=last, initial=start, desc=config.name, unit="step", disable=hidden, dynamic_ncols=True)
    began = time.perf_counter()

    def account(done: int, metrics) -> None:
        """Take in the metrics of the step that made `done`; stop if it was not finite."""
        rows = {name: metrics[name] for name in ("utterance_loss", "text_loss") if name in metrics}
        metrics = jax.device_get({name: metrics[name] for name in metrics.keys() - rows.keys()})
        check_finite(session, done, metrics, rows)
        # Not `data.unreadable`, which counts on one host, and already in the batches read ahead.
        if planned := data.planned(done - 1):
            metrics["unreadable"] = (np.count_nonzero(planned.rows >= 0) - metrics["utterances"][0], 1)
        window.add(metrics)
        if done % config.training.log_every and done != last:
            return
        speed = window.total("audio_samples") / rate / window.seconds
        row = {
            "epoch": max(done - data.text_first, 0) / data.plan.steps_per_epoch,
            "learning_rate": float(learning_rate(done - 1)),
            "audio_seconds_per_second": speed,
        }
        for name in COLUMNS:
            if name in window and name not in row:
                row[name] = window.total(name) if name in COUNTS else window.mean(name)
        for logger in session.loggers:
            logger.log(done, row)
        pace = f"{speed:.0f} audio-s/s" if "audio_samples" in window else "on text alone"
        shown = f"loss {row['loss']:.3f}, lr {row['learning_rate']:.2e}, {pace}"
        bar.set_postfix_str(shown)
        if bar.disable:  # no terminal: a log of lines
            left = (time.perf_counter() - began) / (done - start) * (last - done) / 60
            say(f"step {done}/{last}: {shown}, {left:.0f} min left")
        window.clear()

    def save(done: int) -> None:
        """Save the state after `done` steps, evaluated first where it is time."""
        wer, row_so_far = None, window.to_json()
        if session.score_dev and (done % config.training.evaluate_every == 0 or done == last):
            rates = session.score_dev(state.average, "dev")
            wer = rates["dev_full_context_wer"]
            for logger in session.loggers:
                logger.log(done, rates)
            shown = ", ".join(f"{name.removeprefix('dev_')} {value:.2%}" for name, value in rates.items())
            if current().is_first:
                tqdm.tqdm.write(f"step {done}: dev {shown}", file=sys.stderr)
            if session.analyse_dev:
                from joint_st.analysis.figures import figure_to_image  # brings Matplotlib, which takes a while

                report = session.analyse_dev(state.average)
                images = {name: figure_to_image(figure) for name, figure in report.figures().items()}
                for logger in session.loggers:
                    logger.log(done, report.scalars())
                    logger.log_images(done, images)
        for logger in session.loggers:
            logger.flush()
        checkpoints.save(done, state, {**session.facts, "step": done, "wer": wer, "window": row_so_far}, wer)

    # Metrics are fetched one step late, so that the device never waits for the host.
    pending = None
    try:
        for i, batch in batches(
            data.paired,
            data.plan,
            text=data.text_and_plan,
            text_first=data.text_first,
            start=start,
            parts=rows_here(session.mesh),
            read_threads=config.data.read_threads,
            prefetch=config.data.prefetch_batches,
        ):
            batch = {name: rows for name, rows in batch.items() if name not in ("index", "text_index")}
            state, metrics = programs[data.buckets_of(i)](state, put_batch(batch, session.mesh))
            if pending:
                account(*pending)
            pending = (i + 1, metrics)
            done = i + 1
            bar.update()
            due = [config.training.checkpoint_every] + [config.training.evaluate_every] * bool(session.score_dev)
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

    def named(dataset, planned, losses):
        culprits = (planned.rows >= 0) & ~np.isfinite(losses[: len(planned.rows)])
        return [dataset.id(int(n)) for n in planned.rows[culprits]]

    data, rows = session.data, fetch(rows)
    planned = data.planned(done - 1)
    names = named(data.paired, planned, rows["utterance_loss"]) if planned else []
    if "text_loss" in rows:
        names += named(data.text, data.text_plan[done - 1], rows["text_loss"])
    if not names and planned:
        names = [data.paired.id(int(n)) for n in planned.rows[planned.rows >= 0]]
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    session.checkpoints.wait()
    good = session.checkpoints.latest()
    kept = f"the checkpoint of step {good} is good" if good is not None else "no checkpoint was saved yet"
    raise UserError(
        f"step {done}: {what}, utterances {shown}; {kept}; "
        "look at these utterances, or lower optimizer.peak_learning_rate"
    )
