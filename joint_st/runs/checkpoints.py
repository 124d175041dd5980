"""Checkpoints of a run: asynchronous, the latest and the best by WER kept, complete or not there at all.

A checkpoint holds two items: `state`, the arrays, and `facts`, a small JSON object (the step, the size of the
vocabulary, the dev set's WER). Orbax writes into a temporary folder and renames it when it is whole (in a bucket, it
ends with a file that says so), so a process killed during a save leaves the checkpoints before it untouched.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from joint_st import storage
from joint_st.errors import UserError

METRIC = "wer"
"""Name of the metric that ranks checkpoints, where they say no other; lower is better."""

BLOCK = 4096
"""Bytes that a file system rounds each array's file up by, at most."""

MAKE_ROOM = "make room, and the same command goes on from the last one that is complete"


class Checkpoints:
    """The checkpoints under `directory`; a context manager that finishes pending saves on leaving.

    Raises `UserError` where they are to be read only and there is no such directory.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keep_latest: int = 1,
        keep_best: int = 1,
        read_only: bool = False,
        metric: str = METRIC,
    ):
        self.directory = directory if storage.is_remote(directory) else Path(directory).resolve()
        if read_only and not self.directory.is_dir():
            raise self._none()
        self.metric = metric
        policies = [checkpoint_managers.LatestN(keep_latest)]
        policies.append(
            checkpoint_managers.BestN(
                get_metric_fn=lambda metrics: metrics[metric],
                reverse=True,
                n=keep_best,
                keep_checkpoints_without_metrics=False,
            )
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=None if read_only else checkpoint_managers.AnyPreservationPolicy(policies),
            best_fn=lambda metrics: metrics[metric],
            best_mode="min",
            read_only=read_only,
            create=not read_only,
        )
        with storage.as_user_error(self.directory):
            self._manager = ocp.CheckpointManager(self.directory, options=options)

    def _none(self) -> UserError:
        return UserError(f"{self.directory}: no complete checkpoint; train the run first")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._manager.close()

    def latest(self) -> int | None:
        """Step of the latest complete checkpoint, or `None`."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """Step of the checkpoint with the lowest metric; the latest where none has one."""
        step = self._manager.best_step()
        return self.latest() if step is None else step

    def choose(self, which: str) -> int:
        """Step of checkpoint `which`: `best`, `latest` or a step. Raises `UserError` where there is none."""
        steps = sorted(self._manager.all_steps())
        if not steps:
            raise self._none()
        if which == "best":
            return self.best()
        if which == "latest":
            return steps[-1]
        if which.isdecimal() and int(which) in steps:
            return int(which)
        there = ", ".join(map(str, steps))
        raise UserError(f"{self.directory}: no checkpoint {which!r}; there are best, latest, {there}")

    def save(self, step: int, state: Any, facts: dict, rank: float | None) -> None:
        """Begin to save `state` after `step` steps, in the background; `rank`, its metric, where it is known.

        Raises `UserError` where the disk is too full, or would not take the checkpoint before this one.
        """
        if step in self._manager.all_steps():
            return
        self.wait()
        self._check_room(state)
        with self._disk_errors():
            self._manager.save(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardSave(state), facts=ocp.args.JsonSave(facts)),
                metrics=None if rank is None else {self.metric: rank},
                force=True,
            )

    def wait(self) -> None:
        """Return when pending saves are on disk; raises `UserError` where the disk would not take them."""
        with self._disk_errors():
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    def _check_room(self, state) -> None:
        if storage.is_remote(self.directory):
            return
        # In advance, because Orbax fills the terminal with one traceback per array when a write fails.
        needed = sum(leaf.nbytes + BLOCK for leaf in jax.tree.leaves(state))
        disk = shutil.disk_usage(self.directory)
        if disk.total and disk.free < needed:
            raise UserError(
                f"{self.directory}: a checkpoint takes {_mib(needed)}, and {_mib(disk.free)} are free; {MAKE_ROOM}"
            )

    @contextlib.contextmanager
    def _disk_errors(self):
        """Turns what the operating system, or a bucket, refused into a `UserError`."""
        try:
            with storage.as_user_error(self.directory):
                yield
        except (OSError, ValueError) as error:
            # TensorStore raises ValueError, the system's own code in its message.
            code = re.search(r"os_error_code='(\d+)'", str(error))
            if isinstance(error, ValueError) and not code or storage.is_remote(self.directory):
                raise
            why = os.strerror(int(code[1])) if code else error
            free = _mib(shutil.disk_usage(self.directory).free)
            raise UserError(
                f"{self.directory}: a checkpoint could not be saved: {why} ({free} free); {MAKE_ROOM}"
            ) from error

    def facts(self, step: int) -> dict:
        """The facts saved with `step`."""
        return self._manager.restore(step, args=ocp.args.Composite(facts=ocp.args.JsonRestore())).facts

    def restore(self, step: int, like: Any) -> Any:
        """The state of `step`; `like` holds the shapes, types and shardings to restore onto."""
        return self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(like))).state

    def restore_part(self, step: int, like: dict) -> dict:
        """Only the parts of the state that `like` names, as after `NamedTuple._asdict`: `{"average": ...}`.

        Raises `UserError` where such a part holds other arrays than `like`: the code that made it was another.
        """
        with self._reader() as manager:
            stored = manager.item_metadata(step)["state"].tree
            _check_same_arrays({part: stored.get(part, {}) for part in like}, like, self.directory / str(step))
            return _restored(manager, step, like)

    def shapes(self, step: int, part: str) -> dict[str, tuple[int, ...]]:
        """The shape of each array that is stored in a part of the state (`params`, `average`), by its dotted name."""
        with self._reader() as manager:
            return _shapes(manager.item_metadata(step)["state"].tree[part])

    def restore_arrays(self, step: int, part: str, like: dict[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
        """Some arrays of a part of the state by their dotted names; `like` holds their types and shardings."""
        tree: dict = {}
        for name, x in like.items():
            *parents, last = name.split(".")
            node = tree
            for parent in parents:
                node = node.setdefault(parent, {})
            node[last] = x
        with self._reader() as manager:
            found = _restored(manager, step, {part: tree})[part]
        return named_leaves(found)

    def _reader(self) -> ocp.CheckpointManager:
        """A manager that restores single arrays."""
        return ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(read_only=True),
            item_handlers={"state": ocp.PyTreeCheckpointHandler()},
        )


def named_leaves(tree: Any) -> dict[str, Any]:
    """Arrays, or shapes of arrays, by their dotted names, in the order of the tree."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))
    return {jax.tree_util.keystr(path, simple=True, separator="."): x for path, x in leaves}


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(x.shape) for name, x in named_leaves(tree).items()}


def _restored(manager: ocp.CheckpointManager, step: int, like: dict) -> dict:
    restore_args = jax.tree.map(
        lambda x: ocp.ArrayRestoreArgs(sharding=x.sharding, global_shape=x.shape, dtype=x.dtype), like
    )
    args = ocp.args.PyTreeRestore(like, restore_args=restore_args, partial_restore=True)
    return manager.restore(step, args=ocp.args.Composite(state=args))["state"]


def _check_same_arrays(stored: dict, like: dict, where: Path) -> None:
    """Orbax leaves out, without a word, arrays that are stored and not asked for."""
    there, here = _shapes(stored), _shapes(like)
    for name in sorted(there.keys() | here.keys()):
        if there.get(name) != here.get(name):
            is_, wanted = (tree.get(name, "absent") for tree in (there, here))
            raise UserError(
                f"{where}: {name} is {is_} there and {wanted} in this version's model; "
                "use the version it was trained with"
            )


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
