"""The language model as a task of the training loop."""

from __future__ import annotations

import hashlib
import math
import time

import numpy as np

from joint_st import storage
from joint_st.config import LmConfig, check_lm_devices
from joint_st.data.dataset import open_lm_texts
from joint_st.data.index import Indexes
from joint_st.data.normalizers import normalizer
from joint_st.data.pipeline import label_plan, text_batches
from joint_st.data.texts import normalised_texts
from joint_st.data.tokenizers import DESCRIPTION, load_tokenizer, make_tokenizer
from joint_st.distributed.mesh import describe, rows_here
from joint_st.models.functional import count_weights
from joint_st.runs.directory import RunDirectory
from joint_st.runs.trained_lm import METRIC
from joint_st.training.lm.perplexity import PerplexityScorer
from joint_st.training.lm.step import make_init, make_train_step, state_shapes
from joint_st.training.optimizer import schedule
from joint_st.training.setup import say
from joint_st.training.task import DevResult, Task

COLUMNS = (
    "epoch",
    "loss",
    "gradient_norm",
    "learning_rate",
    "texts",
    "labels_per_second",
    "dev_perplexity",
    "dev_word_perplexity",
)
"""Columns of `metrics.csv` after `step`; the loss is in nats a label."""


class LmTask(Task):
    """Texts, as `config` says."""

    fields = ("data.train", "data.train, data.dev")
    metric = METRIC
    columns = COLUMNS
    counts = frozenset({"texts"})

    def __init__(self, config: LmConfig):
        self.config = config

    def check(self, device_count):
        check_lm_devices(self.config, device_count)

    def open(self, run):
        data, normalize = self.config.data, normalizer(self.config.data.normalizer)
        began, indexes = time.perf_counter(), Indexes(data.index_cache, normalize)
        self._make_tokenizer(run, indexes)
        self.tokenizer = load_tokenizer(run.tokenizer)
        made_with = data, normalize, self.tokenizer
        self.dev = open_lm_texts(data.dev, *made_with, "data.dev", indexes=indexes) if data.dev else None
        self.texts = open_lm_texts(data.train, *made_with, "data.train", self.dev, indexes=indexes)
        self.plan = label_plan(self.texts, data, self.config.seed, shuffle=True)
        self.plan[0]
        say(indexes.describe(time.perf_counter() - began))
        lengths = self.texts.label_lengths.tobytes()
        self.facts = {"normalizer": str(normalize), "data": hashlib.sha256(lengths).hexdigest()[:16]}
        of_dev = self.dev.label_lengths.tobytes() if self.dev else b""
        self.fingerprint = hashlib.sha256(lengths + of_dev).hexdigest()[:16]

    def _make_tokenizer(self, run: RunDirectory, indexes: Indexes) -> None:
        """The run's tokenizer: another run's, or one made from the training texts."""
        if not (run.tokenizer / DESCRIPTION).exists():
            config = self.config.data.tokenizer
            texts = () if config.path else normalised_texts(self.config.data.train, indexes)
            # Elsewhere until it is whole: the process may be killed at any moment.
            with storage.draft_folder(run.root / ".texts") as draft:
                make_tokenizer(config, texts).save(draft / "tokenizer")
                storage.move_into_place(draft / "tokenizer", run.tokenizer, last=DESCRIPTION)

    def restore(self, mesh, checkpoints):
        latest = checkpoints.latest()
        if latest is None:
            return make_init(self.config, self.tokenizer.size, mesh)()
        return checkpoints.restore(latest, state_shapes(self.config, self.tokenizer.size, mesh))

    def introduce(self, run, state, mesh):
        start = int(state.step)
        begin = f"goes on from step {start} of" if start else "starts;"
        say(f"{self.config.name} in {run.root} {begin} {self.config.training.steps} steps")
        say(f"model    {count_weights(state.params):,} parameters over {self.tokenizer.size - 1} labels and the end")
        say(f"devices  {describe(mesh)}")
        say(f"train    {self.texts.describe()}")
        if self.dev:
            say(f"dev      {self.dev.describe()}")
        say(f"batches  {self.plan.describe(1, 'labels')}")

    def compile(self, programs, state, mesh, *before):
        programs.add(make_train_step(self.config, self.tokenizer.size, mesh), state, None, self.plan.buckets, *before)
        programs.wait()
        self._score_dev = PerplexityScorer(self.config, self.dev, mesh) if self.dev else None
        self.evaluates = bool(self.dev)
        return f", {len(programs)} shapes"

    def batches(self, start, mesh):
        prefetch = self.config.data.prefetch_batches
        for i, batch in text_batches(self.texts, self.plan, start=start, parts=rows_here(mesh), prefetch=prefetch):
            yield i, {name: rows for name, rows in batch.items() if name != "text_index"}

    def shape_of(self, i):
        return None, self.plan[i].bucket

    def schedule(self):
        return schedule(self.config.optimizer, self.config.training.steps)

    def row(self, done, window):
        speed = window.total("labels") / window.seconds
        row = {"epoch": done / self.plan.steps_per_epoch, "labels_per_second": speed}
        return row, f"perplexity {math.exp(window.mean('loss')):.3f}, {speed:.0f} labels/s"

    def culprits(self, done, rows):
        planned = self.plan[done - 1]
        there = planned.rows >= 0
        wrong = there & ~np.isfinite(rows["text_loss"][: len(planned.rows)])
        return [self.texts.id(int(n)) for n in planned.rows[wrong if wrong.any() else there]]

    def evaluate(self, weights):
        found = self._score_dev(weights)
        rates = {"dev_perplexity": found.of_label, "dev_word_perplexity": found.of_word}
        return DevResult(found.of_label, rates, f"perplexity {found.of_label:.3f} a label, {found.of_word:.2f} a word")
