"""Trains a joint model, from a config to a trained and evaluated run; read this file from top to bottom."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from joint_st import storage
from joint_st.analysis.layers import LayerAnalysis
from joint_st.analysis.pairs import NothingToCompare
from joint_st.config import Config, check_devices
from joint_st.data.batch import Batch, Shape
from joint_st.data.normalizers import normalizer
from joint_st.data.tokenizers import load_tokenizer
from joint_st.decoding.decoders import Beam, Greedy
from joint_st.decoding.fusion.build import FusionFiles, Level
from joint_st.distributed.peers import current
from joint_st.errors import UserError
from joint_st.evaluation.evaluate import evaluate_run
from joint_st.evaluation.ranking import Metric, ranking_metric
from joint_st.evaluation.scorer import Scorer
from joint_st.lm.arpa import separates_words
from joint_st.lm.estimate import estimate_ngram
from joint_st.losses.base import Column, check_columns, make_losses
from joint_st.passes import PASSES
from joint_st.runs.agreement import agreed_latest
from joint_st.runs.directory import METRIC, RunDirectory, read_facts
from joint_st.runs.lock import one_at_a_time
from joint_st.training.compile_subprocess import Steps, compile_in_subprocess
from joint_st.training.loop import (
    DevResult,
    Reporting,
    Saving,
    check_same_data,
    end_training,
    ids,
    nonfinite_ids,
    obey_late_signal,
    open_session,
    open_training,
    record_training_start,
    run_steps,
)
from joint_st.training.metrics import Window
from joint_st.training.optimizer import schedule
from joint_st.training.profile import traced_steps
from joint_st.training.setup import TrainingData, log, open_data, open_state, print_summary
from joint_st.training.step import COLUMNS as STEP_COLUMNS
from joint_st.training.step import SKIPPED, UNLISTED, make_train_step

COLUMNS = (
    Column("epoch", kind="count", description="Passes over the utterances so far, as the mixture draws them."),
    *(
        Column(
            f"dev_{head}_{rate}",
            f"{words.capitalize()} error rate, dev set",
            unit="%",
            description=f"{words.capitalize()} error rate on the dev set, greedy, {head.replace('_', '-')} head.",
        )
        for rate, words in (("wer", "word"), ("cer", "character"))
        for head in PASSES
    ),
    *(
        Column(
            f"dev_{head}_length_ratio",
            "Length of hypotheses relative to references, dev set",
            unit="%",
            description=f"Characters of the {head.replace('_', '-')} head's hypotheses per character of the dev set's "
            "references; far below 100 % the head emits too little.",
        )
        for head in PASSES
    ),
    *(
        Column(
            f"dev_{head}_blank_share",
            "Frames that emit no label, dev set",
            unit="%",
            description=f"Share of the dev set's frames on which the {head.replace('_', '-')} head emits no label: blanks, "
            "and repetitions of the label before.",
        )
        for head in PASSES
    ),
    *STEP_COLUMNS,
    Column("learning_rate", "Learning rate", description="Learning rate of the last step of the row."),
    Column("unreadable", kind="count", description="Utterances of the row's batches whose audio could not be read."),
    Column(
        "audio_seconds_per_second",
        "Speed",
        unit="seconds of audio per second",
        description="Audio trained on, per second of wall time, over all devices; evaluations and saving not counted.",
    ),
)
"""Columns of `metrics.csv` after `step`, before those of the losses."""


def columns(config: Config) -> tuple[Column, ...]:
    """Return all columns of `metrics.csv` after `step`; raises `UserError` where a loss has one that every run has."""
    skipped, losses = (SKIPPED,) if config.optimizer.skip_above else (), make_losses(config)
    check_columns(losses, {"step", *UNLISTED, *(column.name for column in (*COLUMNS, SKIPPED))})
    return (*COLUMNS, *skipped, *(column for loss in losses for column in loss.columns))


@one_at_a_time
def train_asr(config: Config, workdir: Path, profile: range | None = None) -> None:
    """Train `config` in `workdir`, or continue the run there, then evaluate its test splits.

    profile: steps of which to write a trace, see `traced_steps`.

    Raises `UserError` for mistakes of the user and for a loss that is not finite; exits with status 143 after SIGTERM,
    once everything is saved.
    """
    began = time.perf_counter()
    fields = "data.train, data.dev, data.text"
    run, mesh, data = open_training(config, workdir, check_devices, open_data, fields)
    sizes, last = data.symbols.sizes, config.training.steps
    if data.dev and not data.dev.words.any():
        # Known before anything is compiled, and otherwise said when the first steps are evaluated, and lost.
        raise UserError("data.dev: its transcripts have no words, so there is no error rate; correct its sources")
    metric = ranking_metric(config.evaluation, data.dev.texts() if data.dev else ())
    check_same_ranking(run, metric)
    reporting = make_reporting(config, data)

    shapes = data.shapes(last)
    with (
        open_session(config, run, mesh, metric) as session,
        compile_in_subprocess(
            _steps_left(config, data, shapes, agreed_latest(session.checkpoints, current()) or 0)
        ) as subprocess,
    ):
        begun, programs = open_state(config, data.symbols, mesh, session.checkpoints), session.programs
        state, start = begun.state, int(begun.state.step)
        check_same_data(session, start, data.fingerprint, data.fingerprint_by_field, data.texts_by_field)
        print_summary(config, run, data, begun, mesh)
        record_training_start(session, start)
        traced = traced_steps(profile, start, last, data.text_first)
        if start < last:
            before = [subprocess.wait] if subprocess else []
            compiled = ""
            if start < data.text_first:
                text_step = make_train_step(config, sizes, mesh, speech=False, confusions=data.confusions)
                programs.add(text_step, state, data.text_buckets, *before)
                programs.wait()
                compiled = "; what speech needs is compiled meanwhile"
            if start < data.text_from:
                speech_step = make_train_step(config, sizes, mesh, text=False)
                programs.add(speech_step, state, data.speech_buckets, *before)
                programs.wait()
                compiled = "; what text needs is compiled meanwhile"
            step = make_train_step(config, sizes, mesh, confusions=data.confusions)
            programs.add(step, state, data.buckets, *before, shapes=shapes)
            if not compiled:
                programs.wait()
                compiled = f", {len(programs)} shapes"
            evaluate = make_evaluation(config, data, mesh, metric)
            log(f"ready {time.perf_counter() - began:.1f} s after the start{compiled}")
            normalize = normalizer(config.data.normalizer)
            facts = {"normalizer": str(normalize), "data": data.fingerprint, "init": begun.origin}
            facts |= {"data_by_field": data.fingerprint_by_field, "ranked_by": metric}
            facts |= {"texts_by_field": data.texts_by_field}
            batches, saving = data.batches(config, mesh, start), Saving(metric, facts, evaluate)
            state = run_steps(session, state, batches, reporting, saving, traced)
        end_training(session, state, start, began)
    current().wait("the last checkpoint")
    obey_late_signal(session)
    if config.data.test:
        print_last_table(config, run)


def print_last_table(config: Config, run: RunDirectory) -> None:
    """Evaluate the test splits of a trained run: greedily, and by a beam with an n-gram model of the run's own texts
    where `evaluation.ngram_order` asks for it.

    Where that beam is not possible with several processes, `run.without_ngram` says so; a sweep counts the greedy table as
    the last one only then. Raises `UserError` where the config's texts or dev set do not allow it, after a greedy table.
    """
    order = config.evaluation.ngram_order
    if not order:
        evaluate_run(run.root)
    elif current().several:
        why = "only a single process can tune the weights of an n-gram"
        log(f"evaluation.ngram_order: not used, because {why}")
        if current().is_first:
            storage.write_whole(run.without_ngram, json.dumps({"order": order, "why": why}))
        evaluate_run(run.root)
    else:
        storage.remove_file(run.without_ngram)
        with tempfile.TemporaryDirectory() as scratch:
            # The decoder reads a local file, also where the run is in a bucket.
            ngram = Path(scratch) / run.ngram.name if storage.is_remote(run.root) else run.ngram
            try:
                level: Level = "word" if separates_words(load_tokenizer(run.tokenizer)) else "label"
                estimate_ngram(config, run.root, order, level, ngram)
                if ngram != run.ngram:
                    storage.write_whole(run.ngram, ngram.read_bytes())
                log(f"weights of {run.ngram}, on the dev set:")
                fusion = FusionFiles(ngram, None, lm_level=level)
                evaluate_run(run.root, decoders=(Greedy(), Beam()), fusion=fusion, tune={})
            except UserError:
                # Texts may hold tokens that a model keeps for itself, and a dev set that shares utterances with a test
                # split cannot tune; greedy decoding needs neither.
                evaluate_run(run.root)
                raise


def make_reporting(config: Config, data: TrainingData) -> Reporting:
    """Return the columns that the training script adds to those of the step."""
    training, features = config.training, config.model.features

    def host_columns(done: int, window: Window):
        speed = features.seconds(window.total("audio_samples")) / window.seconds
        epoch = max(done - data.text_first, 0) / data.plan.steps_per_epoch
        pace = f"{speed:.0f} audio-s/s" if "audio_samples" in window else "on text alone"
        return {"epoch": epoch, "audio_seconds_per_second": speed}, pace

    def complete(batch: Batch, metrics: dict) -> None:
        # Not `data.unreadable`, which counts on one host only, and includes batches that are read ahead.
        if "paired" in batch.rows:
            planned = np.count_nonzero(batch.rows["paired"] >= 0)
            metrics["unreadable"] = (planned - metrics["utterances"][0], 1)

    def nonfinite_rows(batch: Batch, losses: dict[str, np.ndarray]) -> list[str]:
        names = []
        if "utterance_loss" in losses:
            names += nonfinite_ids(data.paired, batch.rows["paired"], losses["utterance_loss"])
        if "text_loss" in losses:
            names += nonfinite_ids(data.text, batch.rows["text"], losses["text_loss"])
        return names or (ids(data.paired, batch.rows["paired"]) if "paired" in batch.rows else [])

    rates = schedule(config.optimizer, training.steps, training.text_first_steps)
    return Reporting(columns(config), rates, host_columns, nonfinite_rows, complete)


def check_same_ranking(run: RunDirectory, metric: Metric) -> None:
    """Raise `UserError` where the checkpoints of a run were ranked by another error rate."""
    if not run.has_checkpoint:
        return
    try:
        before = read_facts(run.checkpoints / str(run.checkpoint_steps[-1])).get("ranked_by", METRIC)
    except UserError:  # damaged: those who open the checkpoints know which other one is whole
        return
    if before != metric:
        raise UserError(
            f"evaluation.rank_by: {metric}, and the checkpoints of {run.root} are ranked by {before}; set it to "
            f"{before}, or name another --workdir"
        )


def make_evaluation(
    config: Config, data: TrainingData, mesh: jax.sharding.Mesh, metric: Metric
) -> Callable[[dict], DevResult] | None:
    """Return the evaluation of the dev set, a function of weights, with figures if a logger shows them; None without a
    dev set.

    metric: error rate whose value on the full-context head ranks the checkpoint.
    """
    if not data.dev:
        return None
    score = Scorer(config, data.dev, mesh, data.symbols.sizes)
    shows_figures = data.symbols.units and config.training.loggers
    analyse = None
    if shows_figures:
        try:
            analyse = LayerAnalysis(config, data.dev, mesh, data.symbols.sizes)
        except NothingToCompare as error:
            log(f"no curves of the layers: {error}")

    def evaluate(weights) -> DevResult:
        rates = score(weights, "dev")
        shown = ", ".join(
            f"{name.removeprefix('dev_')} {value:.2%}" for name, value in rates.items() if name.endswith(metric)
        )
        found = DevResult(rates[f"dev_full_context_{metric}"], rates, shown)
        if analyse:
            from joint_st.analysis.figures import figure_to_image  # imports Matplotlib, which takes a while

            report = analyse(weights)
            images = {name: figure_to_image(figure) for name, figure in report.figures().items()}
            found = found._replace(more=report.scalars(), images=images)
        return found

    return evaluate


def _steps_left(config: Config, data: TrainingData, shapes: Sequence[Shape], done: int) -> Steps | None:
    """Return the kinds of steps after `done`, for the subprocess that compiles them; those with all parts have `shapes`."""
    if done >= config.training.steps:
        return None
    text = data.text_buckets if done < data.text_first else None
    speech = data.speech_buckets if done < data.text_from else None
    return Steps(config, data.symbols.sizes, data.buckets, text, shapes, speech, data.confusions)
