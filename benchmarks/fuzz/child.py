"""Gives many mutated inputs of one kind to their reader, in a process whose memory and time are bounded.

    python -m benchmarks.fuzz.child KIND SEED FIRST LAST FOLDER MEASURE

FOLDER gets `progress` (the number and the file of the case that is read, so that a crash can be told), `cases` (a line
of JSON for each that was), `failures/` and, at the end, `lines.json`, the lines that were run. A case depends on KIND,
SEED and its number alone.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sys
import traceback
from collections import Counter
from pathlib import Path
from random import Random

import coverage

from joint_st.errors import UserError, told

MEMORY = 1 << 30
"""Bytes of address space that the cases have on top of what the process has before the first."""
SECONDS = 5
"""A case may take so long."""
MOST_KEPT = 20
"""Most failing cases of each outcome that are kept by one process."""


class Slow(BaseException):
    """A case takes too long. Nothing that catches `Exception` stops it."""


def case(kind, seeds, seed: int, number: int):
    """Return the valid file and the changed content of a case."""
    chance = Random(f"{seed} {kind.name} {number}")
    valid = chance.choice(seeds)
    return valid, kind.change(chance, valid)


def attempt(kind, folder: Path, valid, seconds: float = SECONDS) -> tuple[str, str]:
    """The outcome of one case, and what was said."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        wrong = kind.read(folder, valid)
        return ("silent", wrong) if wrong else ("survived", "")
    except UserError as error:
        said = error
    except OSError as error:  # the command prints those that name a file in one line
        if error.filename is None:
            return "traceback", traceback.format_exc()
        said = f"{error.filename}: {error.strerror}"
    except MemoryError:
        return "memory", traceback.format_exc(limit=-3)
    except Slow:
        return "time", traceback.format_exc(limit=-3)
    except BaseException:
        return "traceback", traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "refused", told(said)


def address_space() -> int:
    """Bytes of address space that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def main(name: str, seed: int, first: int, last: int, place: Path, measure: bool) -> None:
    """Try the cases `first` up to `last`, and measure which lines are run if so asked."""
    measured = coverage.Coverage(data_file=None, source=["joint_st"], config_file=False)
    if measure:
        measured.start()
    from benchmarks.fuzz.kinds import kind as find

    kind = find(name)
    folder, failures = place / "case", place / "failures"
    folder.mkdir(parents=True, exist_ok=True)
    failures.mkdir(exist_ok=True)

    def slow(*_):
        raise Slow

    signal.signal(signal.SIGALRM, slow)
    seeds = kind.prepare(folder)
    for valid in seeds:  # what is valid is read, which also imports all that there is to import
        path = folder / valid.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_stored(valid))
        if (wrong := attempt(kind, folder, valid, 120))[0] != ("survived" if valid.valid else "refused"):
            raise SystemExit(f"{valid.name} is not valid: {wrong}")

    with contextlib.suppress(ImportError):  # by which audio is read that libsndfile does not read: it takes a while
        import av  # noqa: F401
    bound = address_space() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    counts = Counter()
    # Line by line, so that a crash loses nothing but the coverage of its process.
    with open(place / "progress", "w+") as progress, open(place / "cases", "a", buffering=1) as cases:
        for number in range(first, last):
            valid, content = case(kind, seeds, seed, number)
            progress.seek(0)
            progress.write(f"{number} {valid.name:<60}")
            progress.flush()
            path = folder / valid.name
            path.write_bytes(content)
            outcome, said = attempt(kind, folder, valid)
            counts[outcome] += 1
            record = {"outcome": outcome}
            if outcome == "refused":
                record["reason"] = _reason(said)
            elif outcome != "survived" and counts[outcome] <= MOST_KEPT:
                kept = failures / f"{number}_{path.name}"
                kept.write_bytes(content)
                record |= {"case": f"{number} {valid.name}", "told": said[-1500:], "kept": kept.name}
            cases.write(json.dumps(record) + "\n")
            path.write_bytes(_stored(valid))
    lines = {}
    if measure:
        measured.stop()
        data = measured.get_data()
        lines = {file: sorted(data.lines(file) or ()) for file in data.measured_files()}
    (place / "lines.json").write_text(json.dumps(lines))


def _stored(valid) -> bytes:
    import gzip

    return gzip.compress(valid.content) if valid.name.endswith(".gz") else valid.content


def _reason(said: str) -> str:
    """Return the output without the parts that differ from case to case."""
    import re

    return re.sub(r"[\d.+-]+|'[^']*'|\"[^\"]*\"", "…", said.partition(": ")[2])[:60]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]), sys.argv[6] == "1")
