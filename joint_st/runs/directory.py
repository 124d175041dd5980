"""The files of a run, and whether an existing run may go on with a config."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

from joint_st import storage
from joint_st.config import Config, LmConfig, load, save
from joint_st.config.problems import shown
from joint_st.config.tree import leaves
from joint_st.errors import UserError

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
    "data.strict",
    "name",
    "data.test",
    "data.test.",
    "parallel.",
)
"""Fields (and, with a dot at the end, sections) that may change when a run goes on: none of them changes what
a step computes, but for `training.steps`, which also stretches the learning rate's decay."""

COMPLETE = "commit_success.txt"
"""What Orbax writes last into a checkpoint in a bucket; on a disk a folder gets its name when it is complete."""


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """Where a run keeps what. Everything in it is relative to it, so a run can be moved."""

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
        """The words heard in training, and those of its texts alone."""
        return self.root / "vocabulary.json"

    @property
    def languages(self) -> Path:
        """Languages of the training data."""
        return self.root / "languages.json"

    @property
    def metrics(self) -> Path:
        """A row of numbers every `training.log_every` steps."""
        return self.root / "metrics.csv"

    @property
    def checkpoints(self) -> Path:
        """Folder of Orbax checkpoints, one folder a step."""
        return self.root / "checkpoints"

    @property
    def evaluations(self) -> Path:
        """Folder of tables and per-utterance results."""
        return self.root / "evaluations"

    @property
    def calibration(self) -> Path:
        """Temperatures of confidences, by checkpoint, head and decoder."""
        return self.root / "calibration.json"

    def evaluation(
        self, step: int, splits: Iterable[str], decoders: Iterable[str] = ("greedy",), heads: Iterable[str] = ()
    ) -> Path:
        """Table of some splits under the checkpoint of `step`; beside it, as `.jsonl`, the utterances.

        Greedy decoding alone, as at the end of training, has a file that no other decoder writes. heads: where not
        all were evaluated, those that were.
        """
        decoders = [] if list(decoders) == ["greedy"] else decoders
        name = "_".join([f"step_{step}", *splits, *decoders, *heads])
        return self.evaluations / f"{name}.json".replace("/", "_").replace(" ", "_")

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a complete checkpoint to go on from."""
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
        """Steps of the checkpoints with the lowest WER, several where they tie; of the latest where none has a WER.

        Read from the files, without JAX: who asks may run beside processes that need the accelerator.
        """
        steps = self.checkpoint_steps
        wers = {}
        for step in steps:
            facts = json.loads((self.checkpoints / str(step) / "facts" / "metadata").read_bytes())
            if facts["wer"] is not None:
                wers[step] = facts["wer"]
        return [step for step in wers if wers[step] == min(wers.values())] or steps[-1:]

    def clear(self) -> None:
        """Remove what was derived from the config, so that another may take its place."""
        for folder in (self.tokenizer, self.units):
            storage.remove_folder(folder)
        for path in (self.vocabulary, self.languages, self.metrics):
            path.unlink(missing_ok=True)


def open_run(workdir: Path, config: Config | LmConfig) -> RunDirectory:
    """Makes the directory of a run, or checks that the run there may go on with `config`; stores the config.

    A run that has no checkpoint yet, because a mistake or an accident ended it, begins anew with whatever config.
    Raises `UserError` that names the field in which the two configs differ, and both values; or where the directory
    is in a bucket that cannot be read or written.
    """
    run = RunDirectory(storage.path(workdir))
    storage.check_access(run.root)
    if run.config.exists():
        if run.has_checkpoint:
            check_same(run, config)
        else:
            run.clear()
    elif run.root.exists() and not run.root.is_dir():
        raise UserError(f"{run.root}: a file, where the directory of a run should be; name another --workdir")
    run.root.mkdir(parents=True, exist_ok=True)
    save(config, run.config)
    return run


def existing_run(workdir: Path) -> RunDirectory:
    """The run in a directory; raises `UserError` where there is none."""
    run = RunDirectory(storage.path(workdir))
    storage.check_access(run.root)
    if not run.config.is_file():
        problem = f"no run (no {run.config.name} in it)" if run.root.is_dir() else "no such directory"
        raise UserError(f"{run.root}: {problem}")
    return run


def _changeable(path: str) -> bool:
    return any(path == known or known.endswith(".") and path.startswith(known) for known in CHANGEABLE)


def check_same(run: RunDirectory, config: Config | LmConfig) -> None:
    """Raises `UserError` that names a field, not one of `CHANGEABLE`, in which the stored config is another one."""
    before = {leaf.path: leaf.value for leaf in leaves(load(run.config, type(config)))}
    now = {leaf.path: leaf.value for leaf in leaves(config)}
    differing = [
        path
        for path in {**before, **now}
        if not _changeable(path) and (path in before, before.get(path)) != (path in now, now.get(path))
    ]
    if differing:
        path = differing[0]
        values = [shown(side[path]) if path in side else "absent" for side in (before, now)]
        more = f" (and {len(differing) - 1} more)" if len(differing) > 1 else ""
        raise UserError(
            f"{path}: {values[0]} in {run.config}, {values[1]} now{more}; "
            "go on with the run's own value, or name another --workdir"
        )
