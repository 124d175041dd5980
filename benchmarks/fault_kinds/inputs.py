"""Inputs that are nearly valid, 20,000 of each kind: read with a plausible result, or refused in one line.

Each has a process's memory and time bounded; failing inputs are kept, and the line coverage of the readers is measured
by coverage.py, since Python 3.11 has no `sys.monitoring`.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.fault_kinds.trial import Outcome, Trial, fault
from benchmarks.fuzz.drive import fuzz
from benchmarks.fuzz.kinds import KINDS, Kind

WHOLE, PART = 20_000, 300
"""Inputs of each kind in the whole campaign, and in the part for `.ci/run`."""

OUTCOMES = {
    "survived": Outcome.SURVIVED,
    "refused": Outcome.REFUSED,
    "silent": Outcome.SILENT,
    "traceback": Outcome.TRACEBACK,
    "crash": Outcome.TRACEBACK,
    "memory": Outcome.TRACEBACK,
    "time": Outcome.LOST,
}
"""The column of each outcome: too much memory is a crash on a smaller machine, too much time work that does not end."""


def try_kind(kind: Kind, trial: Trial) -> None:
    """Tries a kind, and keeps which of its readers' lines were run."""
    found = fuzz(kind, len(trial.scaled(WHOLE, PART)), trial.seed, trial.work)
    for outcome, count in found.counts.items():
        told = [one for one in found.failures if one["outcome"] == outcome]
        for number in range(count):
            if number < len(told):
                one = told[number]
                evidence = trial.work / "failures" / one["kept"] if one["kept"] else None
                trial.count(OUTCOMES[outcome], f"{outcome} {one['case']}", one["told"], evidence)
            else:  # more of the same, of which none was kept
                trial.row.counts[OUTCOMES[outcome]] += 1
    trial.row.more["line coverage"] = (
        f"{found.coverage:.1%} of {found.lines} lines of {', '.join(map(_short, kind.readers))}"
    )
    trial.row.more["not run"] = found.missed
    trial.progress(f"line coverage of the readers {found.coverage:.1%} ({found.covered} of {found.lines})")
    if trial.whole and found.coverage < kind.covered:
        trial.row.more["error"] = f"line coverage {found.coverage:.1%}, and {kind.covered:.0%} are wanted"


def _short(module: str) -> str:
    return module.removeprefix("joint_st.").replace(".", "/") + (".py" if Path(module).suffix else "")


def _register(kind: Kind) -> None:
    fault(f"inputs: {kind.name}", ci=True)(lambda trial: try_kind(kind, trial))


for _kind in KINDS:
    _register(_kind)
