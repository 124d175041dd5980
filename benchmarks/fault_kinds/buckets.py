"""Faults of a bucket: it is busy, no longer accepts the account, loses objects, or is gone."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
from collections.abc import Iterator

from benchmarks.fault_kinds.processes import Running
from benchmarks.fault_kinds.runs import InBucket, goes_on, tiny, trained, variables
from benchmarks.fault_kinds.trial import Outcome, Trial, fault
from tests.gcs import Store, serve

BUSY = 0.05
"""Part of the requests that are answered with 503."""


@contextlib.contextmanager
def run_in_bucket(trial: Trial, name: str) -> Iterator[tuple[Store, InBucket, Running]]:
    """A training with its run in a bucket, killed at the end if it still runs."""
    with serve() as (store, found):
        place = InBucket(store, found, name)
        one = begin(trial, place)
        try:
            yield store, place, one
        finally:
            store.refuse = lambda *_: None
            if one.running():
                one.kill()


def begin(trial: Trial, place: InBucket) -> Running:
    """Return the training, or its continuation."""
    arguments = ("train", tiny(trial), "--workdir", place.place)
    return Running(*arguments, logs=trial.work / "logs", env=variables(trial, **place.variables))


def judge(trial: Trial, place: InBucket, one: Running, case: str, before: list[int] | None = None) -> None:
    """Count how a training ended whose bucket failed; a refused one must continue once the bucket works again."""
    ended = one.end(400)
    outcome, told = ended.judge(), ended.told
    if outcome is Outcome.REFUSED and before and place.steps()[-1:] < before[-1:]:
        outcome = Outcome.LOST
    if outcome in (Outcome.REFUSED, Outcome.SURVIVED) or ended.status == -signal.SIGKILL:
        again, said = goes_on(trial, place, lambda: [begin(trial, place)], trained(trial))
        if again is not Outcome.SURVIVED:
            outcome, told = again, said
        elif ended.status == -signal.SIGKILL:
            outcome = Outcome.SURVIVED
    trial.count(outcome, case, told, trial.work / "logs")


@fault("a bucket that answers 5 % of requests with 503")
def busy(trial: Trial) -> None:
    """Every request may be refused for the moment, each time it is made."""
    trained(trial)
    for n in trial.scaled(4, 1):
        with run_in_bucket(trial, str(n)) as (store, place, one):
            chance = random.Random(trial.seed + n)
            store.refuse = lambda method, bucket, name, chance=chance: 503 if chance.random() < BUSY else None
            ended = one.end(400)
            store.refuse = lambda *_: None
            outcome, told = ended.judge(), ended.told
            if outcome is Outcome.SURVIVED:
                outcome, told = goes_on(trial, place, lambda place=place: [begin(trial, place)], trained(trial))
            trial.count(outcome, f"run {n}, {sum(store.requests.values())} requests", told, trial.work / "logs")


@fault("a bucket whose credentials expire")
def expired(trial: Trial) -> None:
    """From some moment on each request is answered with 401 or 403; later the account is accepted again."""
    trained(trial)
    for status in (401, 403):
        for steps in (0, 8, 24):
            with run_in_bucket(trial, f"{status}-{steps}") as (store, place, one):
                one.when(lambda place=place, steps=steps: (place.steps() or [0])[-1] >= steps)
                before = place.steps()
                store.refuse = lambda *_, status=status: status
                one.end(400)
                store.refuse = lambda *_: None
                judge(trial, place, one, f"{status} from step {steps} on", before)


@fault("a bucket that loses a save between two objects", ci=True)
def half_saved(trial: Trial) -> None:
    """The process dies, or the bucket is gone for good, between any two objects of a checkpoint."""
    trained(trial)
    numbers = range(1, 18) if trial.whole else [4]
    for number in numbers:
        how = "killed" if number % 2 else "refused"
        with run_in_bucket(trial, str(number)) as (store, place, one):
            lock, seen = threading.Lock(), [0]

            def refuse(method, bucket, name, one=one, number=number, how=how, lock=lock, seen=seen):
                if method != "POST" or "/checkpoints/8" not in name:
                    return None
                with lock:
                    seen[0] += 1
                    if seen[0] <= number:
                        return None
                if how == "killed":
                    one.send(signal.SIGKILL)
                return 403

            store.refuse = refuse
            one.end(400)
            store.refuse = lambda *_: None
            judge(trial, place, one, f"{how} after {number} requests of the save")


@fault("a bucket that takes an object and does not keep it")
def not_kept(trial: Trial) -> None:
    """An object of the latest checkpoint is gone afterwards: the run goes on from the one before, or is refused."""
    trained(trial)
    with serve() as (store, found):
        for n in range(8):
            place = InBucket(store, found, str(n))
            one = begin(trial, place)
            one.when(lambda place=place: len(place.steps()) > 1)
            one.kill()
            latest = place.steps()[-1]
            names = [name for name in store.names(place.bucket, f"runs/one/checkpoints/{latest}/")]
            lost = trial.chance.choice(names)
            del store.buckets[place.bucket][lost]
            outcome, told = goes_on(trial, place, lambda place=place: [begin(trial, place)], trained(trial))
            if outcome is Outcome.LOST and "joint-st: error: " in told:
                outcome = Outcome.REFUSED
            trial.count(outcome, lost.split("/", 3)[3], told, trial.work / "logs")


@fault("a bucket that is gone")
def gone(trial: Trial) -> None:
    """The bucket is deleted, or does not answer any more, while a run trains into it."""
    trained(trial)
    for status in (404, 500):
        with run_in_bucket(trial, str(status)) as (store, place, one):
            one.when(place.steps)
            store.refuse = lambda *_, status=status: status
            one.end(400)
            store.refuse = lambda *_: None
            judge(trial, place, one, f"{status} to every request")
