"""The training loop, from a config to a trained and evaluated model; it reads from top to bottom."""

from __future__ import annotations

import hashlib
import math
import sys
import time
from pathlib import Path

import jax
import numpy as np
import tqdm

from joint_st.config import Config
from joint_st.config.devices import check_devices
from joint_st.data.normalizers import normalizer
from joint_st.data.pipeline import Prepared, batches, prepare, training_plan
from joint_st.data.plan import BatchPlan
from joint_st.data.texts import train_tokenizer, training_vocabulary
from joint_st.data.tokenizers import Tokenizer, load_tokenizer
from joint_st.errors import UserError
from joint_st.evaluation.evaluate import Scorer, evaluate_run
from joint_st.models.functional import count_weights
from joint_st.parallel.mesh import available_devices, make_mesh, put_batch
from joint_st.runs.checkpoints import Checkpoints
from joint_st.runs.compilation import keep_compiled
from joint_st.runs.directory import RunDirectory, open_run
from joint_st.training.compilation import compile_for_buckets
from joint_st.training.interruption import EXIT_STATUS, Interruption
from joint_st.training.loggers import open_loggers
from joint_st.training.metrics import Window
from joint_st.training.optimizer import schedule
from joint_st.training.step import TrainState, make_init, make_train_step


def train(config: Config, workdir: Path) -> None:
    """Train `config` in `workdir`, or go on with the run there, then evaluate its test splits.

    Precedence of weights: the run's latest complete checkpoint, then fresh ones from the seed. Raises `UserError`
    for mistakes of the user and for a loss that is not finite; exits with status 143 after SIGTERM, all saved.
    """
    began = time.perf_counter()
    check_devices(config, len(available_devices(config.parallel)))
    mesh = make_mesh(config.parallel)
    normalize = normalizer(config.data.normalizer)
    run = open_run(workdir, config)
    keep_compiled(config.training.compilation_cache)

    tokenizer = open_tokenizer(config, run)

    def open_data(sources, training):
        return prepare(sources, config.data, config.model.features, normalize, tokenizer, training=training)

    data = open_data(config.data.train, True)
    dev = open_data(config.data.dev, False) if config.data.dev else None
    plan = training_plan(data, config.data, config.seed)
    facts = {"normalizer": str(normalize), "data": fingerprint(data)}

    with (
        jax.set_mesh(mesh),
        Interruption() as interruption,
        Checkpoints(
            run.checkpoints, keep_latest=config.training.keep_latest, keep_best=config.training.keep_best
        ) as checkpoints,
    ):
        state = open_state(config, tokenizer.size, mesh, checkpoints)
        start = int(state.step)
        if start and checkpoints.facts(start)["data"] != facts["data"]:
            raise UserError(
                f"data.train: its utterances are not those that {run.root} was trained on, so it cannot go on "
                "as it would have; restore the data, or name another --workdir"
            )
        introduce(config, run, data, dev, plan, state, mesh, tokenizer)
        if start < config.training.steps:
            loggers = open_loggers(config, run, resume_at=start)
            step = compile_for_buckets(make_train_step(config, tokenizer.size, mesh), state, plan.buckets, mesh)
            say(f"compiled {len(step)} shapes; ready {time.perf_counter() - began:.1f} s after the start")
            score_dev = Scorer(config, dev, mesh) if dev else None
            state = run_steps(
                config, state, step, data, plan, mesh, loggers, checkpoints, facts, score_dev, interruption
            )  # fmt: skip
        if interruption.requested:
            checkpoints.wait()
            say(f"SIGTERM: saved step {int(state.step)} in {run.checkpoints}; the same command goes on from there")
            raise SystemExit(EXIT_STATUS)
    say(f"trained {int(state.step) - start} steps in {(time.perf_counter() - began) / 60:.1f} min")
    if config.data.test:
        evaluate_run(run.root)


def run_steps(
    config, state: TrainState, step, data: Prepared, plan, mesh, loggers, checkpoints, facts, score_dev, interruption
) -> TrainState:
    """Steps from the state's to the last, with metrics, evaluations and checkpoints on the way."""
    start, last = int(state.step), config.training.steps
    learning_rate = schedule(config.optimizer, last)
    rate = config.model.features.sample_rate
    window = Window(checkpoints.facts(start)["window"] if start else None)
    bar = tqdm.tqdm(total=last, initial=start, desc=config.name, unit="step", disable=None, dynamic_ncols=True)
    began = time.perf_counter()

    def account(done: int, metrics, index) -> None:
        """Take in the metrics of the step that made `done`; stop if it was not finite."""
        metrics = jax.device_get(metrics)
        utterance_loss = metrics.pop("utterance_loss")
        check_finite(done, metrics, utterance_loss, index, data, checkpoints)
        # Not `data.unreadable`, which counts on one host, and already in the batches read ahead.
        planned = np.count_nonzero(plan[done - 1].rows >= 0)
        window.add({**metrics, "unreadable": (planned - metrics["utterances"][0], 1)})
        if done % config.training.log_every and done != last:
            return
        speed = window.total("audio_samples") / rate / window.seconds
        row = {
            "epoch": done / plan.steps_per_epoch,
            **{name: window.mean(name) for name in ("loss", "streaming_ctc", "full_context_ctc", "gradient_norm")},
            "learning_rate": float(learning_rate(done - 1)),
            "utterances": window.total("utterances"),
            "infeasible": window.total("infeasible"),
            "unreadable": window.total("unreadable"),
            "audio_seconds_per_second": speed,
        }
        for logger in loggers:
            logger.log(done, row)
        shown = f"loss {row['loss']:.3f}, lr {row['learning_rate']:.2e}, {speed:.0f} audio-s/s"
        bar.set_postfix_str(shown)
        if bar.disable:  # no terminal: a log of lines
            left = (time.perf_counter() - began) / (done - start) * (last - done) / 60
            say(f"step {done}/{last}: {shown}, {left:.0f} min left")
        window.clear()

    def save(done: int) -> None:
        """Save the state after `done` steps, evaluated first where it is time."""
        wer, row_so_far = None, window.to_json()
        if score_dev and (done % config.training.evaluate_every == 0 or done == last):
            rates = score_dev(state.average, "dev")
            wer = rates["dev_full_context_wer"]
            for logger in loggers:
                logger.log(done, rates)
            shown = ", ".join(f"{name.removeprefix('dev_')} {value:.2%}" for name, value in rates.items())
            tqdm.tqdm.write(f"step {done}: dev {shown}", file=sys.stderr)
        checkpoints.save(done, state, {**facts, "step": done, "wer": wer, "window": row_so_far}, wer)

    # Metrics are fetched one step late, so that the device never waits for the host.
    pending = None
    try:
        for i, batch in batches(
            data, plan, start=start, read_threads=config.data.read_threads, prefetch=config.data.prefetch_batches
        ):
            index = batch.pop("index")
            state, metrics = step[plan[i].bucket](state, put_batch(batch, mesh))
            if pending:
                account(*pending)
            pending = (i + 1, metrics, index)
            done = i + 1
            bar.update()
            due = [config.training.checkpoint_every] + [config.training.evaluate_every] * bool(score_dev)
            stop = done == last or interruption.requested
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
        for logger in loggers:
            logger.close()
    return state


def open_tokenizer(config: Config, run: RunDirectory) -> Tokenizer:
    """The run's tokenizer; it and the vocabulary are made from the training texts where the run has none yet."""
    if not run.tokenizer.exists():
        # Elsewhere until both are whole, the tokenizer last: the process may be killed at any moment.
        draft = run.root / ".texts"
        train_tokenizer(config).save(draft / "tokenizer")
        training_vocabulary(config.data).save(draft)
        (draft / run.vocabulary.name).replace(run.vocabulary)
        (draft / "tokenizer").rename(run.tokenizer)
        draft.rmdir()
    return load_tokenizer(run.tokenizer)


def open_state(config: Config, vocabulary: int, mesh, checkpoints: Checkpoints) -> TrainState:
    """The state to start from: the run's latest complete checkpoint, or fresh weights."""
    init = make_init(config, vocabulary, mesh)
    latest = checkpoints.latest()
    if latest is None:
        return init()
    shapes, sharding = jax.eval_shape(init), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)
    return checkpoints.restore(latest, like)


def fingerprint(data: Prepared) -> str:
    """Changes with the lengths of the utterances, and so with the batch plan."""
    return hashlib.sha256(data.lengths.tobytes() + data.label_lengths.tobytes()).hexdigest()[:16]


def introduce(config: Config, run, data: Prepared, dev, plan: BatchPlan, state, mesh, tokenizer) -> None:
    """Print the derived numbers before anything long begins."""
    features = config.model.features
    sizes, bounds = plan.buckets.batch_sizes, plan.buckets.bounds
    seconds = max(size * bound for size, bound in zip(sizes, bounds)) / features.sample_rate
    devices = mesh.devices.flatten()
    start = int(state.step)
    begin = f"goes on from step {start} of" if start else "starts;"
    say(f"{config.name} in {run.root} {begin} {config.training.steps} steps")
    say(f"model    {count_weights(state.params):,} parameters, {tokenizer.size} labels, blank included")
    say(f"devices  {len(devices)} × {devices[0].device_kind}")
    say(f"train    {data.describe()}")
    if dev:
        say(f"dev      {dev.describe()}")
    say(f"batches  up to {seconds:.0f} audio-seconds: {plan.describe(features.sample_rate, 's')}")


def check_finite(done: int, metrics, utterance_loss, index, data: Prepared, checkpoints: Checkpoints) -> None:
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
    rows = index[index >= 0]
    culprits = index[(index >= 0) & ~np.isfinite(utterance_loss[: len(index)])]
    names = [data.id(int(n)) for n in (culprits if len(culprits) else rows)]
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    checkpoints.wait()
    good = checkpoints.latest()
    kept = f"the checkpoint of step {good} is good" if good is not None else "no checkpoint was saved yet"
    raise UserError(
        f"step {done}: {what}, utterances {shown}; {kept}; "
        "look at these utterances, or lower optimizer.peak_learning_rate"
    )


def say(line: str) -> None:
    """One line of progress, on stderr with the bars."""
    print(line, file=sys.stderr, flush=True)
