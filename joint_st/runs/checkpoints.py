"""Checkpoints of a run. They are saved asynchronously, the latest and the best by WER are kept, and an incomplete one
never counts.

A checkpoint holds two items: `state`, the arrays, and `facts`, a small JSON object (the step, the size of the
vocabulary, the dev set's WER). Orbax writes into a temporary folder and renames it when it is complete (in a bucket, it
writes a marker file last), so a process that is killed during a save leaves the earlier checkpoints untouched.

Checksums of all files are written before a checkpoint counts as complete, so that no complete checkpoint lacks some. On
a disk, each process computes the checksums of its own files in the background; a bucket stores the checksums of its
files.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from joint_st import storage
from joint_st.distributed.peers import current
from joint_st.errors import UserError
from joint_st.json_files import NOT_JSON
from joint_st.runs import checksums
from joint_st.runs.directory import COMPLETE, METRIC, best_steps, read_facts
from joint_st.runs.remains import DRAFT, REMOVED, remove_moved, remove_remains

BLOCK = 4096
"""Most bytes by which a file system rounds up the file of each array."""

COMPARED_SECONDS = 3600
"""Time limit for every process to compare its part of a checkpoint's files with their checksums."""

_RANK = "metrics/metrics"
"""File of a checkpoint in which Orbax keeps the metric that it ranks by."""

_LATER = (COMPLETE, "_CHECKPOINT_METADATA")
"""Names of files that Orbax writes last, or again, when everything else of a checkpoint exists."""

CHECK_DISK = "check the disk, and the same command goes on from the last one that is complete"
MAKE_ROOM = "make room, and the same command goes on from the last one that is complete"


class Checkpoints:
    """The checkpoints under `directory`; a context manager that finishes pending saves on leaving.

    Raises `UserError` where they are opened only for reading and there is no such directory.
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
        self._read_only = read_only
        policies = [checkpoint_managers.LatestN(keep_latest)]
        policies.append(
            checkpoint_managers.BestN(
                get_metric_fn=lambda metrics: metrics[metric],
                reverse=True,
                n=keep_best,
                keep_checkpoints_without_metrics=False,
            )
        )
        self._saving = 0
        self._options = ocp.CheckpointManagerOptions(
            preservation_policy=None if read_only else checkpoint_managers.AnyPreservationPolicy(policies),
            best_fn=lambda metrics: metrics[metric],
            best_mode="min",
            read_only=read_only,
            todelete_subdir=None if read_only or storage.is_remote(self.directory) else REMOVED,
            save_root_metadata=not read_only,  # otherwise all processes would have to open it together
            create=not read_only,
            lightweight_initialize=read_only,  # otherwise it reads all metrics, and fails where some are damaged
            async_options=None if read_only else self._summing_up(),
        )
        if not read_only:
            if current().is_first:
                remove_remains(self.directory)
            self._check_ranks()
        with storage.as_user_error(self.directory):
            self._manager = ocp.CheckpointManager(self.directory, options=self._options)

    def _none(self) -> UserError:
        return UserError(f"{self.directory}: no complete checkpoint; train the run first")

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        # A failed save raises here again, and must not hide the error that ended the block.
        with contextlib.suppress(Exception) if error else self._disk_errors():
            self._manager.close()
            if not self._read_only:
                self._remove_moved()

    def look_again(self) -> None:
        """List the checkpoints again, because a network file system may show new ones late."""
        with storage.as_user_error(self.directory):
            if self._read_only:  # a new manager reads no metrics, where `reload` would
                self._manager.close()
                self._manager = ocp.CheckpointManager(self.directory, options=self._options)
            else:
                self._manager.reload()

    def has(self, step: int) -> bool:
        """Return whether there is a complete checkpoint of `step`."""
        return step in self._manager.all_steps()

    def identity(self, step: int) -> str:
        """Return a text that changes with any file of a checkpoint; empty where it has no checksums."""
        return checksums.identity(self._folder(step))

    def latest(self) -> int | None:
        """Step of the latest complete checkpoint, or `None`."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """Step of the checkpoint with the lowest metric (the latest of several); the latest where no checkpoint has a
        metric.

        Raises `UserError` where the facts of a checkpoint are damaged.
        """
        # A training that goes on may have removed some since.
        steps = [step for step in sorted(self._manager.all_steps()) if self._folder(step).is_dir()]
        for step in steps:
            with self._refused(step):
                read_facts(self._folder(step))
        found = best_steps(self.directory, steps, self.metric)
        return found[-1] if found else None

    def choose(self, which: str) -> int:
        """Return the step of checkpoint `which`: `best`, `latest` or a step. Raises `UserError` where there is none."""
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

    def check(self, step: int) -> None:
        """Raise `UserError` that names a file where the checkpoint of `step` has changed since it was saved.

        The message also names the newest other one that is intact. With several processes, all must call it together,
        and each reads a part of the files.
        """
        peers = current()
        damage = checksums.damage(self._folder(step), part=lambda names: names[peers.index :: peers.count])
        for told in peers.gather("checkpoint's checksums", damage, COMPARED_SECONDS):
            if told:
                raise self._refusal(step, told)
        peers.wait("checkpoint compared", 2 * COMPARED_SECONDS)

    def _refusal(self, step: int, damage: str) -> UserError:
        """Return the error for a damaged checkpoint, whose message begins with a file of it."""
        others = (one for one in sorted(self._manager.all_steps(), reverse=True) if one != step)
        whole = next((one for one in others if self._is_whole(one)), None)
        if whole is None:
            return UserError(f"{damage}; no other checkpoint is whole: copy the run again, or train it again")
        if self._read_only:
            return UserError(f"{damage}; the newest checkpoint that is whole: --checkpoint {whole}")
        return UserError(
            f"{damage}; copy {self._folder(step)} again, or remove it: then the same command goes on from step {whole}"
        )

    def _is_whole(self, step: int) -> bool:
        folder = self._folder(step)
        try:
            read_facts(folder)
        except UserError:
            return False
        return (folder / "state" / "_METADATA").exists() and not checksums.damage(folder)

    def _folder(self, step: int) -> Path:
        return self.directory / str(step)

    @contextlib.contextmanager
    def _refused(self, step: int) -> Iterator[None]:
        """Turn an error about the files of a checkpoint into the `UserError` of `_refusal`; a context."""
        try:
            yield
        except UserError as error:
            raise self._refusal(step, str(error)) from error

    @contextlib.contextmanager
    def _reading(self, step: int) -> Iterator[None]:
        """Turn an error in reading the arrays of a checkpoint into a `UserError`, if its files were not verified; a
        context."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            if checksums.verifies() and checksums.is_there(self._folder(step)):
                raise  # the saved files are intact, so that this is a bug of ours
            why = " ".join(str(error).split())[:300]
            damage = f"{self._folder(step)}: cannot be read: {type(error).__name__}: {why}"
            raise self._refusal(step, damage) from error

    def _remove_moved(self) -> None:
        """Remove the older checkpoints for good, while nothing is being saved."""
        if current().is_first:
            remove_moved(self.directory)

    def _check_ranks(self) -> None:
        """Raise `UserError` where Orbax could not read the metrics by which it ranks the checkpoints."""
        if not self.directory.is_dir():
            return
        for folder in sorted(entry for entry in self.directory.iterdir() if entry.name.isdecimal()):
            damage = checksums.damage(folder, [_RANK])
            try:
                float(json.loads((folder / _RANK).read_bytes())[self.metric])
            except FileNotFoundError:
                pass
            except (*NOT_JSON, KeyError, TypeError):
                damage = damage or f"{folder / _RANK}: damaged: no JSON object with {self.metric}"
            if damage:
                raise UserError(f"{damage}; copy {folder} again, or remove it")

    def _summing_up(self) -> ocp.AsyncOptions:
        """Write the checksums of a checkpoint before it becomes complete; each process computes those of its own
        files."""
        if jax.process_count() == 1:
            return ocp.AsyncOptions(post_finalization_callback=self._sum_up)
        wait = ocp.multihost.get_barrier_sync_fn()

        def sum_up_and_wait(*, key: str, timeout_ms: int) -> None:
            if "async_write_complete" in key:
                self._sum_up_own()
            wait(key=key, timeout_ms=timeout_ms)

        return ocp.AsyncOptions(post_finalization_callback=self._sum_up, barrier_sync_fn=sum_up_and_wait)

    def _draft(self) -> Path:
        """Return the folder of the checkpoint that is being saved."""
        folder = self._folder(self._saving)
        return folder if storage.is_remote(folder) else folder.with_name(folder.name + DRAFT)

    def _sum_up_own(self) -> None:
        """With several processes, compute the checksums of the arrays that this one has written to a disk."""
        draft, peers = self._draft(), current()
        if storage.is_remote(draft) or peers.is_first:
            return
        own = f"ocdbt.process_{peers.index}"
        found = {
            f"state/{own}/{name}": one
            for folder in draft.glob(f"state*/{own}")
            for name, one in storage.checksums(folder)
        }
        checksums.write(self._part(peers.index), found)

    def _part(self, index: int) -> Path:
        """Return the folder of one process's checksums, until they are merged."""
        return self._draft() / f"checksums.process_{index}"

    def _sum_up(self) -> None:
        """Write the checksums of the checkpoint that is being saved, on process 0."""
        draft, found = self._draft(), {}
        for index in range(1, current().count):
            found |= checksums.read(self._part(index)) or {}
            storage.remove_folder(self._part(index))
        rest = storage.checksums(draft, leave=lambda name: name in found or name.rpartition("/")[2] in _LATER)
        checksums.write(draft, found | dict(rest))

    def save(self, step: int, state: Any, facts: dict, rank: float | None) -> None:
        """Begin to save `state` after `step` steps, in the background. rank: its metric, if known.

        Raises `UserError` where the disk is too full, or where the save before this one has failed.
        """
        if self.has(step):
            return
        self.wait()
        self._saving = step
        self._remove_moved()
        self._check_room(state)
        with self._disk_errors():
            self._manager.save(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardSave(state), facts=ocp.args.JsonSave(facts)),
                metrics=None if rank is None else {self.metric: rank},
                force=True,
            )

    def wait(self) -> None:
        """Return when pending saves are on disk; raises `UserError` where one has failed."""
        with self._disk_errors():
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    def _check_room(self, state) -> None:
        if storage.is_remote(self.directory):
            return
        # Checked in advance, because Orbax fills the terminal with a traceback for each array when a write fails.
        needed = sum(leaf.nbytes + BLOCK for leaf in jax.tree.leaves(state))
        disk = shutil.disk_usage(self.directory)
        if disk.total and disk.free < needed:
            raise UserError(
                f"{self.directory}: a checkpoint takes {_mib(needed)}, and {_mib(disk.free)} are free; {MAKE_ROOM}"
            )

    @contextlib.contextmanager
    def _disk_errors(self):
        """Turn a refusal of the operating system or of a bucket into a `UserError`; a context."""
        try:
            with storage.as_user_error(self.directory):
                yield
        except (OSError, ValueError) as error:
            # TensorStore raises ValueError, the system's own code in its message.
            code = re.search(r"os_error_code='(\d+)'", str(error))
            if isinstance(error, ValueError) and not code or storage.is_remote(self.directory):
                raise
            number = int(code[1]) if code else error.errno
            why, free, advice = os.strerror(number) if number else error, "", CHECK_DISK
            if number in (errno.ENOSPC, errno.EDQUOT):
                with contextlib.suppress(OSError):
                    free = f" ({_mib(shutil.disk_usage(self.directory).free)} free)"
                advice = MAKE_ROOM
            raise UserError(f"{self.directory}: a checkpoint could not be saved: {why}{free}; {advice}") from error

    def facts(self, step: int) -> dict:
        """Return the facts saved with `step`. Raises `UserError` where they are damaged."""
        with self._refused(step):
            return read_facts(self._folder(step))

    def restore(self, step: int, like: Any) -> Any:
        """Restore the state of `step`; `like` holds the shapes, types and shardings to restore onto.

        Raises `UserError` where it holds other arrays than `like`, because other code saved it.
        """
        with self._reading(step):
            with self._reader() as manager:
                _check_same_arrays(manager.item_metadata(step)["state"].tree, like, self._folder(step))
            return self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(like))).state

    def restore_part(self, step: int, like: dict) -> dict:
        """Restore only the parts of the state that `like` names, in the form of `NamedTuple._asdict`:
        `{"average": ...}`.

        Raises `UserError` where such a part holds other arrays than `like`, because other code saved it.
        """
        with self._reading(step), self._reader() as manager:
            stored = manager.item_metadata(step)["state"].tree
            _check_same_arrays({part: stored.get(part, {}) for part in like}, like, self._folder(step))
            return _restored(manager, step, like)

    def shapes(self, step: int, part: str) -> dict[str, tuple[int, ...]]:
        """Return the shape of each array that is stored in a part of the state (`params`, `average`), by its dotted
        name."""
        with self._reading(step), self._reader() as manager:
            return _shapes(manager.item_metadata(step)["state"].tree[part])

    def restore_arrays(self, step: int, part: str, like: dict[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
        """Restore some arrays of a part of the state by their dotted names; `like` holds their types and shardings."""
        tree: dict = {}
        for name, x in like.items():
            *parents, last = name.split(".")
            node = tree
            for parent in parents:
                node = node.setdefault(parent, {})
            node[last] = x
        with self._reading(step), self._reader() as manager:
            found = _restored(manager, step, {part: tree})[part]
        return named_leaves(found)

    def _reader(self) -> ocp.CheckpointManager:
        """Return a manager that restores single arrays, even if metrics of other checkpoints are damaged."""
        return ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(read_only=True, lightweight_initialize=True),
            item_handlers={"state": ocp.PyTreeCheckpointHandler()},
        )


def named_leaves(tree: Any) -> dict[str, Any]:
    """Return arrays, or shapes of arrays, by their dotted names, in the order of the tree."""
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


def _check_same_arrays(stored: Any, like: Any, where: Path) -> None:
    """Raise `UserError` where the stored arrays differ from the expected ones; Orbax silently ignores stored arrays
    that are not requested."""
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
