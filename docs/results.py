"""Tables and numbers of `benchmarks/results/`, for the pages of the site and for the README.

    python docs/results.py            # fill the marked regions of README.md
    python docs/results.py --check    # name the regions that are stale, and exit with status 1
    python docs/results.py --list     # every name that a page or a region may use, with its value

A page writes `{{ text_injection.audio_only.wer }}`. The README, which GitHub shows as it is, marks a region:

    <!-- results: text_injection.audio_only.wer -->22.7 % (20.8-24.5)<!-- end -->

Both take their values from `values()`; `result_tables.py` says what each file of results gives. Nothing here imports JAX.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from result_tables import BY_FILE, headline

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"

REGION = re.compile(r"(<!-- results: (?P<name>[\w.]+) -->)(?P<text>.*?)(<!-- end -->)", re.DOTALL)
"""A part of a Markdown file that this command writes."""


def values() -> dict[str, Any]:
    """Return what pages may include, as nested dictionaries of text: by result file, then by what it is of."""
    found = {}
    for path in sorted(RESULTS.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if path.stem in BY_FILE:
            found[path.stem] = BY_FILE[path.stem](content)
    return found | {"headline": {"table": headline(found)}}


def flat(nested: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted name and the text of every value."""
    for name, value in nested.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def filled(text: str, texts: dict[str, str]) -> tuple[str, list[str]]:
    """Return a Markdown text with its regions filled, and the names of those that were stale.

    A table stands on lines of its own, another value within its line. Raises `KeyError` for a name that no result has.
    """
    stale = []

    def replace(match: re.Match) -> str:
        value = texts[match["name"]]
        inside = f"\n{value}\n" if "\n" in value else value
        if inside != match["text"]:
            stale.append(match["name"])
        return f"{match[1]}{inside}{match[4]}"

    return REGION.sub(replace, text), stale


def main() -> int:
    """Fill or check the README's regions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit with status 1 where a region is stale"
    )
    parser.add_argument("--list", action="store_true", help="print every name with its value")
    options = parser.parse_args()
    texts = dict(flat(values()))
    if options.list:
        for name, text in texts.items():
            print(f"{name} = {text}" if "\n" not in text else f"{name} =\n{text}")
        return 0
    text = README.read_text(encoding="utf-8")
    try:
        new, stale = filled(text, texts)
    except KeyError as error:
        print(f"{README.name}: no result is called {error.args[0]}; `--list` has the names", file=sys.stderr)
        return 1
    if options.check:
        for name in stale:
            print(f"{README.name}: {name} is stale; run `python docs/results.py`", file=sys.stderr)
        return 1 if stale else 0
    README.write_text(new, encoding="utf-8")
    print(f"{README.name}: rewrote {len(stale)} of its regions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
