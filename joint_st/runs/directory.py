"""The files of a run, and checks whether an existing run may continue with a config."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from joint_st import storage
from joint_st.config import Config, LmConfig, load, save
from joint_st.config.problems import shown
from joint_st.config.tree import leaves
from joint_st.data.paths import expand
from joint_st.errors import UserError
from joint_st.json_files import NOT_JSON
from joint_st.runs import checksums

CHANGEABLE = (
    "training.steps",
    "training.log_every",
    "training.evaluate_every",
    "training.checkpoint_every",
    "training.keep_latest",
    "training.keep_best",
    "training.loggers",
    "training.compilation_cache",
    "evaluation.",
    "data.read_threads",
    "data.prefetch_batches",
    "data.keep_audio_gib",
    "data.index_cache",
    "data.read_timeout_seconds",
    "data.strict",
    "name",
    "data.test",
    "data.test.",
    "parallel.",
)
"""Fields (and, with a dot at the end, sections) that may change when a run continues: none of them changes what a step
computes, except `training.steps`, which also stretches the learning rate's decay and, with several buckets of text,
reorders the text of the epoch in which it lay, and `parallel.`: on other devices, sentences are masked in other places."""

COMPLETE = "commit_success.txt"
"""File that Orbax writes last into a checkpoint in a bucket; on a disk, a folder is renamed when it is complete."""

FACTS = "facts/metadata"
"""File of a checkpoint's facts."""

METRIC = "wer"
"""Name of the metric that ranks checkpoints, unless they state another one; lower is better."""


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """The places of a run's files. Everything in the directory is relative to it, so a run can be moved."""

    root: Path

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.root / "config.json"

    @property
    def tokenizer(self) -> Path:
        """Folder of the tokenizer."""
        return self.root / "tokenizer"

    @property
    def units(self) -> Path:
        """Folder of the text units' inventory, where there is a text encoder."""
        return self.root / "units"

    @property
    def vocabulary(self) -> Path:
        """File of the words heard in training, and of those in its texts alone."""
        return self.root / "vocabulary.json"

    @property
    def languages(self) -> Path:
        """File of the languages of the training data."""
        return self.root / "languages.json"

    @property
    def ngram(self) -> Path:
        """File of the n-gram model of the run's own texts, where its last table uses one (`evaluation.ngram_order`)."""
        return self.root / "lm.arpa"

    @property
    def without_ngram(self) -> Path:
        """File that says why the last table has no n-gram, and of which order (`evaluation.ngram_order`), where there could
        be none."""
        return self.root / "without_ngram.json"

    @property
    def metrics(self) -> Path:
        """File with a row of metrics every `training.log_every` steps."""
        return self.root / "metrics.csv"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's events."""
        return self.root / "tensorboard"

    @property
    def wandb_id(self) -> Path:
        """File of the id under which Weights & Biases knows the run."""
        return self.root / "wandb_id"

    @property
    def starts(self) -> Path:
        """File with a line for each time that training began or went on: when, and by which code on what devices."""
        return self.root / "starts.jsonl"

    @property
    def profile(self) -> Path:
        """Folder of traces of the profiler, as TensorBoard and xprof read it."""
        return self.root / "profile"

    @property
    def checkpoints(self) -> Path:
        """Folder of Orbax checkpoints, one folder a step."""
        return self.root / checksums.CHECKPOINTS

    @property
    def evaluations(self) -> Path:
        """Folder of tables and per-utterance results."""
        return self.root / "evaluations"

    @property
    def calibration(self) -> Path:
        """File of the temperatures of confidences, by checkpoint, head and decoder."""
        return self.root / "calibration.json"

    def evaluation(
        self,
        step: int,
        splits: Iterable[str],
        decoders: Iterable[str] = ("greedy",),
        heads: Iterable[str] = (),
        look_ahead_ms: float | None = None,
        window_seconds: float | None = None,
    ) -> Path:
        """Return the file of the table of some splits for the checkpoint of `step`; the utterances are next to it,
        as `.jsonl`.

        Greedy decoding alone, as at the end of training, has a file that no other decoder writes. heads: the evaluated
        heads, if not all. look_ahead_ms, window_seconds: the look-ahead, and the windows of long recordings, if they are
        not the run's own.
        """
        decoders = [] if list(decoders) == ["greedy"] else decoders
        ahead = [] if look_ahead_ms is None else [f"look_ahead_{look_ahead_ms:g}"]
        windows = [] if window_seconds is None else [f"windows_of_{window_seconds:g}_s"]
        name = (
            "_".join([f"step_{step}", *splits, *decoders, *heads, *ahead, *windows]).replace("/", "_").replace(" ", "_")
        )
        path, long = (self.evaluations / f"{one}.json" for one in (storage.bounded(name), name))
        # Earlier versions did not bound the length of names.
        return long if path != long and len(os.fsencode(long.name)) < 256 and long.is_file() else path

    def analysis(self, step: int, split: str, utterances: int | None = None) -> Path:
        """Return the file of the table of a layer analysis on a split; its figures are next to it.

        utterances: the largest number that is analyzed, if it is not that of `joint-st report`.
        """
        some = "" if utterances is None else f"_{utterances}_utterances"
        return self.root / "analysis" / f"{storage.bounded(f'step_{step}_{split}{some}'.replace('/', '_'))}.json"

    @property
    def confusions(self) -> Path:
        """File of the confusions of text units that `joint-st confusions` counts."""
        return self.root / "confusions.json"

    @property
    def text_confusions(self) -> Path:
        """The run's own copy of the file that `text.confusions` names."""
        return self.root / "text_confusions.json"

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a complete checkpoint to continue from."""
        return bool(self.checkpoint_steps)

    @property
    def checkpoint_steps(self) -> list[int]:
        """Steps of the complete checkpoints, ascending."""
        if not self.checkpoints.is_dir():
            return []
        found = [entry for entry in self.checkpoints.iterdir() if entry.name.isdecimal()]
        if storage.is_remote(self.root):
            found = [entry for entry in found if (entry / COMPLETE).exists()]
        return sorted(int(entry.name) for entry in found)

    def best_steps(self) -> list[int]:
        """Steps of the checkpoints with the lowest WER (or CER, if that ranks them), several if they tie; the latest if
        none has a rate.

        They are read from the files without JAX, because the caller may run while other processes need the accelerator.
        Raises `UserError` where the facts of one are damaged.
        """
        return best_steps(self.checkpoints, self.checkpoint_steps)

    def clear(self) -> None:
        """Remove everything that was derived from the config, and what was logged, so that another config can replace it."""
        for folder in (self.tokenizer, self.units, self.tensorboard):
            storage.remove_folder(folder)
        inventories = (self.vocabulary, self.languages, self.root / checksums.FILE)
        derived = (self.text_confusions, self.ngram, self.without_ngram, self.calibration)
        for path in (*inventories, *derived, self.metrics, self.starts, self.wandb_id):
            path.unlink(missing_ok=True)

    def inventories(self) -> Iterator[Path]:
        """Return the files of its inventories, which never change: tokenizer, text units, vocabulary, languages."""
        for folder in (self.tokenizer, self.units):
            yield from folder.iterdir() if folder.is_dir() else ()
        yield from (path for path in (self.vocabulary, self.languages) if path.is_file())

    def sum_up_inventories(self, *drafts: Path) -> None:
        """Store the checksums of its inventories, both those in place and those in draft folders that will be moved
        here.

        It is called when all but the last are in place, so that no run has complete inventories without checksums.
        """
        found = {path.relative_to(self.root).as_posix() for path in self.inventories()}
        files = dict(storage.checksums(self.root, found))
        for draft in drafts:
            files |= {f"{draft.name}/{name}": one for name, one in storage.checksums(draft)}
        checksums.write(self.root, files)

    def check_inventories(self) -> None:
        """Raise `UserError` where a file of its inventories has changed since it was written."""
        if damage := checksums.damage(self.root):
            raise UserError(f"{damage}; copy it again from where the run is whole")


def read_facts(checkpoint: Path) -> dict:
    """Read the facts that are stored in a checkpoint's folder next to its arrays; raises `UserError` where they
    are damaged."""
    if damage := checksums.damage(checkpoint, [FACTS]):
        raise UserError(damage)
    file = checkpoint / FACTS
    try:
        facts = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{file}: missing") from None
    except NOT_JSON:
        facts = None
    if not isinstance(facts, dict):
        raise UserError(f"{file}: damaged: no JSON object")
    return facts


def best_steps(checkpoints: Path, steps: Sequence[int], metric: str = METRIC) -> list[int]:
    """Return the steps with the lowest metric, several if they tie; the latest if none has a metric.

    metric: name of the metric, if the facts of a checkpoint do not state it. One that a training has removed since counts
    no longer. Raises `UserError` where the facts of one are damaged.
    """
    steps = [step for step in steps if (checkpoints / str(step)).is_dir()]
    found = {step: _rank(checkpoints / str(step), metric) for step in steps}
    known = {step: value for step, value in found.items() if value is not None}
    return [step for step in known if known[step] == min(known.values())] or list(steps[-1:])


def _rank(checkpoint: Path, metric: str) -> float | None:
    """Return the number by which a checkpoint is ranked; None where its facts have none."""
    facts = read_facts(checkpoint)
    metric = facts.get("ranked_by", metric)
    if not isinstance(metric, str):
        raise UserError(f"{checkpoint / FACTS}: damaged: ranked_by is no name of a metric")
    value = facts.get(metric)
    if value is not None and not isinstance(value, int | float):
        raise UserError(f"{checkpoint / FACTS}: damaged: {metric} is no number")
    return value


def open_run(workdir: Path, config: Config | LmConfig) -> RunDirectory:
    """Make the directory of a run and store the config, or check that the run there may continue with `config`.

    A run that ended before its first checkpoint starts again, with any config. The config of a run with checkpoints is
    stored when it goes on, since the start may still be refused, and must then leave the run as it is. Raises `UserError`
    that names the field in which the two configs differ, and both values; where the directory is somebody else's, has checkpoints without a
    config, or its checkpoints were removed or are on a disk that is not there; or where it is in a bucket that cannot be
    read or written to.
    """
    run = RunDirectory(storage.path(workdir))
    storage.check_access(run.root)
    if run.config.exists():
        if run.has_checkpoint:
            check_same(run, config)
            return run
        check_unused(run)
        run.clear()
    elif run.has_checkpoint:
        raise UserError(
            f"{run.config}: missing, and {run.checkpoints} has some; copy it too, or name another --workdir"
        )
    elif run.root.exists() and not run.root.is_dir():
        raise UserError(f"{run.root}: a file, where the directory of a run should be; name another --workdir")
    run.root.mkdir(parents=True, exist_ok=True)
    save(config, run.config)
    return run


def check_unused(run: RunDirectory) -> None:
    """Raise `UserError` where a directory with a config but without checkpoints may hold what its user wants to keep."""
    if not storage.is_remote(run.root) and os.path.islink(run.checkpoints) and not run.checkpoints.exists():
        target = os.readlink(run.checkpoints)
        raise UserError(
            f"{run.checkpoints}: a link to {target}, which is not there; mount it, or name another --workdir"
        )
    try:
        there = json.loads(run.config.read_bytes())
    except NOT_JSON:
        there = None
    if not (isinstance(there, dict) and {"data", "training"} <= there.keys()):
        raise UserError(f"{run.config}: not the config of a run; name another --workdir")
    if found := _left_of_training(run, there["training"]):
        raise UserError(
            f"{run.checkpoints}: has no checkpoint, and {found} is there: starting again would replace what was trained; "
            f"put the checkpoints back, remove {run.root}, or name another --workdir"
        )


def _left_of_training(run: RunDirectory, training: Any) -> Path | None:
    """Return a file that shows that a run without checkpoints has had one; None where there is none.

    training: that section of its config. Before the first checkpoint is saved, its step's row of metrics is written, and
    the dev set is evaluated; a training that ended while it was saved has left a part of it.
    """
    if run.evaluations.is_dir() and any(run.evaluations.glob("*.json")):
        return run.evaluations
    every = training.get("checkpoint_every") if isinstance(training, dict) else None
    if not isinstance(every, int) or not run.metrics.is_file():
        return None
    steps = (line.partition(b",")[0] for line in run.metrics.read_bytes().splitlines())
    if not any(step.isdigit() and int(step) > every for step in steps):
        return None
    being_saved = run.checkpoints.is_dir() and any(entry.name[:1].isdecimal() for entry in run.checkpoints.iterdir())
    return None if being_saved else run.metrics


def existing_run(workdir: Path) -> RunDirectory:
    """Return the run in a directory; raises `UserError` where there is none."""
    run = RunDirectory(storage.path(workdir))
    storage.check_access(run.root)
    if not run.config.is_file():
        problem = f"no run (no {run.config.name} in it)" if run.root.is_dir() else "no such directory"
        raise UserError(f"{run.root}: {problem}")
    refuse_links(run)
    return run


def refuse_links(run: RunDirectory) -> None:
    """Raise `UserError` where a file or folder of a run is a link that leads out of it.

    A run may come from anyone, and a link in it could make any file of this machine be read or written. The run's
    directory itself may be a link, and so may the folder of checkpoints, which are only read as arrays and are often on
    a larger disk.
    """
    if storage.is_remote(run.root):
        return
    root = run.root.resolve()
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.is_symlink() and name != run.checkpoints.name and not path.resolve().is_relative_to(root):
                raise UserError(
                    f"{path}: a link that leads out of the run, to {os.readlink(path)}; copy what it leads to"
                )
        if run.checkpoints.name in folders:
            folders.remove(run.checkpoints.name)


def _changeable(path: str) -> bool:
    return any(path == known or known.endswith(".") and path.startswith(known) for known in CHANGEABLE)


_PLACES = ("data.train", "data.dev", "data.text.", "data.index_cache", "data.tokenizer.path", "training.")
"""Beginnings of fields that may be edited when a run has moved, since what its weights compute does not depend on
them."""


def fixed_fields(config: Config | LmConfig) -> dict[str, Any]:
    """Return the fields that determine what a run's weights compute, by dotted path, as in JSON; checkpoints store
    them."""
    fixed = (leaf for leaf in leaves(config) if not _changeable(leaf.path) and not leaf.path.startswith(_PLACES))
    return {leaf.path: to_jsonable_python(leaf.value) for leaf in fixed}


def check_config(run: RunDirectory, config: Config | LmConfig, facts: dict) -> None:
    """Raise `UserError` where the config of a run is no longer the one with which a checkpoint was trained.

    facts: facts of the checkpoint. Fields that only one of the two has come from another version and are ignored.
    """
    if not checksums.verifies():
        return
    now = fixed_fields(config)
    for path, before in facts.get("config", {}).items():
        if path in now and now[path] != before:
            raise UserError(
                f"{run.config}: damaged, or edited: {path} is {shown(now[path])}, and the checkpoint of step "
                f"{facts['step']} was trained with {shown(before)}; set it to that"
            )


def _absent(differing: Sequence[str], now: dict[str, Any]) -> str:
    """Return a remark on the first of some fields whose file does not exist; empty where there is none."""
    for path in differing:
        value = now.get(path)
        if path.endswith(".path") and value and not storage.is_remote(value):
            why = storage.why_no_file(expand(value))
            if why.startswith("no such file"):  # a tokenizer's path may be a folder
                return f"; {shown(value)}: {why}"
    return ""


def check_same(run: RunDirectory, config: Config | LmConfig, fixed: Sequence[str] = ()) -> None:
    """Raise `UserError` that names a field, other than `CHANGEABLE` ones, in which the stored config differs.

    fixed: fields that may not differ although they are changeable.
    """
    before = {leaf.path: leaf.value for leaf in leaves(load(run.config, type(config)))}
    now = {leaf.path: leaf.value for leaf in leaves(config)}
    differing = [
        path
        for path in {**before, **now}
        if (path in fixed or not _changeable(path))
        and (path in before, before.get(path)) != (path in now, now.get(path))
    ]
    if differing:
        path = differing[0]
        values = [shown(side[path]) if path in side else "absent" for side in (before, now)]
        more = f" (and {len(differing) - 1} more)" if len(differing) > 1 else ""
        raise UserError(
            f"{path}: {values[0]} in {run.config}, {values[1]} now{more}{_absent(differing, now)}; "
            "go on with the run's own value, or name another --workdir"
        )
