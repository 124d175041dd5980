"""Faults, and the counts of their outcomes.

A fault is a function that is registered under a name. It tries one kind of accident as often as its part of the
campaign requires, and counts how each try ended:

    @fault("an empty manifest", ci=True)
    def empty_manifest(trial: Trial) -> None:
        for size in trial.scaled(100, ci=10):
            (trial.work / "m.jsonl").write_text("")
            outcome, told = ...
            trial.count(outcome, f"size {size}", told, evidence=trial.work / "m.jsonl")
"""

from __future__ import annotations

import dataclasses
import fcntl
import random
import re
import shutil
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple


class Outcome(StrEnum):
    """How a try ended; also the name of its column."""

    SURVIVED = "survived"
    """The result is that without the fault."""
    REFUSED = "refused"
    """One line says what is wrong; nothing that was done before is lost."""
    TRACEBACK = "traceback"
    """Python's traceback, a crash, or an error without a word of ours."""
    SILENT = "silent"
    """Another result without a word."""
    LOST = "lost"
    """Work that was done is gone, a process did not end in time, or one was left behind."""


BAD = (Outcome.TRACEBACK, Outcome.SILENT, Outcome.LOST)
"""Outcomes that a campaign is to have none of."""

TOLD = 500
"""Most characters that are kept of what was said."""


@dataclasses.dataclass
class Row:
    """A row of the table: the outcomes of one fault."""

    fault: str
    counts: dict[Outcome, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    skipped: str = ""
    """Why it was not tried here."""
    seconds: float = 0.0
    more: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Further facts, such as the line coverage of a reader."""
    failures: list[dict[str, str]] = dataclasses.field(default_factory=list)
    """Case, outcome, what was said, and what was kept of each try that ended in one of `BAD`."""

    @property
    def tried(self) -> int:
        """Tries that were counted."""
        return sum(self.counts.values())

    @property
    def bad(self) -> int:
        """Tries that ended as none should."""
        return sum(self.counts[outcome] for outcome in BAD)

    def record(self) -> dict:
        """Return the row for JSON."""
        row = {"fault": self.fault, "tried": self.tried, **{str(key): value for key, value in self.counts.items()}}
        row |= {"seconds": round(self.seconds, 1)}
        for name in ("skipped", "more", "failures"):
            if value := getattr(self, name):
                row[name] = value
        return row


class Skipped(Exception):
    """The fault cannot be tried on this machine; the message says why."""


@dataclasses.dataclass
class Trial:
    """One fault while it is tried."""

    row: Row
    whole: bool
    """Whether the whole campaign is run, or only the part for `.ci/run`."""
    seed: int
    """Another one for each fault, and the same in each campaign of one seed."""
    work: Path
    """An empty folder, removed afterwards."""
    kept: Path
    """Where the failing cases of this fault are kept; made when there is one."""
    shared: Path
    """A folder of the campaign, for what several faults use; see `made`."""

    def __post_init__(self):
        self.chance = random.Random(self.seed)
        """What is random in the tries."""

    def made(self, name: str, make: Callable[[Path], object]) -> Path:
        """Return the folder or file `name`, which `make` makes once for all faults; these may run side by side."""
        place, done = self.shared / name, self.shared / f".{name}.done"
        with open(self.shared / f".{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                self.progress(f"makes {name}")
                make(place)
                done.touch()
        return place

    def scaled(self, whole: int, ci: int) -> range:
        """Return the numbers of the tries: `whole` in the whole campaign, and `ci` in the part for `.ci/run`."""
        return range(whole if self.whole else ci)

    def count(self, outcome: Outcome, case: str, told: str = "", evidence: Path | bytes | None = None) -> None:
        """Count a try; where it ended as none should, print it and keep `evidence`, a file, a folder, or bytes."""
        self.row.counts[outcome] += 1
        if outcome not in BAD:
            return
        failure = {"case": case, "outcome": str(outcome), "told": told.strip()[-TOLD:]}
        if evidence is not None:
            failure["kept"] = self._keep(evidence, f"{self.row.bad:04}_{case}")
        self.row.failures.append(failure)
        last = failure["told"].splitlines()[-1:] or [""]
        print(f"    {self.row.fault}: {outcome}: {case}: {last[0]}", file=sys.stderr, flush=True)

    def progress(self, done: str) -> None:
        """Print how far the tries are."""
        print(f"    {self.row.fault}: {done}", file=sys.stderr, flush=True)

    def skip(self, why: str) -> None:
        """End the fault as one that cannot be tried here."""
        raise Skipped(why)

    def _keep(self, evidence: Path | bytes, name: str) -> str:
        self.kept.mkdir(parents=True, exist_ok=True)
        place = self.kept / re.sub(r"[^\w.-]+", "_", name)[:100]
        if isinstance(evidence, bytes):
            place.write_bytes(evidence)
        elif evidence.is_dir():
            shutil.copytree(evidence, place, dirs_exist_ok=True)
        elif evidence.exists():
            shutil.copyfile(evidence, place)
        return place.name


class Fault(NamedTuple):
    """A fault that is registered."""

    name: str
    ci: bool
    """Whether `.ci/run` tries it too."""
    run: Callable[[Trial], None]


FAULTS: list[Fault] = []
"""All faults, in the order in which they are tried."""


def fault(name: str, *, ci: bool = False) -> Callable[[Callable[[Trial], None]], Callable[[Trial], None]]:
    """Register a function as a fault; `ci` says whether `.ci/run` tries it too."""

    def register(run: Callable[[Trial], None]) -> Callable[[Trial], None]:
        FAULTS.append(Fault(name, ci, run))
        return run

    return register
