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
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import coverage

from benchmarks.fuzz.kinds import CHECKOUT, Kind

TOGETHER = 4_000
"""Cases of one process."""
SILENT_SECONDS = 30
"""A process that stays with one case for so long, as in code that no signal interrupts, is killed."""


class Found(NamedTuple):
    """What the cases of a kind came to."""

    counts: Counter
    """Cases by outcome: survived, refused, traceback, silent, memory, time, crash."""
    failures: list[dict]
    """Case, outcome, what was said, and the file that was kept, of some that failed."""
    covered: int
    """Lines of the readers that were run."""
    lines: int
    """Lines of the readers."""
    missed: dict[str, list[int]]
    """Lines of the readers that were not run, by file."""
    reasons: Counter
    """How often each reason for refusing was given."""

    @property
    def coverage(self) -> float:
        """Share of the readers' lines that were run."""
        return self.covered / max(self.lines, 1)


def fuzz(kind: Kind, count: int, seed: int, work: Path) -> Found:
    """Give so many mutated inputs to the readers of a kind; failing ones are kept in `work/failures`."""
    counts, reasons, failures, ran = Counter(), Counter(), [], {}
    kept = work / "failures"
    kept.mkdir(parents=True, exist_ok=True)
    for first in range(0, count, TOGETHER):
        todo = first
        last = min(first + TOGETHER, count)
        while todo < last:
            place = work / f"{todo}"
            ended = _process(kind, seed, todo, last, place)
            result = json.loads((place / "result.json").read_text()) if not ended else None
            if result is None:
                # What ran before in this process is counted when it is run again without the case that ended it.
                number = int((place / "progress").read_text() or first) if (place / "progress").exists() else None
                if number is None:
                    raise RuntimeError(f"{kind.name}: {ended}")
                before = _process(kind, seed, todo, number, place.with_suffix(".before")) if number > todo else ""
                if before:
                    raise RuntimeError(f"{kind.name}: case {todo} to {number}: {before}")
                outcome = "time" if ended.startswith("no end") else "crash"
                counts[outcome] += 1
                failures.append({"case": f"{number}", "outcome": outcome, "told": ended[-1500:], "kept": ""})
                if number > todo:
                    result = json.loads((place.with_suffix(".before") / "result.json").read_text())
                    _move(place.with_suffix(".before"), kept)
                todo = number + 1
            else:
                todo = last
                _move(place, kept)
            if result:
                counts.update(result["counts"])
                reasons.update(dict(result["reasons"]))
                failures += result["failures"]
                for file, numbers in result["lines"].items():
                    ran.setdefault(file, set()).update(numbers)
            for folder in (place, place.with_suffix(".before")):
                shutil.rmtree(folder, ignore_errors=True)
    wanted = {file: lines for file, lines in reader_lines(kind)}
    missed = {file: sorted(lines - ran.get(file, set())) for file, lines in wanted.items()}
    lines = sum(map(len, wanted.values()))
    uncovered = {str(Path(file).relative_to(CHECKOUT)): left for file, left in missed.items() if left}
    return Found(counts, failures, lines - sum(map(len, missed.values())), lines, uncovered, reasons)


def _move(place: Path, kept: Path) -> None:
    for file in (place / "failures").iterdir():
        shutil.move(file, kept / file.name)


def _process(kind: Kind, seed: int, first: int, last: int, place: Path) -> str:
    """Runs cases in a process; returns why it ended before the last, or nothing."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    command = [sys.executable, "-m", "benchmarks.fuzz.child", kind.name, *map(str, (seed, first, last, place))]
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
    if process.returncode == 0 and (place / "result.json").exists():
        return ""
    return f"status {process.returncode}: {said}"


def reader_lines(kind: Kind) -> Iterator[tuple[str, set[int]]]:
    """Yield each file with readers and the numbers of their lines, those of `def` and docstrings left out."""
    for module, names in kind.readers.items():
        file = importlib.util.find_spec(module).origin
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
        functions = {name: node for name, node in _functions(tree)}
        if missing := [name for name in names if name not in functions]:
            raise ValueError(f"{module} has no {missing[0]} any more; change benchmarks/fuzz/kinds.py")
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
