"""Trains a language model, from a config to a trained run; read this file from top to bottom."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from joint_st import storage
from joint_st.config import LmConfig, check_lm_devices
from joint_st.data.batch import Arrays, Batch
from joint_st.data.dataset import Dataset, open_lm_texts
from joint_st.data.index import Indexes
from joint_st.data.loader import text_batches
from joint_st.data.normalizers import Normalizer, misfit, normalizer
from joint_st.data.plan import BatchPlan, label_plan
from joint_st.data.scripts import mostly_unspaced
from joint_st.data.symbols import Symbols
from joint_st.data.texts import normalised_texts
from joint_st.data.tokenizers import DESCRIPTION, Tokenizer, load_tokenizer, make_tokenizer
from joint_st.distributed.mesh import describe, put_batch, rows_here
from joint_st.distributed.peers import current
from joint_st.distributed.sharding import shardings
from joint_st.losses.base import Column
from joint_st.models.functional import count_weights
from joint_st.models.language_model import OUTPUT_LAYERS, init_lm, lm_axes, merge_lm
from joint_st.runs.checkpoints import Checkpoints
from joint_st.runs.directory import RunDirectory
from joint_st.runs.lock import one_at_a_time
from joint_st.runs.trained import LM_METRIC
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
from joint_st.training.optimizer import make_optimizer, schedule
from joint_st.training.profile import traced_steps
from joint_st.training.setup import log, print_decay, print_start
from joint_st.training.step import SKIPPED, TrainState, fresh_state, jitted_init, placed_shapes, updated
from joint_st.training.weights import Start, starting_state

COLUMNS = (
    Column("epoch", kind="count", description="Passes over the texts so far."),
    Column(
        "loss", "Loss", unit="nats per label", description="Mean negative log probability of a label, end included."
    ),
    Column("gradient_norm", "Norm of the gradient", description="L2 norm of the gradient, before it is clipped."),
    Column("learning_rate", "Learning rate", description="Learning rate of the last step of the row."),
    Column("texts", kind="count", description="Texts that the steps of the row took."),
    Column(
        "labels_per_second",
        "Speed",
        unit="labels per second",
        description="Labels trained on, per second of wall time, over all devices.",
    ),
    Column("dev_perplexity", "Perplexity, dev set", description="Perplexity per label on the dev set."),
    Column(
        "dev_word_perplexity",
        "Perplexity, dev set",
        description="Perplexity per word on the dev set; empty where its script puts no spaces between words.",
    ),
)
"""Columns of `metrics.csv` after `step`."""


@dataclasses.dataclass(frozen=True)
class LmData:
    """The training texts of a language model, and the plan of its batches."""

    tokenizer: Tokenizer
    texts: Dataset
    plan: BatchPlan
    dev: Dataset | None

    @property
    def fingerprint(self) -> str:
        """Return a fingerprint of the lengths of the training texts, and so of the batch plan."""
        return hashlib.sha256(self.texts.label_lengths.tobytes()).hexdigest()[:16]

    @property
    def texts_by_field(self) -> dict[str, str]:
        """Return a fingerprint of the texts of each field of the config that names data."""
        sets = {"data.train": self.texts, "data.dev": self.dev}
        return {field: data.fingerprint_of_texts for field, data in sets.items() if data}

    @property
    def fingerprint_of_all(self) -> str:
        """Return a fingerprint that includes the lengths of the dev set."""
        of_dev = self.dev.label_lengths.tobytes() if self.dev else b""
        return hashlib.sha256(self.texts.label_lengths.tobytes() + of_dev).hexdigest()[:16]


@one_at_a_time
def train_lm(config: LmConfig, workdir: Path, profile: range | None = None) -> None:
    """Train `config` in `workdir`, or continue the run there.

    profile: steps of which to write a trace, see `traced_steps`.

    Raises `UserError` for mistakes of the user and for a loss that is not finite; exits with status 143 after SIGTERM,
    once everything is saved.
    """
    began = time.perf_counter()
    run, mesh, data = open_training(config, workdir, check_lm_devices, open_lm_data, "data.train, data.dev")

    with open_session(config, run, mesh, LM_METRIC) as session:
        begun = open_lm_state(config, data.tokenizer, mesh, session.checkpoints)
        state, start = begun.state, int(begun.state.step)
        check_same_data(session, start, data.fingerprint, {"data.train": data.fingerprint}, data.texts_by_field)
        print_lm_summary(config, run, data, begun, mesh)
        record_training_start(session, start)
        traced = traced_steps(profile, start, config.training.steps)
        if start < config.training.steps:
            step = make_lm_step(config, data.tokenizer.size, mesh)
            session.programs.add(step, state, {"text": data.plan.buckets})
            session.programs.wait()
            log(f"ready {time.perf_counter() - began:.1f} s after the start, {len(session.programs)} shapes")
            batches = text_batches(
                data.texts, data.plan, start=start, parts=rows_here(mesh), prefetch=config.data.prefetch_batches
            )
            facts = {
                "normalizer": str(normalizer(config.data.normalizer)),
                "data": data.fingerprint,
                "texts_by_field": data.texts_by_field,
                "init": begun.origin,
            }
            saving = Saving(LM_METRIC, facts, make_evaluation(config, data, mesh))
            state = run_steps(session, state, batches, make_reporting(config, data), saving, traced)
        end_training(session, state, start, began)
    current().wait("the last checkpoint")
    obey_late_signal(session)


def open_lm_data(config: LmConfig, run: RunDirectory, normalize: Normalizer) -> LmData:
    """Open the texts of a run; its tokenizer is made if it has none yet."""
    data, began, indexes = config.data, time.perf_counter(), Indexes(config.data.index_cache, normalize)
    if not (run.tokenizer / DESCRIPTION).exists():
        texts = () if data.tokenizer.path else normalised_texts(data.train, indexes)
        # Written elsewhere until it is complete, because the process may be killed at any moment.
        with storage.draft_folder(run.root / ".texts") as draft:
            make_tokenizer(data.tokenizer, texts).save(draft / "tokenizer")
            run.sum_up_inventories(draft / "tokenizer")
            storage.move_into_place(draft / "tokenizer", run.tokenizer, last=DESCRIPTION)
    run.check_inventories()
    tokenizer = load_tokenizer(run.tokenizer)
    made_with = data, normalize, tokenizer
    dev = open_lm_texts(data.dev, *made_with, "data.dev", indexes=indexes) if data.dev else None
    texts = open_lm_texts(data.train, *made_with, "data.train", held_out=dev, indexes=indexes)
    plan = label_plan(texts, data, config.seed, shuffle=True)
    _ = plan[0]  # kept for the job, and part of the measured time
    log(indexes.describe(time.perf_counter() - began))
    return LmData(tokenizer, texts, plan, dev)


def lm_optimizer(config: LmConfig) -> optax.GradientTransformation:
    """Make the optimizer of a language model."""
    return make_optimizer(config.optimizer, config.training.steps, output_layers=OUTPUT_LAYERS)


def init_lm_state(config: LmConfig, vocabulary: int, seed: jax.Array) -> TrainState:
    """Make the state before the first step, with weights drawn from the seed."""
    return fresh_state(init_lm(config.model, vocabulary, seed), lm_optimizer(config), seed)


def lm_state_shapes(config: LmConfig, vocabulary: int, mesh) -> TrainState:
    """Return shapes, types and shardings on `mesh` of the state; nothing is computed."""
    axes = lm_axes(config.model, vocabulary)
    return placed_shapes(lambda seed: init_lm_state(config, vocabulary, seed), mesh, axes)


def make_lm_init(config: LmConfig, vocabulary: int, mesh) -> Callable[[], TrainState]:
    """Return a jitted function `() -> TrainState`, whose result is sharded over `mesh`."""
    axes = lm_axes(config.model, vocabulary)
    return jitted_init(lambda seed: init_lm_state(config, vocabulary, seed), config.seed, mesh, axes)


def open_lm_state(config: LmConfig, tokenizer: Tokenizer, mesh, checkpoints: Checkpoints) -> Start:
    """Return the starting state: from the latest complete checkpoint, from another run's weights, or fresh."""
    return starting_state(
        config,
        checkpoints,
        Symbols(tokenizer),
        lambda sizes: lm_state_shapes(config, sizes.labels, mesh),
        lambda: make_lm_init(config, tokenizer.size, mesh)(),
    )


def make_lm_step(config: LmConfig, vocabulary: int, mesh):
    """Return a jitted function `(state, batch) -> (state, metrics)`, to which the state is donated.

    The loss is the mean negative log probability of a label in nats, the end of a text counted as one. Metrics are
    pairs (sum, count), divided only where they are shown, and `text_loss` [B], which shows the texts that cause a loss
    that is not finite.
    """
    places = shardings(lm_state_shapes(config, vocabulary, mesh))
    optimizer = lm_optimizer(config)

    def train_step(state: TrainState, batch: Arrays):
        key = jax.random.fold_in(jax.random.key(state.seed), state.step)
        labels, lengths, valid = (batch["text"][name] for name in ("labels", "label_lengths", "valid"))
        count = jnp.sum(jnp.where(valid, lengths + 1, 0))

        def loss_of(params):
            of_texts = jnp.where(valid, -merge_lm(config.model, vocabulary, params).log_prob(labels, lengths, key), 0)
            return jnp.sum(of_texts) / jnp.maximum(count, 1), of_texts

        (loss, of_texts), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        after, metrics = updated(state, gradient, optimizer, config.optimizer.ema_decay)
        metrics |= {"loss": (loss * count, count), "texts": (jnp.sum(valid), 1.0), "labels": (count, 1.0)}
        return after, metrics | {"text_loss": of_texts}

    return jax.jit(train_step, donate_argnums=0, out_shardings=(places, None))


def print_lm_summary(config: LmConfig, run: RunDirectory, data: LmData, begun: Start, mesh) -> None:
    """Print the derived numbers before anything long begins."""
    print_start(config, run, begun)
    log(f"model    {count_weights(begun.state.params):,} parameters over {data.tokenizer.size - 1} labels and the end")
    log(f"devices  {describe(mesh)}")
    log(f"train    {data.texts.describe()}")
    if data.dev:
        log(f"dev      {data.dev.describe()}")
    log(f"batches  {data.plan.describe(1, 'labels')}")
    print_decay(config)
    if remark := misfit(config.data.normalizer, data.texts.languages):
        log(f"warning  {remark}")


def make_reporting(config: LmConfig, data: LmData) -> Reporting:
    """Return the columns that the training script adds to those of the step."""

    def host_columns(done: int, window: Window):
        speed = window.total("labels") / window.seconds
        row = {"epoch": done / data.plan.steps_per_epoch, "labels_per_second": speed}
        return row, f"perplexity {perplexity_of(window.mean('loss')):.3f}, {speed:.0f} labels/s"

    def nonfinite_rows(batch: Batch, losses: dict[str, np.ndarray]) -> list[str]:
        rows = batch.rows["text"]
        return nonfinite_ids(data.texts, rows, losses["text_loss"]) or ids(data.texts, rows)

    columns = (*COLUMNS, SKIPPED) if config.optimizer.skip_above else COLUMNS
    return Reporting(columns, schedule(config.optimizer, config.training.steps), host_columns, nonfinite_rows)


def make_evaluation(config: LmConfig, data: LmData, mesh: jax.sharding.Mesh) -> Callable[[dict], DevResult] | None:
    """Return the evaluation of the dev set's perplexity, a function of weights; None without a dev set."""
    if not data.dev:
        return None
    perplexity = Perplexity(config, data.dev, mesh)

    def evaluate(weights) -> DevResult:
        by_label, by_word = perplexity(weights)
        rates = {"dev_perplexity": by_label, "dev_word_perplexity": by_word}
        shown = f"perplexity {by_label:.3f} a label" + ("" if by_word is None else f", {by_word:.2f} a word")
        return DevResult(by_label, rates, shown)

    return evaluate


def perplexity_of(nats: float) -> float:
    """Return e to the power of a mean negative log probability in nats; infinity where that is beyond any float."""
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf


class Perplexity:
    """Computes the perplexity of a language model on some texts, per label and per word; compiled once for any weights.

    The end of a text is predicted too, and counts as one more label and as one more word. There is none per word where
    most letters of the texts are in scripts without spaces between words.
    """

    def __init__(self, config: LmConfig, texts: Dataset, mesh: jax.sharding.Mesh):
        self._texts = texts
        self._mesh = mesh
        self._prefetch = config.data.prefetch_batches
        self._plan = label_plan(texts, config.data, config.seed, shuffle=False)
        self._labels = int(texts.label_lengths.sum(dtype=np.int64)) + len(texts)
        self._words = 0 if mostly_unspaced(texts.texts()) else int(texts.words.sum(dtype=np.int64)) + len(texts)

        @jax.jit
        def log_prob(weights, labels, lengths, valid):
            model = merge_lm(config.model, texts.tokenizer.size, weights)
            return jnp.sum(jnp.where(valid, model.log_prob(labels, lengths), 0))

        self._log_prob = log_prob

    def __call__(self, weights) -> tuple[float, float | None]:
        """Return the perplexity per label, and per word or None; infinity where it is beyond any float, as that of words
        of hundreds of letters may be."""
        total = 0.0
        for batch in text_batches(self._texts, self._plan, parts=rows_here(self._mesh), prefetch=self._prefetch):
            text = batch.arrays["text"]
            own = put_batch({name: text[name] for name in ("labels", "label_lengths", "valid")}, self._mesh)
            total += float(self._log_prob(weights, own["labels"], own["label_lengths"], own["valid"]))
        by_word = perplexity_of(-total / self._words) if self._words else None
        return perplexity_of(-total / self._labels), by_word
