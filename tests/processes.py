"""Processes that tests start, and their children: none outlives its test, or the tests."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

MARK = "JOINT_ST_TESTS"
"""Variable by which the processes that come from this one are known, in whatever session or group they are."""


def mark() -> None:
    """Mark what this process starts from here on."""
    os.environ[MARK] = f"{os.getpid()}"


def left() -> Iterator[int]:
    """Yield the processes that come from this one and still run; none where there is no /proc."""
    wanted = f"{MARK}={os.getpid()}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(folder.name) != os.getpid() and wanted in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)


def end_all() -> None:
    """Kill them."""
    for process in left():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
