#!/usr/bin/env python3
"""Writes THIRD_PARTY_LICENCES.md: the licences of all that `pip install joint_st` brings, as pip-licenses reads them.

`--check` writes nothing and fails where the file is stale. Extras are left out.
"""

import importlib.metadata
import json
import subprocess
import sys
import sysconfig
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FILE = Path(__file__).resolve().parent.parent / "THIRD_PARTY_LICENCES.md"

INSIDE = {
    "espeakng-loader": "not stated; it carries the library espeak-ng, which is under GPL-3.0-or-later",
    "soundfile": "BSD-3-Clause; it carries the library libsndfile, which is under LGPL-2.1-or-later",
}
"""What a user has to know although the packages do not say it: licences of libraries inside them."""

HEAD = """# Licences of the dependencies

What `pip install joint_st` installs on Linux, with the licence that each package states. Written by `.ci/licences.py`;
do not edit by hand. joint_st itself is under Apache-2.0 (see LICENSE).

| package | licence |
|---|---|
"""


def requirements(name: str, extras: frozenset[str] = frozenset()) -> set[tuple[str, frozenset[str]]]:
    """Return the direct requirements of an installed package, with their extras."""
    found = set()
    for text in importlib.metadata.requires(name) or []:
        one = Requirement(text)
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras or {""}):
            found.add((canonicalize_name(one.name), frozenset(one.extras)))
    return found


def closure(name: str) -> list[str]:
    """Return the names of all packages that a package needs, directly or not."""
    todo, seen = {(name, frozenset())}, set()
    while todo:
        one = todo.pop()
        seen.add(one)
        todo |= requirements(*one) - seen
    return sorted({package for package, _ in seen} - {name})


def main() -> None:
    command = [Path(sysconfig.get_path("scripts")) / "pip-licenses", "--format=json", "--from=mixed"]
    done = subprocess.run([*command, "--packages", *closure("joint-st")], capture_output=True, text=True, check=True)
    rows = {canonicalize_name(row["Name"]): row["License"] for row in json.loads(done.stdout)}
    # A licence may be given by its whole text; its first line names it.
    rows |= INSIDE
    lines = [f"| {name} | {licence.strip().splitlines()[0].strip()} |\n" for name, licence in sorted(rows.items())]
    text = HEAD + "".join(lines)
    if "--check" not in sys.argv[1:]:
        FILE.write_text(text, encoding="utf-8")
    elif text != FILE.read_text(encoding="utf-8"):
        sys.exit(f"{FILE.name} is stale: run .ci/licences.py and commit what it writes")


if __name__ == "__main__":
    main()
