"""Locks between real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

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
