"""Translates flags and runs between two versions that compute the same, for `same_results.py`.

What was renamed is listed in `joint_st.config.renamed`. Weights have kept their names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from joint_st.config.renamed import FIELDS


def translate_flag(field: str, value: object, fields: frozenset[str]) -> tuple[str, object]:
    """Return a field of today and its value, as a checkout whose configs have `fields` knows them."""
    for old, new in FIELDS.items():
        if is_within(field, new.path) and field not in fields:
            values = {after: before for before, after in new.values.items()}
            return old + field.removeprefix(new.path), values.get(str(value), value)
    return field, value


def is_within(field: str, section: str) -> bool:
    return field == section or field.startswith(section + ".")


def convert_run(run: Path, fields: frozenset[str], number: int) -> None:
    """Translate the config of a run, in place, for a checkout whose configs have `fields`, in its format `number`."""
    config = json.loads((run / "config.json").read_text())
    for old, new in FIELDS.items():
        value = take(config, old)
        known = any(is_within(field, new.path) for field in fields)
        if value is not None:
            put(config, new.path if known else old, new.values.get(str(value), value) if known else value)
    if number > 1:
        config["format"] = number
    (run / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def take(tree: dict[str, Any], path: str) -> Any:
    """Remove what is at a dotted path, and sections that are empty then; None if there is nothing."""
    first, _, rest = path.partition(".")
    if first not in tree or not rest:
        return tree.pop(first, None)
    found = take(tree[first], rest)
    if not tree[first]:
        del tree[first]
    return found


def put(tree: dict[str, Any], path: str, value: object) -> None:
    """Put a value at a dotted path."""
    *sections, last = path.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
    tree[last] = value
