"""The joint model as a task of the training loop."""

from __future__ import annotations

import numpy as np

from joint_st.analysis.layers import LayerAnalysis
from joint_st.config import Config, check_devices
from joint_st.data.normalizers import normalizer
from joint_st.data.pipeline import batches
from joint_st.distributed.mesh import rows_here
from joint_st.evaluation.evaluate import Scorer, evaluate_run
from joint_st.training.apart import Steps
from joint_st.training.loggers import COLUMNS, COUNTS
from joint_st.training.optimizer import schedule
from joint_st.training.setup import introduce, open_data, open_state
from joint_st.training.step import make_train_step
from joint_st.training.task import DevResult, Task


class JointTask(Task):
    """Speech and text, as `config` says."""

    fields = ("data.train, data.text", "data.train, data.dev, data.text")
    metric = "wer"
    columns = COLUMNS
    counts = COUNTS

    def __init__(self, config: Config):
        self.config = config

    def check(self, device_count):
        check_devices(self.config, device_count)

    def open(self, run):
        normalize = normalizer(self.config.data.normalizer)
        self.data = open_data(self.config, run, normalize)
        self.facts = {"normalizer": str(normalize), "data": self.data.fingerprint}
        self.fingerprint = self.data.fingerprint_of_all
        self._sizes = self.data.tokenizer.size, self.data.unit_count

    def restore(self, mesh, checkpoints):
        return open_state(self.config, *self._sizes, mesh, checkpoints)

    def introduce(self, run, state, mesh):
        introduce(self.config, run, self.data, state, mesh)

    def steps_apart(self, done):
        data = self.data
        if done >= self.config.training.steps:
            return None
        return Steps(self.config, *self._sizes, data.plan.buckets, data.text_buckets, done < data.text_first)

    def compile(self, programs, state, mesh, *before):
        config, data = self.config, self.data
        text_buckets = data.text_buckets
        on_text = int(state.step) < data.text_first
        if on_text:
            programs.add(make_train_step(config, *self._sizes, mesh, speech=False), state, None, text_buckets, *before)
            programs.wait()
        programs.add(make_train_step(config, *self._sizes, mesh), state, data.plan.buckets, text_buckets, *before)
        if not on_text:
            programs.wait()
        self._score_dev = Scorer(config, data.dev, mesh, data.unit_count) if data.dev else None
        # Where there is text and a logger that shows figures.
        shows_figures = data.units and data.dev and config.training.loggers
        self._analyse_dev = LayerAnalysis(config, data.dev, mesh, data.unit_count) if shows_figures else None
        self.evaluates = bool(self._score_dev)
        return "; what speech needs is compiled meanwhile" if on_text else f", {len(programs)} shapes"

    def batches(self, start, mesh):
        found = batches(
            self.data.paired,
            self.data.plan,
            text=self.data.text_and_plan,
            text_first=self.data.text_first,
            start=start,
            parts=rows_here(mesh),
            read_threads=self.config.data.read_threads,
            prefetch=self.config.data.prefetch_batches,
        )
        for i, batch in found:
            yield i, {name: rows for name, rows in batch.items() if name not in ("index", "text_index")}

    def shape_of(self, i):
        return self.data.buckets_of(i)

    def schedule(self):
        training = self.config.training
        return schedule(self.config.optimizer, training.steps, training.text_first_steps)

    def complete(self, done, metrics):
        # Not `data.unreadable`, which counts on one host, and already in the batches read ahead.
        if planned := self.data.planned(done - 1):
            metrics["unreadable"] = (np.count_nonzero(planned.rows >= 0) - metrics["utterances"][0], 1)

    def row(self, done, window):
        data = self.data
        speed = window.total("audio_samples") / self.config.model.features.sample_rate / window.seconds
        row = {
            "epoch": max(done - data.text_first, 0) / data.plan.steps_per_epoch,
            "audio_seconds_per_second": speed,
        }
        return row, f"{speed:.0f} audio-s/s" if "audio_samples" in window else "on text alone"

    def culprits(self, done, rows):
        def named(dataset, planned, losses):
            culprits = (planned.rows >= 0) & ~np.isfinite(losses[: len(planned.rows)])
            return [dataset.id(int(n)) for n in planned.rows[culprits]]

        data, planned = self.data, self.data.planned(done - 1)
        names = named(data.paired, planned, rows["utterance_loss"]) if planned else []
        if "text_loss" in rows:
            names += named(data.text, data.text_plan[done - 1], rows["text_loss"])
        if not names and planned:
            names = [data.paired.id(int(n)) for n in planned.rows[planned.rows >= 0]]
        return names

    def evaluate(self, weights):
        rates = self._score_dev(weights, "dev")
        shown = ", ".join(f"{name.removeprefix('dev_')} {value:.2%}" for name, value in rates.items())
        found = DevResult(rates["dev_full_context_wer"], rates, shown)
        if self._analyse_dev:
            from joint_st.analysis.figures import figure_to_image  # brings Matplotlib, which takes a while

            report = self._analyse_dev(weights)
            images = {name: figure_to_image(figure) for name, figure in report.figures().items()}
            found = found._replace(more=report.scalars(), images=images)
        return found

    def finish(self, run):
        if self.config.data.test:
            evaluate_run(run.root)
