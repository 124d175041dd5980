"""What trained a run: a line for each time that its training began or went on, so that a result can be traced to its code."""

from __future__ import annotations

import datetime
import json
import platform
from typing import NamedTuple

import joint_st
from joint_st import storage
from joint_st.json_files import NOT_JSON
from joint_st.runs.directory import RunDirectory
from joint_st.versions import own_commit, packages


class TrainingStart(NamedTuple):
    """One time that training began or went on."""

    at: str
    """Date and time in UTC, ISO 8601."""
    step: int
    """Steps that were done before."""
    joint_st: str
    """Version of this package."""
    commit: str
    """The commit of this package, in words: see `versions.commit`."""
    python: str
    """Version of Python."""
    packages: dict[str, str]
    """Versions of the packages that results depend on."""
    devices: str
    """Number and kind of the devices, and the axes of the mesh."""
    device: str
    """The kind of a device; of a CPU its model, and how many threads can run."""
    processes: int
    """Number of processes."""
    steps: int = 0
    """The config's `training.steps`, by which the learning rate falls; 0 where an earlier version did not write it."""


def record_start(run: RunDirectory, step: int, devices: str, device: str, processes: int, steps: int) -> None:
    """Add a line to `run.starts`; with several processes, only the first may call it."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    versions = joint_st.__version__, own_commit(), platform.python_version(), packages()
    start = TrainingStart(now, step, *versions, devices, device, processes, steps)
    before = run.starts.read_bytes().decode(errors="replace") if run.starts.is_file() else ""
    storage.write_whole(run.starts, before + json.dumps(start._asdict()) + "\n")


def read_starts(run: RunDirectory) -> list[TrainingStart]:
    """Return the lines of `run.starts`, the earliest first: none where an earlier version trained the run. Lines that are
    damaged, or another version wrote with other fields, are left out."""
    if not run.starts.is_file():
        return []
    found = []
    for line in run.starts.read_bytes().decode(errors="replace").splitlines():
        try:
            found.append(TrainingStart(**json.loads(line)))
        except (*NOT_JSON, TypeError):
            continue
    return found


def other_schedules(run: RunDirectory, steps: int) -> list[int]:
    """Return the values of `training.steps` under which a run of `steps` steps took some of them, other than that one,
    ascending: each stretches the learning rate in another way."""
    found, end = set(), steps
    for start in reversed(read_starts(run)):
        # What was trained beyond a later start was taken back.
        if start.step < end and start.steps not in (0, steps):
            found.add(start.steps)
        end = min(end, start.step)
    return sorted(found)
