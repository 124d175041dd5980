"""Runs the cases of a kind in processes of their own, starts a new one after a crash, and adds up what they found."""

from __future__ import annotations

import ast
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import coverage

from benchmarks.fuzz.kind import CHECKOUT, Kind

TOGETHER = 2_000
"""Cases of one process."""
MEASURED = 6_000
"""Cases of which the lines are counted."""
SILENT_SECONDS = 30
"""A process that stays with one case for so long, as in code that no signal interrupts, is killed."""


class Found(NamedTuple):
    """What the cases of a kind came to."""

    counts: Counter
    """Cases by outcome: survived, refused, traceback, silent, memory, time, crash."""
    failures: list[dict]
    """Case, outcome, what was said, and the file that was kept, of some that failed."""
    ran: dict[str, set[int]]
    """Lines that were run, by file."""
    reasons: Counter
    """How often each reason for refusing was given."""


class Coverage(NamedTuple):
    """How much of some readers was run."""

    lines: int
    """Lines of the readers."""
    missed: dict[str, list[int]]
    """Those of them that were not run, by file."""

    @property
    def share(self) -> float:
        """Share of the readers' lines that were run."""
        return 1 - sum(map(len, self.missed.values())) / max(self.lines, 1)

    def __str__(self) -> str:
        return f"{self.share:.1%} of {self.lines} lines"


def covered(kinds: Iterable[Kind], ran: Iterable[Mapping[str, set[int]]]) -> Coverage:
    """Return the coverage of the readers of some kinds. ran: lines by file, for each kind."""
    wanted: dict[str, set[int]] = {}
    for kind in kinds:
        for file, lines in reader_lines(kind):
            wanted.setdefault(file, set()).update(lines)
    left = {file: sorted(lines.difference(*(one.get(file, set()) for one in ran))) for file, lines in wanted.items()}
    missed = {str(Path(file).relative_to(CHECKOUT)): lines for file, lines in left.items() if lines}
    return Coverage(sum(map(len, wanted.values())), missed)


def fuzz(kind: Kind, count: int, seed: int, work: Path, together: int = 2) -> Found:
    """Give `count` mutated inputs to the readers of a kind; failing ones are kept in `work/failures`.

    together: processes at a time. Lines are counted in the first `MEASURED` cases: that takes its time.
    """
    (work / "failures").mkdir(parents=True, exist_ok=True)
    counts, reasons, failures, ran = Counter(), Counter(), [], {}
    chunks = [(first, min(first + TOGETHER, count)) for first in range(0, count, TOGETHER)]
    with ThreadPoolExecutor(together) as workers:
        for records, lines in workers.map(lambda chunk: _chunk(kind, seed, *chunk, work), chunks):
            for record in records:
                counts[record["outcome"]] += 1
                reasons.update([record["reason"]] if "reason" in record else [])
                failures += [record] if "told" in record else []
            for file, numbers in lines.items():
                ran.setdefault(file, set()).update(numbers)
    return Found(counts, failures, ran, reasons)


def _chunk(kind: Kind, seed: int, todo: int, last: int, work: Path) -> tuple[list[dict], dict[str, list[int]]]:
    """Return a record of each of some cases, and the lines that were run, by file."""
    records, lines = [], {}
    while todo < last:
        place = work / f"{todo}"
        ended = _process(kind, seed, todo, last, place)
        records += [json.loads(line) for line in (place / "cases").read_text().splitlines()]
        if ended:
            number, _, name = (place / "progress").read_text().partition(" ")
            broken = place / "case" / name.strip()
            shutil.copyfile(broken, place / "failures" / f"{number}_{broken.name}")
            told = {"case": f"{number} {name.strip()}", "told": ended[-1500:], "kept": f"{number}_{broken.name}"}
            records.append({"outcome": "time" if ended.startswith("no end") else "crash", **told})
            todo = int(number) + 1
        else:
            todo, lines = last, json.loads((place / "lines.json").read_text())
        for file in (place / "failures").iterdir():
            shutil.move(file, work / "failures" / file.name)
        shutil.rmtree(place, ignore_errors=True)
    return records, lines


def _process(kind: Kind, seed: int, first: int, last: int, place: Path) -> str:
    """Runs cases in a process; returns why it ended before the last, or nothing."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    command = [
        sys.executable,
        "-m",
        "benchmarks.fuzz.child",
        kind.name,
        *map(str, (seed, first, last, place)),
        str(int(first < MEASURED)),
    ]
    with open(place / "output", "w+b") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=CHECKOUT)
        seen, since = "", time.monotonic()
        while process.poll() is None:
            time.sleep(0.05)
            now = (place / "progress").read_text() if (place / "progress").exists() else ""
            if now != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > SILENT_SECONDS + 60 * (not seen):
                process.kill()
                process.wait()
                return f"no end of one case in {SILENT_SECONDS} s"
        output.seek(0)
        said = output.read().decode("utf-8", "replace").strip()
    if process.returncode == 0 and (place / "lines.json").exists():
        return ""
    if not (place / "progress").exists():
        raise RuntimeError(f"{kind.name}: {said}")
    return f"status {process.returncode}: {said}"


def reader_lines(kind: Kind) -> Iterator[tuple[str, set[int]]]:
    """Yield each file with readers and the numbers of their lines, those of `def` and docstrings left out."""
    for module, names in kind.readers.items():
        file = importlib.util.find_spec(module).origin
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
        functions = {name: node for name, node in _functions(tree)}
        if missing := [name for name in names if name not in functions]:
            raise ValueError(f"{module} has no {missing[0]} any more; change benchmarks/fuzz")
        statements = set(coverage.Coverage(data_file=None, config_file=False).analysis2(file)[1])
        wanted = set()
        for name, node in functions.items():
            if not names or name in names:
                wanted.update(range(node.body[0].lineno, node.end_lineno + 1))
        yield file, statements & wanted


def _functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield f"{prefix}{node.name}", node
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{node.name}.")
