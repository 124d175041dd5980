"""Inputs that are nearly valid, 20,000 of each kind: read with a plausible result, or refused in one line.

Each case has limited memory and time; failing inputs are kept, and the line coverage of the readers is measured
by coverage.py, since Python 3.11 has no `sys.monitoring`.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.fault_kinds.trial import Outcome, Trial, fault
from benchmarks.fuzz.drive import covered, fuzz
from benchmarks.fuzz.kind import Kind
from benchmarks.fuzz.kinds import KINDS

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
    """Try a kind, and record which lines of its readers were run."""
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
    tried = keep_lines(kind, found.ran, trial)
    seen = covered(*zip(*tried))
    of = f" by {len(tried)} kinds of {kind.family}" if kind.family else ""
    trial.row.more["line coverage"] = f"{seen} of {', '.join(sorted(map(_short, kind.readers)))}{of}"
    trial.row.more["not run"] = seen.missed
    trial.progress(f"line coverage of the readers{of}: {seen}")
    complete = not kind.family or len(tried) == sum(one.family == kind.family for one in KINDS)
    if trial.whole and complete and seen.share < kind.covered:
        trial.row.more["error"] = f"line coverage {seen.share:.1%}, and {kind.covered:.0%} are wanted"


def keep_lines(kind: Kind, ran: dict[str, set[int]], trial: Trial) -> list[tuple[Kind, dict[str, set[int]]]]:
    """Keep which lines the cases of a kind have run; those of all kinds of its family that were tried so far."""
    folder = trial.shared / f"lines of {kind.family or kind.name}"
    folder.mkdir(exist_ok=True)
    draft = folder / f"{kind.name}.draft"
    draft.write_text(json.dumps({file: sorted(lines) for file, lines in ran.items()}))
    draft.rename(folder / f"{kind.name}.json")  # whole, since another kind of the family may read it now
    kinds = {one.name: one for one in KINDS}
    files = sorted(folder.glob("*.json"))
    return [
        (kinds[file.stem], {name: set(lines) for name, lines in json.loads(file.read_text()).items()}) for file in files
    ]


def _short(module: str) -> str:
    return module.removeprefix("joint_st.").replace(".", "/") + (".py" if Path(module).suffix else "")


def _register(kind: Kind) -> None:
    fault(f"inputs: {kind.name}", ci=True)(lambda trial: try_kind(kind, trial))


for _kind in KINDS:
    _register(_kind)
