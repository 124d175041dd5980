"""What benchmarks share that time programs: programs that take turns, and what a file of results says of them.

Programs take turns, so that a busy machine slows all. A row of results has the median milliseconds of ours and of the
other (`ours_ms`, `theirs_ms`). `ratio` is the median of the rounds' ratios, theirs over ours in the same round, and
`ratio_low` to `ratio_high` is the range of their middle 80 %. A row whose rival cannot be used has `missing`, which says
why, and no times. Files without `ratio_rule` are older: `train_step.json` has the same rule, others divide the medians.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.machine import RESULTS, commit, device, machine

WARM_UPS = 2
"""Calls of each program before the first that is timed, unless a benchmark says otherwise."""
AT_LEAST = 5.0
"""Seconds that programs take turns."""
RATIO_RULE = "median of the ratios of the rounds"


def take_turns(
    programs: Mapping[str, Callable[[], Any]], rounds: int, at_least: float = AT_LEAST, warm_ups: int = WARM_UPS
) -> dict[str, np.ndarray]:
    """Return the seconds that each program took in each round. A program returns when it is done.

    There are as many rounds as asked for, and more until `at_least` seconds are over: a busy machine disturbs programs of
    milliseconds most. Every second round goes through them backwards, so that none always comes after the same other.
    """
    for program in programs.values():
        for _ in range(warm_ups):
            program()
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    n, began = 0, time.perf_counter()
    while n < rounds or time.perf_counter() - began < at_least:
        for name in list(programs)[:: 1 if n % 2 == 0 else -1]:
            start = time.perf_counter()
            programs[name]()
            seconds[name].append(time.perf_counter() - start)
        n += 1
    return {name: np.array(one) for name, one in seconds.items()}


def ratios(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """Return the median and the middle 80 % of the rounds' ratios, theirs over ours."""
    low, middle, high = np.quantile(theirs / ours, (0.1, 0.5, 0.9))
    return {"ratio": round(float(middle), 3), "ratio_low": round(float(low), 3), "ratio_high": round(float(high), 3)}


def median_ms(seconds: np.ndarray) -> float:
    """Return the median of the rounds in milliseconds."""
    return round(1e3 * float(np.median(seconds)), 3)


def compared(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """Return what a row says of the seconds of two programs in the same rounds."""
    times = {"ours_ms": median_ms(ours), "theirs_ms": median_ms(theirs)}
    return times | ratios(ours, theirs) | {"rounds": len(ours)}


def compiled(function: Callable, *arguments) -> Callable[[], Any]:
    """Return a program without arguments that runs a compiled function and waits for its results."""
    program = jax.jit(function).lower(*arguments).compile()
    return lambda: jax.block_until_ready(program(*arguments))


def unusable(error: Exception) -> str:
    """Return what a row says of a rival that failed: the first line of the error, with names of files but not where this
    machine keeps them."""
    return re.sub(r"(?<![\w:/])(?:/[^/\s:]+)+/", "", f"{type(error).__name__}: {error}".splitlines()[0])


def distribution(name: str) -> str:
    """Return the name and the version of an installed distribution."""
    return f"{name} {importlib.metadata.version(name)}"


def without_rival(row: Mapping[str, Any], before: Sequence[Mapping[str, Any]]) -> str:
    """Return in words the rival that earlier rows compare a row's program with, where the row has none or another one; ""
    where it has it, or where the earlier rows have no such program. Versions of a rival count as one."""

    def rival(one: Mapping[str, Any]) -> str:
        return (one.get("rival") or "").partition(" ")[0]

    there = {
        rival(one): one["rival"]
        for one in before
        if rival(one) and "missing" not in one and all(one.get(name) == row.get(name) for name in ("name", "op"))
    }
    if "missing" in row:
        return there.get(rival(row), "")
    return "" if not there or rival(row) in there else " or ".join(there.values())


class Rows:
    """Rows of results that are printed as they come, and written to a file if there is one.

    A file of the repository's results is left as it is where a row lacks the rival that it was compared with there: the
    rest is printed only.
    """

    def __init__(self, file: Path | None, packages: tuple[str, ...], of: int):
        self._file, self._of = file, of
        self._same = {"device": device(), "commit": commit()}
        command = f"python -m benchmarks.{Path(sys.argv[0]).stem} {' '.join(sys.argv[1:])}".strip()
        self._about = {"command": command, "ratio_rule": RATIO_RULE, "machine": machine(packages)}
        self._rows: list[dict] = []
        kept = file and file.parent == RESULTS and file.is_file()
        self._before = file.read_text(encoding="utf-8") if kept else '{"rows": []}'
        print(f"on {self._same['device']}; ratios have the middle 80 % of the rounds in brackets")

    def add(self, row: dict[str, Any], told: str = "") -> None:
        """Add a row, of which `told` is printed. Without that, it is a row of two programs: `op`, `rival`, its sizes, and
        what `compared` returned or `missing`."""
        self._rows.append(row | self._same)
        print(f"[{len(self._rows)}/{self._of}] {told or describe(row)}", flush=True)
        if self._file and (other := without_rival(row, json.loads(self._before)["rows"])):
            self._file.write_text(self._before, encoding="utf-8")
            print(f"{self._file} is left as it is: it has {other}, which is not there now; install it, or give --out")
            self._file = None
        if self._file:  # after each, so that what is broken off leaves what it has found
            self._file.write_text(json.dumps(self._about | {"rows": self._rows}, indent=1) + "\n", encoding="utf-8")

    def end(self) -> None:
        """Say where the rows are."""
        if self._file:
            print(f"written to {self._file}")


def write_sizes(
    about: str,
    sizes: Mapping[str, Any],
    file: Path,
    packages: tuple[str, ...],
    measure: Callable[[str, int], dict[str, Any]],
    describe: Callable[[dict[str, Any]], str],
) -> None:
    """Run a benchmark from the command line that has a row for each size. about: its docstring; measure: from a size's
    name and a number of rounds to the row; describe: from the row to words."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", choices=sizes, metavar="SIZE", help=", ".join(sizes))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"the rows; of all sizes, {file.name} of the results")
    options = parser.parse_args()
    chosen = options.size or [*sizes]
    # Some rows alone must not take the place of all.
    rows = Rows(options.out or (None if options.size else file), packages, of=len(chosen))
    for name in chosen:
        row = measure(name, options.rounds)
        rows.add(row, describe(row))
    rows.end()


def describe(row: dict[str, Any]) -> str:
    """Return a row of two programs in words."""
    told = {name: value for name, value in row.items() if not name.startswith(("ours", "theirs", "ratio"))}
    told = {name: value for name, value in told.items() if name not in ("op", "rival", "missing", "rounds")}
    sizes = ", ".join(f"{name} {value}" for name, value in told.items())
    found = row.get("missing") or (
        f"ours {row['ours_ms']:.1f} ms, theirs {row['theirs_ms']:.1f} ms, theirs over ours {ratio_in_words(row)}"
    )
    return f"{row['op']} and {row['rival']}: {found}; {sizes}"


def ratio_in_words(row: dict[str, Any], name: str = "ratio") -> str:
    """Return a ratio with its range."""
    return f"{row[name]:.2f} ({row[f'{name}_low']:.2f}-{row[f'{name}_high']:.2f})"
