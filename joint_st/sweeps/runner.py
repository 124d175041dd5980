"""Runs the jobs of a sweep, each in a process of its own, a few at once."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import tqdm

from joint_st.errors import UserError
from joint_st.sweeps.launchers import (
    COMMAND_MARK,
    SILENT_SECONDS,
    Launcher,
    last_line,
    last_sign,
    noting_submission,
    submission,
    train_arguments,
)
from joint_st.sweeps.locks import is_locked, lock
from joint_st.sweeps.status import look
from joint_st.sweeps.sweep import Job
from joint_st.sweeps.table import result_line

POLL_SECONDS = 0.1

Command = Callable[[Job], Sequence[str]]


@dataclass
class Outcome:
    """Jobs that did not end with an evaluation, by outcome."""

    failed: list[tuple[Job, str]] = field(default_factory=list)
    """Jobs that failed, each with its problem in one line."""
    elsewhere: list[Job] = field(default_factory=list)
    """Jobs that other processes train."""
    submitted: list[Job] = field(default_factory=list)
    """Jobs that were submitted to a cluster or cloud, now or earlier."""
    left: list[Job] = field(default_factory=list)
    """Jobs that were stopped or not started because of a signal."""
    signal: int = 0
    """The signal that ended the sweep early; 0 for none."""


@dataclass
class Started:
    """A process that trains a job."""

    job: Job
    process: subprocess.Popen
    began: float
    log_start: int
    """Size of the log in bytes when the process started."""
    launched: bool
    """Whether a launch script started it, which has processes of its own."""
    warned: int = 0
    """Number of signals that it was sent."""


def train_command(job: Job) -> list[str]:
    """Return the command that trains a job, or continues its training."""
    return [sys.executable, "-m", "joint_st", *train_arguments(job)]


def run_jobs(
    jobs: Sequence[Job], *, workers: int = 1, command: Command = train_command, resubmit: bool = False
) -> Outcome:
    """Run the jobs that are not finished, `workers` at once, in the order given; a job that fails does not stop the
    others.

    A job that another process trains is left to it. So is one that was submitted, unless `resubmit` is set and it has
    written nothing for `SILENT_SECONDS`. SIGINT, SIGTERM and SIGHUP are passed on as SIGTERM, on which a training saves
    a checkpoint and ends; a second signal kills it. command: makes the command that trains a job, on this machine or by
    a launcher.
    """
    outcome = Outcome()
    todo = []
    for job in jobs:
        if look(job).finished:
            # Its config may be given more steps later.
            job.submission.unlink(missing_ok=True)
        else:
            todo.append(job)
    finished = len(jobs) - len(todo)
    if finished:
        log(f"{finished} of {len(jobs)} runs are finished already")
    forgotten = _forgotten_submissions(todo) if resubmit else {}
    with (
        Signals() as signals,
        tqdm.tqdm(
            total=len(jobs), initial=finished, desc="sweep", unit="run", disable=None, delay=1, dynamic_ncols=True
        ) as bar,
    ):
        # Those that are locked are tried again at the end: their process may have ended without finishing them.
        todo = _run_all(todo, workers, command, forgotten, signals, bar, outcome)
        todo = _run_all(todo, workers, command, forgotten, signals, bar, outcome)
    outcome.signal = signals.first
    (outcome.left if signals.first else outcome.elsewhere).extend(todo)
    return outcome


def _forgotten_submissions(jobs: Sequence[Job]) -> dict[str, float]:
    """Return, by name, the times of submission of jobs that have written nothing for a while."""
    found = {}
    for job in jobs:
        if known := submission(job):
            if last_sign(job) > time.time() - SILENT_SECONDS:
                log(f"{job.name}: {known}, and has written something just now; not submitted again")
            else:
                found[job.name] = known.time
    return found


def _run_all(
    jobs, workers: int, command: Command, forgotten: dict[str, float], signals: Signals, bar, outcome: Outcome
) -> list[Job]:
    """Run the jobs, record their outcomes, and return those that were not run: locked jobs and, after a signal, the
    rest.

    forgotten: times of submissions, by name, that no longer count.
    """
    waiting, running, locked = deque(jobs), [], []
    try:
        while running or waiting and not signals.count:
            if waiting and len(running) < workers and not signals.count:
                job = waiting.popleft()
                # Whatever its disk refuses, a full one say, is a failure of this run alone.
                try:
                    if (descriptor := lock(job.lock)) is None:
                        locked.append(job)
                        continue
                    try:
                        started = _start_unless_done(job, command, forgotten, descriptor, outcome)
                    finally:
                        os.close(descriptor)  # the process holds it still
                except OSError as error:
                    _fail(job, _refusal(job, error), outcome)
                    started = None
                if started:
                    running.append(started)
                    bar.set_postfix_str(", ".join(started.job.name for started in running))
                else:
                    bar.update()
                continue
            pass_on(signals, running)
            for started in [started for started in running if _has_ended(started)]:
                running.remove(started)
                try:
                    _account(started, signals, outcome)
                except OSError as error:
                    _fail(started.job, _refusal(started.job, error), outcome)
                bar.set_postfix_str(", ".join(started.job.name for started in running))
                bar.update()
            if running:
                time.sleep(POLL_SECONDS)
    finally:
        for started in running:  # only after an error of this process
            _send(started, signal.SIGTERM)
    return [*locked, *waiting]


def _start_unless_done(
    job: Job, command: Command, forgotten: dict[str, float], descriptor: int, outcome: Outcome
) -> Started | None:
    """Start a job, or return None where another process has finished or submitted it since this one looked.

    descriptor: that of its lock, which this process holds.
    """
    if look(job).finished:
        return None
    if (known := submission(job)) and known.time != forgotten.get(job.name):
        outcome.submitted.append(job)
        return None
    return _start(job, command, descriptor)


def _start(job: Job, command: Command, descriptor: int) -> Started:
    """Start a job's process, which inherits the lock."""
    steps = job.directory.checkpoint_steps
    words, launched = list(command(job)), isinstance(command, Launcher)
    for outdated in (job.submission, job.failure):
        outdated.unlink(missing_ok=True)
    with open(job.log, "ab") as output:
        output.write(f"{COMMAND_MARK}{shlex.join(words)}\n".encode())
        output.flush()
        log_start = output.tell()
        # A session of its own: Ctrl-C in the terminal would end a training before it has saved.
        process = subprocess.Popen(
            noting_submission(job, words) if launched else words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[descriptor],
        )
    log(f"{job.name}: {f'continues from step {steps[-1]}' if steps else 'starts'}; log {job.log}")
    return Started(job, process, time.monotonic(), log_start, launched)


def _has_ended(started: Started) -> bool:
    if started.process.poll() is None:
        return False
    # At a signal a launch script may end before what it has started here, which then still holds the lock.
    return not (started.warned and started.launched and is_locked(started.job.lock))


def _account(started: Started, signals: Signals, outcome: Outcome) -> None:
    """Print how a process ended, and record a job that failed."""
    job, status = started.job, started.process.returncode
    minutes = f"{(time.monotonic() - started.began) / 60:.1f} min"
    state = look(job)
    if status == 0 and state.finished:
        job.submission.unlink(missing_ok=True)
        try:
            result = result_line(state.evaluation)
        except UserError as error:  # it must not end the other runs
            result = f"finished, but {error}"
        log(f"{job.name}: {result}; {minutes}")
    elif status == 0 and started.launched:
        outcome.submitted.append(job)
        log(f"{job.name}: {submission(job)}")
    elif signals.count:
        outcome.left.append(job)
        log(f"{job.name}: stopped, step {state.steps} of {job.config.training.steps} saved; {minutes}{_left(started)}")
    else:
        _fail(job, _problem(started, state.conflict), outcome, f" after {minutes}")


def _left(started: Started) -> str:
    """Return what a launcher said at its end, which may have left behind what it had started elsewhere."""
    last = last_line(started.job.log, started.log_start) if started.launched else ""
    return last and f"; its launcher: {last}"


def _fail(job: Job, problem: str, outcome: Outcome, when: str = "") -> None:
    """Record and print that a job failed."""
    with contextlib.suppress(OSError):  # where its disk is full, it is recorded here alone
        job.failure.write_text(problem + "\n", encoding="utf-8")
    outcome.failed.append((job, problem))
    log(f"{job.name}: failed{when}: {problem}")


def _refusal(job: Job, error: OSError) -> str:
    """Return in one line what the operating system refused to do for a job."""
    return f"{error.filename or job.log}: {error.strerror or error}"


def _problem(started: Started, conflict: str) -> str:
    """Return why a run failed: the last line of its log, or the conflict of its directory with its config."""
    last = last_line(started.job.log, started.log_start)
    status = started.process.returncode
    if status == 0:
        return f"ended with status 0, but {conflict or 'without an evaluation of its last step'}"
    how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    return f"{last} ({how})" if last else how


class Signals:
    """A context in which signals that ask this process to end are counted and do not end it."""

    ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.count = 0
        self.first = 0

    def __enter__(self) -> Signals:
        # A signal that is ignored stays ignored: `nohup` and shell scripts do that for background processes.
        asking = [number for number in self.ASKING if signal.getsignal(number) != signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._note) for number in asking}
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, frame) -> None:
        self.count += 1
        self.first = self.first or number


def pass_on(signals: Signals, running: Sequence[Started]) -> None:
    """Ask every process once to end, and kill it at the second signal."""
    # Read once: a signal that comes in the middle of this is passed on the next time.
    count = signals.count
    for started in running:
        if started.warned < count:
            if not started.warned:
                whom = "its launcher is asked to end" if started.launched else "asked to save a checkpoint and end"
                log(f"{started.job.name}: {whom}; a second signal kills it")
            _send(started, signal.SIGKILL if count > 1 else signal.SIGTERM)
            started.warned = count


def _send(started: Started, number: int) -> None:
    """Send a signal to the process of a job, or kill it with all that a launch script has started here."""
    if started.launched and number == signal.SIGKILL:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.process.pid, number)
    else:
        started.process.send_signal(number)


def log(line: str) -> None:
    """Print one line above the progress bar."""
    with contextlib.suppress(OSError):  # where a full disk takes the output, the runs go on
        tqdm.tqdm.write(line, file=sys.stderr)
        sys.stderr.flush()
