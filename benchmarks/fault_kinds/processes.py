"""Processes of the campaign: `joint-st` started, waited for and judged; none outlives it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.fault_kinds.trial import Outcome
from tests.tiny import environment

PR_SET_CHILD_SUBREAPER = 36

DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
"""Starts a command that ends when the campaign is killed."""

END_SECONDS = 180
"""Time limit for a process to end of which nothing else is said."""

OURS = re.compile(r'File ".*/joint_st/|^joint-st: ', re.MULTILINE)
"""A line of a traceback in our code, or one of our errors."""

LEFT_SECONDS = 15
"""Time for processes of a fault to end by themselves after it, as the children of a killed process do."""


class Ended(NamedTuple):
    """How a process has ended."""

    status: int | None
    """Its exit status; None where it had to be killed because it did not end."""
    out: str
    err: str
    seconds: float

    @property
    def told(self) -> str:
        """The last error that it printed, or its last lines."""
        lines = [line for line in self.err.splitlines() if line.startswith("joint-st: ")]
        return lines[-1] if lines else self.err[-2000:]

    def judge(self, *, asked: bool = False) -> Outcome:
        """Return how it ended according to its status and output; `survived` here may still be another result.

        asked: whether it was sent a signal, which its status may show.
        """
        errors = [line for line in self.err.splitlines() if line.startswith("joint-st: error: ")]
        if self.status is None:
            return Outcome.LOST
        if asked and self.err.endswith("KeyboardInterrupt\n") and not OURS.search(self.err):
            return Outcome.SURVIVED  # Python itself was interrupted, before it ran a line of ours
        if "Traceback (most recent call last)" in self.err or "Fatal Python error" in self.err:
            return Outcome.TRACEBACK
        if self.status == 0 or asked and self.status in (128 + signal.SIGINT, 128 + signal.SIGTERM):
            return Outcome.SURVIVED
        if asked and self.status in (-signal.SIGINT, -signal.SIGTERM):
            return Outcome.SURVIVED
        return Outcome.REFUSED if len(errors) == 1 and self.status > 0 else Outcome.TRACEBACK


class Running:
    """A process of the campaign, whose output goes to files."""

    def __init__(
        self,
        *arguments: object,
        logs: Path,
        module: str = "joint_st",
        env: dict[str, str] | None = None,
        before: tuple[str, ...] = (),
        **options,
    ):
        """`python -m MODULE ARGUMENTS`; `before`: a command that starts it, such as `unshare -m`."""
        logs.mkdir(parents=True, exist_ok=True)
        number = len(list(logs.iterdir()))
        self._files = [logs / f"{number:04}.{name}" for name in ("out", "err")]
        command = [*DIE_WITH_PARENT, *before, sys.executable, "-m", module, *map(str, arguments)]
        with open(self._files[0], "wb") as out, open(self._files[1], "wb") as err:
            self._process = subprocess.Popen(
                command,
                env=environment() if env is None else env,
                stdin=options.pop("stdin", subprocess.DEVNULL),
                stdout=options.pop("stdout", out),
                stderr=options.pop("stderr", err),
                start_new_session=True,
                **options,
            )
        self._began = time.monotonic()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def err(self) -> str:
        """What it has written to stderr so far."""
        return self._files[1].read_bytes().decode(errors="replace")

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return time.monotonic() - self._began

    def running(self) -> bool:
        """Return whether it runs."""
        return self._process.poll() is None

    def send(self, number: int) -> None:
        """Sends a signal, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def when(self, event: Callable[[], object], seconds: float = END_SECONDS) -> bool:
        """Wait for an event while it runs; return whether the event came."""
        until = time.monotonic() + seconds
        while not event():
            if not self.running() or time.monotonic() > until:
                return bool(event())
            time.sleep(0.002)
        return True

    def pause(self, seconds: float) -> None:
        """Let it run for a time, or to its end."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def kill(self) -> Ended:
        """Kill it; children that do not end with it are left to `end_descendants`."""
        self.send(signal.SIGKILL)
        return self.end()

    def end(self, seconds: float = END_SECONDS) -> Ended:
        """Wait for its end, and kill it with all its children if it does not end in time."""
        try:
            status: int | None = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        out, err = (file.read_bytes().decode(errors="replace") for file in self._files)
        return Ended(status, out, err, self.seconds)


def pair(*arguments: object, logs: Path, on_1: tuple[str, ...] = (), **options) -> list[Running]:
    """Two processes of one job."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    place = ["--coordinator", address, "--processes", 2, "--process"]
    return [Running(*arguments, *(on_1 if n else ()), *place, n, logs=logs, **options) for n in range(2)]


def adopt_orphans() -> None:
    """Make this process the parent of all processes that its children leave behind, so that they are found."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_descendants(seconds: float = LEFT_SECONDS) -> list[str]:
    """Waits for the processes below this one to end; kills those that do not, and returns their commands."""
    until = time.monotonic() + seconds
    while list(_descendants()) and time.monotonic() < until:
        _reap()
        time.sleep(0.05)
    left = list(_descendants())
    for pid, _ in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    while left and list(_descendants()):
        _reap()
        time.sleep(0.05)
    return [command for _, command in left]


def _descendants() -> Iterator[tuple[int, str]]:
    """Processes below this one, zombies left out, with their commands."""
    parents, commands = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            parents[int(folder.name)] = int(parent)
            if state != "Z":
                commands[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ").strip()
    for pid, command in commands.items():
        above: int | None = parents[pid]
        while above and above != os.getpid():
            above = parents.get(above)
        if above:
            yield pid, command


def _reap() -> None:
    """Collect the status of adopted processes that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
