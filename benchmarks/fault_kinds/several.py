"""Two jobs in one run directory, a process that is stopped, and a read that never returns."""

from __future__ import annotations

import signal
import socket
import time

from benchmarks.fault_kinds.processes import Running, pair
from benchmarks.fault_kinds.runs import (
    SMALL_STEP,
    Disk,
    InBucket,
    Place,
    difference,
    goes_on,
    small,
    tiny,
    trained,
    trained_by_two,
    variables,
    with_changes,
)
from benchmarks.fault_kinds.trial import Outcome, Trial, fault
from tests.gcs import serve

READ_SECONDS = 10
"""The limit that these jobs set for reading a batch (`data.read_timeout_seconds`)."""

STOPPED_SECONDS = 60
"""All processes of a job end within this time once one of them is stopped, as `joint-st train --help` promises."""

STUCK_SECONDS = 150
"""A job with a read that never returns ends within this time, from its start on."""


@fault("two trainings in one run directory", ci=True)
def two_trainings(trial: Trial) -> None:
    """The second is refused, or waits; the first ends as if it had been alone. Both free the directory at once."""
    for n in trial.scaled(3, 1):
        second_training(trial, Disk(trial.work / f"run{n}"), "a disk", late=n != 1)


@fault("two trainings in one run directory, in a bucket")
def two_trainings_in_a_bucket(trial: Trial) -> None:
    """The second training is refused in a bucket too."""
    with serve() as (store, found):
        for n in range(3):
            second_training(trial, InBucket(store, found, str(n)), "a bucket", late=n != 1)


def second_training(trial: Trial, place: Place, where: str, late: bool) -> None:
    """A second training begins, late or at the same moment."""
    env, logs = variables(trial, **place.variables), trial.work / "logs"
    start = lambda: [Running("train", tiny(trial), "--workdir", place.place, logs=logs, env=env)]  # noqa: E731
    case = f"{'while the first makes steps' if late else 'both at once'}, {where}"
    (first,) = start()
    if late:
        first.when(place.steps)
    (second,) = start()
    ends = [one.end() for one in (first, second)]
    outcomes = [ended.judge() for ended in ends]
    told = " | ".join(ended.told for ended in ends)
    bad = [outcome for outcome in outcomes if outcome not in (Outcome.SURVIVED, Outcome.REFUSED)]
    if bad:
        outcome = bad[0]
    elif Outcome.SURVIVED not in outcomes or place.steps()[-1:] != Disk(trained(trial)).steps()[-1:]:
        outcome = Outcome.LOST
    elif difference(place.copy(trial.work / "copy"), trained(trial)):
        outcome = Outcome.SILENT
    else:
        outcome = Outcome.REFUSED if Outcome.REFUSED in outcomes else Outcome.SILENT
        if outcome is Outcome.SILENT and any("trained 0 steps" in ended.err for ended in ends):
            outcome = Outcome.SURVIVED  # the second waited, and found nothing left to do
    trial.count(outcome, case, told, logs)
    # A job that was killed and is started again at once is not refused for its own lock.
    place.remove()
    (first,) = start()
    first.when(place.steps)
    first.kill()
    outcome, told = goes_on(trial, place, start, trained(trial))
    trial.count(outcome, f"started again at once after a kill, {where}", told, logs)
    place.remove()


@fault("one of two processes is stopped")
def stopped(trial: Trial) -> None:
    """SIGSTOP of process 0 or 1, before the first step or later: the job ends and names the host."""
    config = small(trial)
    for victim in (0, 1):
        for moment in ("at the start", "between steps"):
            place = Disk(trial.work / f"run_{victim}_{moment}")
            start = lambda place=place: pair(  # noqa: E731
                "train",
                *(config, "--workdir", place.place),
                logs=trial.work / "logs",
                module=SMALL_STEP,
                env=variables(trial),
            )
            processes = start()
            if moment == "between steps":
                processes[0].when(place.steps)
            else:
                processes[0].when(lambda processes=processes: "devices  " in processes[0].err)
            processes[victim].send(signal.SIGSTOP)
            began = time.monotonic()
            other = processes[1 - victim].end(STOPPED_SECONDS)
            took = time.monotonic() - began
            processes[victim].kill()
            outcome = other.judge()
            names = f"process {victim} on {socket.gethostname()}" in other.err
            if outcome is Outcome.REFUSED and not names:
                outcome = Outcome.SILENT
            told = f"ended after {took:.0f} s: {other.told}"
            if outcome is Outcome.REFUSED:
                again, said = goes_on(trial, place, start, trained_by_two(trial))
                if again is not Outcome.SURVIVED:
                    outcome, told = again, said
            trial.count(outcome, f"process {victim} {moment}", told, trial.work / "logs")


@fault("a read that never returns", ci=True)
def stuck_read(trial: Trial) -> None:
    """The read of one utterance, in a job alone or on one of two processes: the job ends and names the host and what it
    reads."""
    limit = {"data.read_timeout_seconds": READ_SECONDS}
    module = "benchmarks.fault_kinds.stuck"
    config = with_changes(tiny(trial), trial.work / "tiny.json", limit)
    place = Disk(trial.work / "alone")
    env = variables(trial, STUCK_READ="30")
    one = Running("train", config, "--workdir", place.place, logs=trial.work / "logs", module=module, env=env)
    ended = one.end(STUCK_SECONDS)
    judge_stuck(trial, ended, "alone")
    config = with_changes(small(trial), trial.work / "small.json", limit)
    for victim in (0, 1) if trial.whole else ():
        place = Disk(trial.work / f"two_{victim}")
        env = variables(trial, STUCK_READ="30", STUCK_PROCESS=str(victim), SMALL_STEP="1")
        arguments = ("train", config, "--workdir", place.place)
        ends = [one.end(STUCK_SECONDS) for one in pair(*arguments, logs=trial.work / "logs", module=module, env=env)]
        if any(ended.status is None for ended in ends):
            trial.count(Outcome.LOST, f"process {victim}: the job did not end", ends[0].told, trial.work / "logs")
            continue
        judge_stuck(trial, ends[0], f"process {victim}", f"process {victim} on ")


def judge_stuck(trial: Trial, ended, case: str, named: str = "") -> None:
    """Count a job that waits for a read, which must end and name the host and what it waits for."""
    outcome = ended.judge()
    if outcome is Outcome.REFUSED and (named + socket.gethostname() not in ended.err or "read" not in ended.told):
        outcome = Outcome.SILENT
    elif outcome is Outcome.SURVIVED:
        outcome = Outcome.SILENT  # it was never stuck
    trial.count(outcome, case, ended.told, trial.work / "logs")
