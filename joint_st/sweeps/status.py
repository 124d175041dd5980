"""Progress of the runs of a sweep, read from disk, and a table of it that is kept up to date on a terminal."""

from __future__ import annotations

import contextlib
import csv
import io
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from joint_st import storage
from joint_st.config import load
from joint_st.errors import UserError
from joint_st.evaluation.origin import last_table
from joint_st.runs.directory import check_same, check_unused
from joint_st.sweeps.launchers import SILENT_SECONDS, last_sign, submission
from joint_st.sweeps.locks import is_locked
from joint_st.sweeps.sweep import Job, Sweep
from joint_st.tables import escape

AS_WANTED_FROM_THE_START = ("evaluation.rank_by",)
AS_WANTED_AT_THE_END = (*AS_WANTED_FROM_THE_START, "training.steps")
"""Fields that must be those of the sweep while a run is trained, and when it has been, although they may change when a
run goes on."""


@dataclass(frozen=True)
class State:
    """How far a run is."""

    steps: int
    """Step of the latest complete checkpoint; 0 where there is none."""
    evaluation: Path | None
    """Table of the best checkpoint on the config's test splits; None until the run is finished."""
    conflict: str = ""
    """Why its training cannot continue, or begin."""
    conflict_in_words: str = "another config"
    """The kind of that conflict: another config, no checkpoints (though it was trained), or damaged."""

    @property
    def finished(self) -> bool:
        return self.evaluation is not None


def look(job: Job) -> State:
    """Return the state of a job's directory.

    A run is finished once it has a complete checkpoint of its config's last step, trained under the same
    `training.steps`, and the table and the utterances of its best checkpoint on the config's test splits, evaluated from
    the same sources and with the same order of an n-gram. One that was trained as far, or further, under another
    `training.steps` is in conflict with the config, as is one whose checkpoints are ranked by another rate.
    """
    run, steps = job.directory, job.directory.checkpoint_steps
    if not run.config.is_file():
        return State(0, None)
    try:
        if not steps:
            check_unused(run)
            return State(0, None)
    except UserError as error:
        return State(0, None, str(error), "no checkpoints")
    wanted = job.config
    try:
        check_same(run, wanted, AS_WANTED_FROM_THE_START if steps[-1] < wanted.training.steps else AS_WANTED_AT_THE_END)
        if steps[-1] > wanted.training.steps:
            raise UserError(
                f"training.steps: {wanted.training.steps}, and {run.checkpoints} has a checkpoint of step {steps[-1]}; "
                "ask for as many, or name another --workdir"
            )
    except UserError as error:
        return State(steps[-1], None, str(error))
    try:
        best = run.best_steps()
    except UserError as error:
        return State(steps[-1], None, str(error), "damaged")
    if steps[-1] < wanted.training.steps:
        return State(steps[-1], None)
    trained = load(run.config)
    if (trained.data.test, trained.evaluation.ngram_order) != (wanted.data.test, wanted.evaluation.ngram_order):
        return State(steps[-1], None)
    tables = (last_table(run, step, job.config) for step in best)
    return State(steps[-1], next(filter(None, tables), None))


def state_in_words(job: Job) -> str:
    """Return the state of a job in a few words."""
    state = look(job)
    if state.conflict:
        return state.conflict_in_words
    if state.finished:
        return "finished"
    if is_locked(job.lock):
        return f"running, step {state.steps} saved"
    if known := submission(job):
        return f"{known}, step {state.steps} saved"
    if job.failure.exists():
        return f"failed, step {state.steps} saved"
    if not state.steps:
        return "to do"
    if state.steps >= job.config.training.steps:
        return "to evaluate"
    return f"step {state.steps} of {job.config.training.steps}"


def check_conflicts(jobs: tuple[Job, ...]) -> None:
    """Raise `UserError` for the first run whose training cannot continue: see `State.conflict`."""
    for job in jobs:
        if conflict := look(job).conflict:
            raise UserError(f"{job.name}: {conflict}")


REFRESH_SECONDS = 2.0

_LAST_BYTES = 2**19
"""Number of bytes at the end of `metrics.csv` that are searched for the latest numbers."""

OVER = ("finished", "failed", "another config", "no checkpoints", "damaged")
"""States that no longer change by themselves."""


@dataclass(frozen=True)
class Progress:
    """How far a run is; a number is None where it is not known."""

    name: str
    state: str
    """One of finished, evaluating, running, starting, submitted, silent (submitted, and quiet since), failed, stopped,
    to do, another config, no checkpoints, damaged."""
    step: int
    steps: int
    """Number of steps in the config."""
    speed: float | None = None
    """Seconds of audio that it trains on per second, while it runs."""
    dev_wer: float | None = None
    """WER of the full-context head in the latest evaluation on the dev set, as a fraction."""
    seconds_left: float | None = None
    """Seconds until training ends, at its mean pace since it last started."""


@dataclass(frozen=True)
class Numbers:
    """The latest numbers in a run's `metrics.csv`."""

    step: int = 0
    speed: float | None = None
    dev_wer: float | None = None


def progress(job: Job) -> Progress:
    """Return how far a job is, from its files."""
    state, numbers, steps = look(job), read_numbers(job.directory.metrics), job.config.training.steps
    if state.conflict:
        return Progress(job.name, state.conflict_in_words, state.steps, steps)
    if state.finished:
        return Progress(job.name, "finished", state.steps, steps, dev_wer=numbers.dev_wer)
    if not is_locked(job.lock) and not _has_begun(job):
        return Progress(job.name, _waiting(job, state.steps), state.steps, steps, dev_wer=numbers.dev_wer)
    if state.steps >= steps:
        return Progress(job.name, "evaluating", state.steps, steps, dev_wer=numbers.dev_wer)
    # Each start of a training stores the config again.
    if storage.modified(job.directory.metrics) <= storage.modified(job.directory.config) or not numbers.step:
        return Progress(job.name, "starting", state.steps, steps, dev_wer=numbers.dev_wer)
    left = _seconds_left(job, numbers.step)
    return Progress(job.name, "running", numbers.step, steps, numbers.speed, numbers.dev_wer, left)


def _has_begun(job: Job) -> bool:
    """Return whether a submitted job has written something recently."""
    known = submission(job)
    return bool(known) and last_sign(job) > max(known.time, time.time() - SILENT_SECONDS)


def _waiting(job: Job, saved: int) -> str:
    """Return the state of a job that no process is known to train."""
    if known := submission(job):
        return "silent" if last_sign(job) > known.time else "submitted"
    if job.failure.exists():
        return "failed"
    return "stopped" if saved else "to do"


def _seconds_left(job: Job, step: int) -> float | None:
    """Return the seconds until training ends, at its mean pace since it last started; None where that is not known."""
    run = job.directory
    # The last thing that a training does in its directory before the first step is to put `metrics.csv` there, with
    # the rows up to the checkpoint that it goes on from.
    # A folder in a bucket has no time of its own: there it is when the start stored the config.
    started = storage.modified(run.config if storage.is_remote(run.root) else run.root)
    written = storage.modified(run.metrics)
    saved = [n for n in run.checkpoint_steps if storage.modified(run.checkpoints / str(n)) < started]
    done = step - max(saved, default=0)
    if done <= 0 or written <= started:
        return None
    return (written - started) / done * (job.config.training.steps - step)


def read_numbers(file: Path) -> Numbers:
    """Return the latest numbers in a `metrics.csv`, which may be growing; none where there is no such file, or where it
    is damaged."""
    try:
        return _read_numbers(file) if file.exists() else Numbers()
    except (csv.Error, ValueError, TypeError, KeyError):
        return Numbers()


def _read_numbers(file: Path) -> Numbers:
    with file.open("rb") as lines:
        header = lines.readline()
        if (end := lines.seek(0, io.SEEK_END)) > len(header) + _LAST_BYTES:
            lines.seek(end - _LAST_BYTES)
            lines.readline()  # its end only
        else:
            lines.seek(len(header))
        # The last line may still be written.
        rows = (header + lines.read().rpartition(b"\n")[0]).decode()
    step, speed, dev_wer = 0, None, None
    for row in csv.DictReader(io.StringIO(rows)):
        if row["dev_full_context_wer"]:
            dev_wer = float(row["dev_full_context_wer"])
        if row["loss"]:
            step, speed = int(row["step"]), float(row["audio_seconds_per_second"])
    return Numbers(step, speed, dev_wer)


def show_status(found: Sweep, jobs: Sequence[Job], console: Console | None = None) -> None:
    """Print the table of some jobs; on a terminal, keep it up to date until nothing in it may change by itself.

    Ctrl-C ends the watching and stops no training.
    """
    console = console or Console()
    rows = [progress(job) for job in jobs]
    if not console.is_terminal:
        console.print(status_table(found, rows))
        return
    with (
        contextlib.suppress(KeyboardInterrupt),
        Live(status_table(found, rows), console=console, auto_refresh=False) as live,
    ):
        while any(row.state not in OVER for row in rows):
            time.sleep(REFRESH_SECONDS)
            rows = [row if row.state == "finished" else progress(job) for row, job in zip(rows, jobs, strict=True)]
            live.update(status_table(found, rows), refresh=True)


def status_table(found: Sweep, rows: Sequence[Progress]) -> Group:
    """Return the table, about 80 columns wide, under a line with the number of jobs in each state."""
    counts = ", ".join(f"{count} {state}" for state, count in Counter(row.state for row in rows).items())
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("run", overflow="fold")
    table.add_column("state", no_wrap=True)
    columns = {
        "step": [f"{row.step}/{row.steps}" for row in rows],
        "audio-s/s": ["" if row.speed is None else f"{row.speed:.0f}" for row in rows],
        "dev WER %": ["" if row.dev_wer is None else f"{100 * row.dev_wer:.1f}" for row in rows],
        "time left": ["" if row.seconds_left is None else duration(row.seconds_left) for row in rows],
    }
    filled = {name: cells for name, cells in columns.items() if any(cells)}
    for name in filled:
        table.add_column(name, justify="right", no_wrap=True)
    for row, *cells in zip(rows, *filled.values(), strict=True):
        table.add_row(escape(row.name), row.state, *cells)
    return Group(Text(f"{found.directory}: {counts}"), table)


def duration(seconds: float) -> str:
    """Return a length of time as `40 s`, `12 min` or `3 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"
