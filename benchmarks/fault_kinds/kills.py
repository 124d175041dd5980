"""Processes are killed at random moments: the run continues, and ends like one that was never killed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from benchmarks.fault_kinds.processes import Running, pair
from benchmarks.fault_kinds.runs import (
    SMALL_STEP,
    Disk,
    InBucket,
    Place,
    goes_on,
    small,
    tiny,
    trained,
    trained_by_two,
    variables,
)
from benchmarks.fault_kinds.trial import Outcome, Trial, fault
from tests.gcs import serve

KILLS_OF_A_RUN = 10
"""After so many a run is trained to its end."""

LEFT_SECONDS = 360
"""Time limit for a process to end whose companion was killed: where that had not begun, the one waits 300 s for it."""

LAUNCH_SECONDS = 12
"""About the time from the start of a process to its first steps."""


@fault("kill -9, one process", ci=True)
def one_process(trial: Trial) -> None:
    """30 at random moments, of a run on a disk."""
    kill_often(trial, 30, 2, lambda n: Disk(trial.work / f"run{n}"), alone(trial), trained(trial))


@fault("kill -9, one process, in a bucket", ci=True)
def one_process_in_a_bucket(trial: Trial) -> None:
    """30 at random moments, of a run in the stand-in bucket."""
    with serve() as (store, found):
        kill_often(trial, 30, 1, lambda n: InBucket(store, found, str(n)), alone(trial), trained(trial))


@fault("kill -9, two processes")
def two_processes(trial: Trial) -> None:
    """10 at random moments, of one of two processes or of both."""
    kill_often(trial, 10, 1, lambda n: Disk(trial.work / f"run{n}"), together(trial), trained_by_two(trial))


@fault("kill -9, two processes, in a bucket")
def two_processes_in_a_bucket(trial: Trial) -> None:
    """10 at random moments, with the run in the stand-in bucket."""
    with serve() as (store, found):
        kill_often(trial, 10, 1, lambda n: InBucket(store, found, str(n)), together(trial), trained_by_two(trial))


Start = Callable[[Place], list[Running]]


def alone(trial: Trial) -> Start:
    """Starts the run of the tiny config."""
    config, logs = tiny(trial), trial.work / "logs"
    return lambda place: [
        Running("train", config, "--workdir", place.place, logs=logs, env=variables(trial, **place.variables))
    ]


def together(trial: Trial) -> Start:
    """Starts the run of the small step, as two processes."""
    config, logs = small(trial), trial.work / "logs"
    return lambda place: pair(
        "train",
        *(config, "--workdir", place.place),
        logs=logs,
        module=SMALL_STEP,
        env=variables(trial, **place.variables),
    )


def kill_often(trial: Trial, whole: int, ci: int, new: Callable[[int], Place], start: Start, reference: Path) -> None:
    """Kill runs, continue them, and kill them again; each is finished in the end and compared with `reference`."""
    left, number = len(trial.scaled(whole, ci)), 0
    while left:
        place, cases = new(number), []
        number += 1
        for _ in range(min(left, KILLS_OF_A_RUN)):
            case = kill(trial, place, start)
            if not case:  # it was done before
                break
            cases.append(case)
        if not cases:
            continue
        left -= len(cases)
        outcome, told = goes_on(trial, place, lambda place=place: start(place), reference)
        for case in cases:
            trial.count(outcome, case, told, trial.work / "logs")
        trial.progress(f"{left} left; a run killed {len(cases)} times: {outcome}")
        place.remove()


def kill(trial: Trial, place: Place, start: Start) -> str:
    """Start a run and kill it; return when, empty if it ended before. A checkpoint that is gone counts as lost."""
    before, chance = place.steps(), trial.chance
    processes = start(place)
    if chance.random() < 0.4:
        delay = chance.uniform(0, LAUNCH_SECONDS)
        when = f"{delay:.2f} s after the start"
    else:
        at_least = (before or [0])[-1]
        processes[0].when(lambda: (place.steps() or [0])[-1] > at_least)
        delay = chance.uniform(0, 1)
        when = f"{delay:.2f} s after a step was saved"
    processes[0].pause(delay)
    victims = chance.choice([processes, [chance.choice(processes)]])
    if not all(one.running() for one in processes):
        for one in processes:
            one.end()
        return ""
    for one in victims:
        one.send(signal.SIGKILL)
    for one in processes:
        ended = one.end(LEFT_SECONDS)
        if one not in victims and ended.judge() != Outcome.REFUSED:
            trial.count(ended.judge(), f"the process that was left, {when}", ended.told, trial.work / "logs")
    after = place.steps()
    if before and (not after or after[-1] < before[-1]):
        trial.count(Outcome.LOST, f"{when}: steps {before} before, {after} after", "", trial.work / "logs")
    return f"{when}, steps {before} to {after}, {len(victims)} of {len(processes)}"
