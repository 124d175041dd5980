"""A campaign of faults of processes, files, buckets and file systems, and of broken inputs.

    python -m benchmarks.faults                              # all, and the table to benchmarks/results/faults.json
    python -m benchmarks.faults --part ci                    # the part of at most six minutes that .ci/run runs
    python -m benchmarks.faults --list
    python -m benchmarks.faults --only bucket --seed 7 --keep /tmp/failing
    python -m benchmarks.faults --only Opus --update         # try again, and replace these rows of the table

Each try ends in one of five ways: `survived` (the same result), `refused` (one line says what is wrong, nothing is
lost), `traceback` (or a crash), `silent` (another result without an error), `lost` (work is gone, or something did not
end in time). The last three should be zero; otherwise the exit status is 1. Faults lie in `benchmarks/fault_kinds/`,
and a new one is a function there; the failing cases are kept where --keep says. No process that a fault starts is left
behind.

Faults are tried side by side (--workers), since most of a try is waiting: for a time limit, or a retry. The whole
campaign takes 40 minutes on 2 CPU cores.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import ctypes
import hashlib
import importlib
import json
import logging
import multiprocessing
import os
import pkgutil
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from benchmarks import fault_kinds
from benchmarks.fault_kinds.processes import adopt_orphans, end_descendants
from benchmarks.fault_kinds.trial import FAULTS, Fault, Outcome, Row, Skipped, Trial
from benchmarks.machine import CHECKOUT, RESULTS, commit, machine

FILE = RESULTS / "faults.json"
PR_SET_PDEATHSIG = 1
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "gcsfs", "tensorstore")


def main() -> int:
    # Where a shell starts this in the background it has SIGINT ignored, and so would all that is started and
    # interrupted.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--part", choices=("whole", "ci"), default="whole", help="ci: the part for .ci/run")
    parser.add_argument("--only", metavar="NAME", nargs="+", help="only the faults whose names contain one of these")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random; 0 by default")
    parser.add_argument("--keep", metavar="FOLDER", type=Path, help="where failing cases are kept; a new one in /tmp")
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help=f"the table; {FILE.relative_to(CHECKOUT)} for the whole campaign"
    )
    parser.add_argument(
        "--update", action="store_true", help="replace the rows of the faults that are tried, and keep the others"
    )
    parser.add_argument(
        "--workers", metavar="N", type=int, default=3, help="faults that are tried at a time; 3 by default"
    )
    parser.add_argument("--list", action="store_true", help="print the names of the faults and stop")
    options = parser.parse_args()
    register()
    chosen = [one for one in FAULTS if (one.ci or options.part == "whole") and named(one, options.only)]
    if options.list:
        print("\n".join(f"{one.name}{'  (ci)' if one.ci else ''}" for one in chosen))
        return 0
    if not chosen:
        parser.error(f"--only {' '.join(options.only)}: no fault has such a name; see --list")
    out = options.out or (FILE if options.part == "whole" and (options.update or not options.only) else None)
    about, rows, began = facts(options), {}, time.perf_counter()
    tried_at, spent, records = about["commit"], 0.0, {}
    if options.update and out and out.exists():
        about = json.loads(out.read_text())
        spent, records = about["seconds"], {record["fault"]: record for record in about["faults"]}
    for row in run(chosen, options):
        rows[row.fault] = row
        if out:  # after each, so that a campaign that is broken off leaves what it has found
            records[row.fault] = row.record() | {"commit": tried_at}
            about["seconds"] = round(spent + time.perf_counter() - began, 1)
            wanted = [one.name for one in FAULTS if one.ci or options.part == "whole"]
            about["not_tried"] = [name for name in wanted if name not in records]
            about["faults"] = [records[name] for name in wanted if name in records]
            out.write_text(json.dumps(about, indent=1) + "\n")
    print_table([rows[one.name] for one in chosen], time.perf_counter() - began)
    if out:
        print(f"written to {out}")
    return int(any(row.bad or row.more.get("error") for row in rows.values()))


def register() -> None:
    """Import the modules of faults, which register them."""
    for module in pkgutil.iter_modules(fault_kinds.__path__):
        importlib.import_module(f"{fault_kinds.__name__}.{module.name}")


def named(one: Fault, parts: list[str] | None) -> bool:
    """Return whether a fault is selected."""
    return not parts or any(part in one.name for part in parts)


def run(chosen: list[Fault], options: argparse.Namespace) -> Iterator[Row]:
    """Try the faults, some at a time, each in a process of ours; the rows of the table as they come."""
    kept = options.keep or Path(tempfile.gettempdir()) / f"joint_st_faults_{os.getpid()}"
    pool = concurrent.futures.ProcessPoolExecutor(
        options.workers, mp_context=multiprocessing.get_context("spawn"), initializer=begin_worker
    )
    with tempfile.TemporaryDirectory(prefix="joint_st_faults_") as scratch, pool:
        jobs = [pool.submit(run_one, one.name, options.part, options.seed, Path(scratch), kept) for one in chosen]
        for number, job in enumerate(concurrent.futures.as_completed(jobs), 1):
            row = job.result()
            print(f"[{number}/{len(chosen)}] {row.fault}: {shown(row)}", file=sys.stderr, flush=True)
            yield row
    if kept.exists():
        print(f"failing cases are in {kept}", file=sys.stderr)


def begin_worker() -> None:
    """Prepare a process that tries faults: it ends with the campaign, and what its tries leave behind becomes its
    own."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax, when runs are compared
    adopt_orphans()
    register()


def run_one(name: str, part: str, first_seed: int, scratch: Path, kept: Path) -> Row:
    """Try a fault, then remove the processes and files that it leaves behind."""
    one = next(one for one in FAULTS if one.name == name)
    row, began = Row(name), time.perf_counter()
    work = scratch / f"work_{os.getpid()}"
    for folder in (work, scratch / "shared"):
        folder.mkdir(exist_ok=True)
    seed = int.from_bytes(hashlib.sha256(f"{first_seed} {name}".encode()).digest()[:4], "big")
    trial = Trial(row, part == "whole", seed, work, kept / name.replace(" ", "_"), scratch / "shared")
    try:
        one.run(trial)
    except Skipped as error:
        row.skipped = str(error)
    except Exception as error:  # the campaign's own mistake: told, and the other faults are tried
        traceback.print_exc()
        row.more["error"] = f"{type(error).__name__}: {error}"[:500]
    for command in end_descendants():
        trial.count(Outcome.LOST, "a process is left behind", command)
    shutil.rmtree(work, ignore_errors=True)
    row.seconds = time.perf_counter() - began
    return row


def shown(row: Row) -> str:
    """Return the row in words."""
    if row.skipped:
        return f"skipped: {row.skipped}"
    counts = ", ".join(f"{count} {outcome}" for outcome, count in row.counts.items() if count)
    error = f"; the campaign itself failed: {row.more['error']}" if "error" in row.more else ""
    return f"{row.tried} tried: {counts or 'none'} ({row.seconds:.0f} s){error}"


def print_table(rows: list[Row], wall: float) -> None:
    """Print the table; wall: seconds that the campaign took, in which some faults were tried at a time."""
    width = max(len(row.fault) for row in rows)
    columns = ["tried", *Outcome]
    print(f"{'fault':{width}}  " + "  ".join(f"{name:>9}" for name in columns) + "    seconds")
    for row in rows:
        values = [row.tried, *row.counts.values()]
        note = f"  skipped: {row.skipped}" if row.skipped else ""
        note += f"  the campaign itself failed: {row.more['error']}" if "error" in row.more else ""
        print(f"{row.fault:{width}}  " + "  ".join(f"{value:>9}" for value in values) + f"  {row.seconds:>9.1f}{note}")
    totals = [sum(row.tried for row in rows)] + [sum(row.counts[outcome] for row in rows) for outcome in Outcome]
    print(f"{'all':{width}}  " + "  ".join(f"{value:>9}" for value in totals) + f"  {wall:>9.1f}")


def facts(options: argparse.Namespace) -> dict:
    """Return what was run, and where."""
    only = f" --only {' '.join(map(repr, options.only))}" if options.only else ""
    return {
        "command": f"python -m benchmarks.faults --part {options.part} --seed {options.seed}{only}",
        "workers": options.workers,
        "commit": commit(),
        "machine": machine(PACKAGES),
    }


if __name__ == "__main__":
    sys.exit(main())
