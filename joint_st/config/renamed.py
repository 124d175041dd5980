"""Fields and columns that had other names in earlier versions; an old name is refused with the new one.

`python -m joint_st.config.renamed FILE...` rewrites files of results (JSON, as `joint-st sweep collect` writes them)
that contain old names of fields or columns.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from joint_st import storage


@dataclasses.dataclass(frozen=True)
class Renamed:
    """The new name of a field or section, and the new names of its values."""

    path: str
    """Dotted path of today."""
    values: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Values of today by their old names."""

    def __str__(self) -> str:
        words = ", ".join(f"{old} is {new}" for old, new in self.values.items())
        return f"is now {self.path}" + (f" ({words})" if words else "")


FIELDS = {
    "objective.streaming_ctc": Renamed("losses.ctc.streaming"),
    "objective.full_context_ctc": Renamed("losses.ctc.full_context"),
    "objective.streaming_reconstruction": Renamed("losses.reconstruction.streaming"),
    "objective.full_context_reconstruction": Renamed("losses.reconstruction.full_context"),
    "objective.paired_reconstruction": Renamed("losses.reconstruction.paired"),
    "objective.unit_ctc": Renamed("losses.unit_ctc.weight"),
    "objective.consistency": Renamed("losses.consistency"),
    "model.heard_units": Renamed("model.unit_conditioning", {"added": "add", "only": "replace"}),
}
"""Fields and sections by their old dotted path. What lies in a section moved with it, where it has no entry of its
own."""

CLASSES = {"ObjectiveConfig": "LossesConfig, with a section for each loss"}
"""Names that `joint_st.config` no longer has, and what took their place."""

COLUMNS = {"only_read": "text_only"}
"""Old and new endings of column names in results; `_low`, `_high` or `_by_seed` may follow."""


def today(path: str) -> Renamed | None:
    """Return the new name of a field or section at a dotted path; None where it never had another one."""
    if path in FIELDS:
        return FIELDS[path]
    section, _, name = path.rpartition(".")
    moved = section and today(section)
    return Renamed(f"{moved.path}.{name}") if moved else None


def refusals(path: str, value: Any = None) -> list[str]:
    """Return a line for the old field or section at a dotted path, or for each old field in the value of a section.

    It is empty where the path never was an old name.
    """
    inside = value if isinstance(value, Mapping) else {}
    lines = [line for name in inside if f"{path}.{name}" in FIELDS for line in refusals(f"{path}.{name}", inside[name])]
    renamed = today(path)
    return lines or ([f"{path}: {renamed}"] if renamed else [])


def rewritten(results: Any) -> Any:
    """Return results, as read from JSON, with today's names of all fields and columns at any depth."""
    if isinstance(results, list):
        return [rewritten(item) for item in results]
    if not isinstance(results, dict):
        return results
    found = {}
    for key, value in results.items():
        renamed = today(key) if "." in key else None
        if renamed and isinstance(value, str):
            value = renamed.values.get(value, value)
        found[renamed.path if renamed else _column(key)] = rewritten(value)
    return found


def _column(name: str) -> str:
    for old, new in COLUMNS.items():
        name = re.sub(rf"(^|_){old}(?=$|_(low|high|by_seed)$)", rf"\1{new}", name)
    return name


def main(files: Sequence[str]) -> None:
    """Rewrite files of results and print which of them changed."""
    if not files:
        sys.exit("usage: python -m joint_st.config.renamed FILE...")
    for file in map(Path, files):
        text = file.read_text(encoding="utf-8")
        before = json.loads(text)
        after = rewritten(before)
        if after != before:
            indent = re.match(r"[\[{]\n( +)", text)
            written = json.dumps(after, indent=len(indent[1]) if indent else None, ensure_ascii="\\u" in text)
            storage.write_output(file, written + "\n")
        print(f"{file}: {'rewritten' if after != before else 'as it was'}")


if __name__ == "__main__":
    main(sys.argv[1:])
