"""A lock that a process inherits, so that it is held until that process ends, even if the one that started it ends
first."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

from joint_st.runs.lock import NO_LOCKS

_warned: set[int] = set()
"""File systems without locks, by their device numbers, of which this process has warned."""


def lock(path: Path) -> int | None:
    """Return a descriptor of `path` that holds its lock until every copy of it is closed; None where another one holds
    it.

    On a file system without locks it holds none, of which a line warns.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if _free(descriptor, fcntl.LOCK_EX, path.parent):
            return descriptor
    except OSError as error:
        os.close(descriptor)
        raise OSError(error.errno, error.strerror, str(path)) from error
    os.close(descriptor)
    return None


def _free(descriptor: int, kind: int, folder: Path) -> bool:
    """Take a lock of one kind without waiting; return False where another process holds it, and True where there are
    none."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        _warn(descriptor, folder)
    return True


def _warn(descriptor: int, folder: Path) -> None:
    """Warn once of a file system without locks."""
    if (system := os.fstat(descriptor).st_dev) not in _warned:
        _warned.add(system)
        print(f"{folder}: its file system has no locks; start no second sweep over it", file=sys.stderr)


def is_locked(path: Path) -> bool:
    """Return whether some process holds the lock of `path`.

    It only reads, so that one can ask about the runs of somebody else, and keeps nobody from taking the lock for longer than
    an instant.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _free(descriptor, fcntl.LOCK_SH, path.parent)
    finally:
        os.close(descriptor)
