"""Locks between real processes."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest

from joint_st.sweeps.locks import is_locked, lock
from tests.tiny import environment

TAKE = """
import subprocess, sys
from pathlib import Path
from joint_st.sweeps.locks import lock
descriptor = lock(Path(sys.argv[1]))
child = None
if descriptor is not None and len(sys.argv) > 2:
    nothing = subprocess.DEVNULL
    child = subprocess.Popen(["sleep", "600"], stdin=nothing, stdout=nothing, pass_fds=[descriptor]).pid
print("none" if descriptor is None else child or "locked", flush=True)
sys.stdin.read()
"""


def take(path, *more) -> subprocess.Popen:
    """Return a process that takes the lock where it can, says so, and waits."""
    command = [sys.executable, "-c", TAKE, str(path), *more]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())


def test_of_processes_that_start_at_once_one_gets_it(tmp_path):
    path = tmp_path / "new" / "run.lock"
    assert not is_locked(path) and not path.parent.exists()
    processes = [take(path) for _ in range(2)]
    said = sorted(process.stdout.readline().strip() for process in processes)
    assert said == ["locked", "none"]
    assert is_locked(path) and lock(path) is None
    for process in processes:
        process.communicate("")
    assert not is_locked(path)
    os.close(lock(path))


def test_it_lasts_as_long_as_a_child_that_inherits_it(tmp_path):
    path = tmp_path / "run.lock"
    process = take(path, "and hand it on")
    child = int(process.stdout.readline())
    process.kill()
    process.communicate()
    assert is_locked(path)
    os.kill(child, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while is_locked(path):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_asking_needs_no_right_to_write_and_makes_no_file(tmp_path, monkeypatch):
    free, held = tmp_path / "free.lock", tmp_path / "held.lock"
    os.close(lock(free))
    process, opened = take(held), os.open
    assert process.stdout.readline().strip() == "locked"

    def refused(path, flags, *rest, **options):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", refused)
    asking = opened(free, os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_SH)  # as somebody else who asks at the same time
    assert (is_locked(free), is_locked(held)) == (False, True)
    os.close(asking)
    assert not is_locked(tmp_path / "none.lock") and not (tmp_path / "none.lock").exists()
    process.communicate("")


def test_a_file_system_without_locks_warns_once(tmp_path, monkeypatch, capsys):
    def refused(descriptor, kind):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refused)
    for name in ("a.lock", "b.lock"):
        os.close(lock(tmp_path / name))
        assert not is_locked(tmp_path / name)
    warned = f"{tmp_path}: its file system has no locks; start no second sweep over it\n"
    assert capsys.readouterr().err == warned


def test_another_refusal_names_the_lock_and_leaves_nothing_open(tmp_path, monkeypatch):
    def refused(descriptor, kind):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", refused)
    there = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="Input/output error") as raised:
        lock(tmp_path / "a.lock")
    assert raised.value.filename == str(tmp_path / "a.lock") and len(os.listdir("/proc/self/fd")) == there
