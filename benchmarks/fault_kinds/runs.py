"""Runs of the campaign: the tiny config, on a disk and in a stand-in bucket, and whether two runs are the same."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from benchmarks.fault_kinds.processes import Running, pair
from benchmarks.fault_kinds.trial import Outcome, Trial
from joint_st.config import load, override, save
from joint_st.runs.directory import COMPLETE
from tests.gcs import Store
from tests.tiny import environment, saved_arrays, tiny_config

STEPS = 40
SMALL_STEP = "tests.distributed.small_step"
"""`joint_st` with a step that compiles at once."""


def variables(trial: Trial, **more: str) -> dict[str, str]:
    """Return the environment of the campaign's processes: a cache of compiled programs in common, little
    optimisation."""
    own = {
        "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR", str(trial.shared / "compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "OPENBLAS_NUM_THREADS": "1",
    }
    return environment(**own, **more)


def corpora(trial: Trial) -> Path:
    """Return a TFDS folder with `spoken_grammar/tiny`."""

    def make(folder: Path) -> None:
        from joint_st.data.corpora import build_if_absent

        build_if_absent("spoken_grammar/tiny", str(folder))

    return trial.made("corpora", make)


def tiny(trial: Trial) -> Path:
    """Return the config of a run of `STEPS` steps of a real model: dropout and SpecAugment on, no cadence divides
    another."""

    def make(file: Path) -> None:
        cadence = {"training.checkpoint_every": 4, "training.evaluate_every": 18, "training.log_every": 5}
        changes = {"data.test": {}, "training.steps": STEPS, "training.keep_latest": 2}
        save(tiny_config(corpora(trial), changes | cadence), file)

    return trial.made("tiny.json", make)


def small(trial: Trial) -> Path:
    """Return the config of a run of 80 steps for `SMALL_STEP`, without evaluations, for several processes of two
    devices."""

    def make(file: Path) -> None:
        changes = {
            "data.batch_size": 8,
            "data.text": (),
            "data.dev": (),
            "data.test": {},
            "model.audio_layers": 0,
            "parallel.cpu_devices": 2,
            "training.steps": 80,
            "training.checkpoint_every": 4,
            "training.log_every": 8,
        }
        save(tiny_config(corpora(trial), changes), file)

    return trial.made("small.json", make)


def with_changes(config: Path, place: Path, changes: dict) -> Path:
    """Another config, with some fields changed."""
    save(override(load(config), changes), place)
    return place


def trained(trial: Trial) -> Path:
    """Return the run of `tiny` in one go."""

    def make(folder: Path) -> None:
        logs = trial.work / "trained_logs"
        ended = Running("train", tiny(trial), "--workdir", folder, logs=logs, env=variables(trial)).end(600)
        if ended.status:
            raise RuntimeError(f"the run that others are compared with could not be trained: {ended.told}")

    return trial.made("trained", make)


def trained_by_two(trial: Trial) -> Path:
    """Return the run of `small` in one go, by two processes."""

    def make(folder: Path) -> None:
        logs = trial.work / "trained_logs"
        arguments = ("train", small(trial), "--workdir", folder)
        for one in pair(*arguments, logs=logs, module=SMALL_STEP, env=variables(trial)):
            ended = one.end(600)
            if ended.status:
                raise RuntimeError(f"the run that others are compared with could not be trained: {ended.told}")

    return trial.made("trained_by_two", make)


class Disk:
    """A run in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.place = str(folder)
        """What --workdir is given."""
        self.variables: dict[str, str] = {}
        """Variables that its processes need."""

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints."""
        there = (self.folder / "checkpoints").glob("*")
        return sorted(int(entry.name) for entry in there if entry.name.isdecimal())

    def saving(self) -> set[str]:
        """Checkpoints being saved, or left by a process killed while it saved them."""
        there = (self.folder / "checkpoints").glob("*")
        return {entry.name for entry in there if entry.name[:1].isdecimal() and not entry.name.isdecimal()}

    def copy(self, _folder: Path) -> Path:
        """Return the run on a disk."""
        return self.folder

    def remove(self) -> None:
        """Removes the run."""
        shutil.rmtree(self.folder, ignore_errors=True)


class InBucket:
    """A run in a bucket of the stand-in."""

    def __init__(self, store: Store, variables: dict[str, str], name: str):
        self._store, self.variables = store, variables
        self.bucket = f"bucket-{name}"
        store.buckets.setdefault(self.bucket, {})
        self.place = f"gs://{self.bucket}/runs/one"

    def _names(self) -> list[str]:
        return self._store.names(self.bucket, "runs/one/checkpoints/")

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints."""
        found = [name.split("/")[3] for name in self._names() if name.endswith(f"/{COMPLETE}")]
        return sorted({int(step) for step in found if step.isdecimal()})

    def saving(self) -> set[str]:
        """Steps of checkpoints that are not complete."""
        return {name.split("/")[3] for name in self._names()} - set(map(str, self.steps()))

    def copy(self, folder: Path) -> Path:
        """Return the run on a disk."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return self._store.download(self.bucket, "runs/one", folder)

    def remove(self) -> None:
        """Removes the run."""
        self._store.buckets[self.bucket] = {}


Place = Disk | InBucket


def rows(run: Path) -> list[dict[str, str]]:
    """Return the rows of `metrics.csv`, but for the one column that measures time."""
    text = (run / "metrics.csv").read_bytes().decode()
    found = list(csv.DictReader(io.StringIO(text, newline="")))
    for row in found:
        row.pop("audio_seconds_per_second", None)
    return found


def difference(run: Path, other: Path) -> str:
    """Return how two runs differ, in weights, optimizer, metrics or inventories; empty where they are the same to the
    bit."""
    steps = [Disk(one).steps() for one in (run, other)]
    if steps[0] != steps[1]:
        return f"checkpoints of steps {steps[0]}, not {steps[1]}"
    if load(run / "config.json") != load(other / "config.json"):
        return "config.json differs"
    for name in ("vocabulary.json", "languages.json", "tokenizer/tokenizer.json"):
        if (run / name).read_bytes() != (other / name).read_bytes():
            return f"{name} differs"
    if rows(run) != rows(other):
        return "the rows of metrics.csv differ"
    one, two = (saved_arrays(place, steps[0][-1]) for place in (run, other))
    if one.keys() != two.keys():
        return "the checkpoints hold other arrays"
    differing = [name for name in one if one[name].tobytes() != two[name].tobytes()]
    return f"{len(differing)} arrays differ, such as {differing[0]}" if differing else ""


def goes_on(trial: Trial, place: Place, start: Callable[[], list[Running]], reference: Path) -> tuple[Outcome, str]:
    """Train a run to its end by the same command; return whether it equals an uninterrupted one, and the output."""
    for one in start():
        ended = one.end(300)
        if ended.status != 0:
            outcome = ended.judge()
            return Outcome.LOST if outcome in (Outcome.REFUSED, Outcome.SURVIVED) else outcome, ended.told
    differs = difference(place.copy(trial.work / "copy"), reference)
    return (Outcome.SILENT, differs) if differs else (Outcome.SURVIVED, "")
