"""Fuzzes some kinds: `python -m benchmarks.fuzz [KIND ...] [--count N] [--seed N] [--keep FOLDER]`."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.fuzz.drive import covered, fuzz
from benchmarks.fuzz.kinds import KINDS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(kind.name for kind in KINDS)}")
    parser.add_argument("--count", type=int, default=1000, help="inputs of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder in which failing inputs are kept")
    options = parser.parse_args()
    families = {}
    for kind in KINDS:
        if options.kinds and kind.name not in options.kinds:
            continue
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="joint_st_fuzz_") as folder:
            found = fuzz(kind, options.count, options.seed, options.keep / kind.name if options.keep else Path(folder))
        seconds = time.perf_counter() - began
        print(f"{kind.name}: {dict(found.counts)}; {covered([kind], [found.ran])}; {seconds:.0f} s", flush=True)
        if kind.family:
            together = families.setdefault(kind.family, [])
            together.append((kind, found.ran))
            print(
                f"  {kind.family}, {len(together)} kinds: {covered(*zip(*together))}: {covered(*zip(*together)).missed}"
            )
        shown = set()
        for one in found.failures:
            last = one["told"].strip().splitlines()[-1:] or [""]
            key = one["outcome"], last[0][:50]
            if key not in shown:
                shown.add(key)
                print(f"  {one['outcome']} {one['case']}: {one['told'].strip()[-700:]}")
        print(f"  not run: {covered([kind], [found.ran]).missed}")
        for reason, count in found.reasons.most_common(8):
            print(f"  {count:>6} {reason}")


if __name__ == "__main__":
    main()
