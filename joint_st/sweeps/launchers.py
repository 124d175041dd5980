"""Starts trainings through scripts that launch them elsewhere: on a Slurm cluster, a TPU VM, a cloud.

A launch script takes its options, then `--` and the command; `launch/sky.yaml` is a task of SkyPilot. Some return when
the command has ended, some as soon as it is queued. Where one ended with status 0 and its run is not finished, the run
counts as submitted: no sweep starts it again until it is finished, or until `--resubmit`. The process that holds the
run's lock while the script runs records that, so that a sweep that is killed meanwhile submits nothing twice.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from joint_st import storage
from joint_st.config.file import extensions
from joint_st.errors import UserError
from joint_st.sweeps.sweep import Job

SCRIPTS = Path(__file__).parents[2] / "launch"

SILENT_SECONDS = 600
"""A submitted run that has written nothing for this many seconds may not be alive."""

_ONCE_BY_NAME = ("slurm", "gke")
"""Scripts that do nothing and end with status 0 if a job with the given name exists already."""

_LAST_BYTES = 65536
"""Number of bytes at the end of a log in which its last line is looked for."""

COMMAND_MARK = "$ "
"""Beginning of the line that a sweep writes into a run's log before the output of its command."""

_NOTE = """
trap 'kill -TERM $!' TERM
"$@" &
while status=0; wait $! || status=$?; kill -0 $! 2> /dev/null; do :; done
[ $status != 0 ] || touch "$0"
exit $status
"""


@dataclass(frozen=True)
class Launcher:
    """A launch script, or the file of a SkyPilot task, with the options that it gets."""

    script: Path
    options: tuple[str, ...] = ()
    """Options of the script; `{run}` in them becomes the run's name, in letters, digits and hyphens as clouds want them,
    and a hash of the place of the run: another sweep may have arms of the same names."""
    workdir: str = ""
    """Path of the sweep's directory as launched runs see it, if it differs."""

    def __call__(self, job: Job) -> list[str]:
        """Return the command that launches the training of a job."""
        workdir = f"{self.workdir.rstrip('/')}/{job.name}" if self.workdir else str(job.directory.root)
        run = f"{_as_clouds_want(job.name)}-{_hash_of_place(workdir)}"
        options = [option.replace("{run}", run) for option in self.options]
        train = ["joint-st", *train_arguments(job, workdir)]
        if self.script.suffix == ".yaml":
            task = ["sky", "jobs", "launch", str(self.script), "--yes", "--detach-run"]
            return [*task, *options, "--env", f"COMMAND={shlex.join(train)}"]
        return [str(self.script), *options, "--", *train]


def _as_clouds_want(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _hash_of_place(workdir: str) -> str:
    place = workdir if storage.is_remote(workdir) else os.path.abspath(workdir)
    return hashlib.sha256(place.encode()).hexdigest()[:6]


def noting_submission(job: Job, command: Sequence[str]) -> list[str]:
    """Return a command that runs another one and, where that ends with status 0, notes it as a submission of the job.

    It passes SIGTERM on to the command alone.
    """
    return ["sh", "-c", _NOTE, str(job.submission), *command]


def train_arguments(job: Job, workdir: str | None = None) -> list[str]:
    """Return the arguments of `joint-st` that start or continue a job's training, in its directory or in `workdir`.

    They hold the fingerprint of its config: the process reads the base again, perhaps hours later.
    """
    flags = [f"--fingerprint={job.fingerprint}", *(f"--{path}={value}" for path, value in job.values.items())]
    own = (part for file in extensions() for part in ("--with", file))
    return [*own, "train", str(job.base), "--workdir", workdir or str(job.directory.root), *flags]


def find_launcher(name: str, options: Sequence[str] = (), workdir: str = "", scripts: Path = SCRIPTS) -> Launcher:
    """Return the launcher `name`: a script's path, or `slurm` for `launch/slurm.sh`, `tpu-vm`, `sky` for
    `launch/sky.yaml`.

    options, workdir: the fields of `Launcher`. Raises `UserError` where there is no such script.
    """
    stem = scripts / name.replace("-", "_")
    candidates = [Path(name)] if "/" in name else [stem.with_suffix(".sh"), stem.with_suffix(".yaml")]
    script = next((path for path in candidates if path.is_file()), None)
    if script is None:
        raise UserError(f"--launcher {name}: no script {candidates[0]}; give the name of one in launch/, or a path")
    if script.stem in _ONCE_BY_NAME and not any("{run}" in option for option in options):
        raise UserError(
            f"--launcher {name}: submits each name only once, so give each run its own: -- --name sweep-{{run}}"
        )
    return Launcher(script.absolute(), tuple(options), workdir)


@dataclass(frozen=True)
class Submission:
    """A note that a launch script ended with status 0 while its run was not finished."""

    time: float
    """Time of the submission in seconds since the epoch."""
    answer: str
    """Last line that the script printed, mostly the number of a job; empty where it printed none."""

    def __str__(self) -> str:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.time))
        return f"submitted {when}" + (f" ({self.answer})" if self.answer else "")


def submission(job: Job) -> Submission | None:
    """Return the latest submission of a job; None where there was none."""
    try:
        when = job.submission.stat().st_mtime
    except FileNotFoundError:
        return None
    answer = last_line(job.log)
    return Submission(when, "" if answer.startswith(COMMAND_MARK) else answer)


def last_sign(job: Job) -> float:
    """Return the time at which the training of a job last wrote numbers or a checkpoint, in seconds since the epoch, or
    0."""
    written = (job.directory.metrics, job.directory.checkpoints, job.directory.evaluations)
    return max(map(storage.modified, written))


def last_line(log: Path, start: int = 0) -> str:
    """Return the last line of a log that is not empty, from the byte `start` on; of a line that was written over, as
    progress bars do, what it shows last."""
    if not log.exists():
        return ""
    with open(log, "rb") as file:
        file.seek(max(start, log.stat().st_size - _LAST_BYTES))
        lines = file.read().decode(errors="replace").replace("\r", "\n").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
