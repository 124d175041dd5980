"""What was renamed between two versions that compute the same, and the translation of flags and runs.

`same_results.py` compares such versions. A name that the newer of them does not have is left as it is, so that the
tables hold for versions between two renames, too.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

RENAMED_FIELDS = (
    ("objective.streaming_ctc", "losses.ctc.streaming"),
    ("objective.full_context_ctc", "losses.ctc.full_context"),
    ("objective.streaming_reconstruction", "losses.reconstruction.streaming"),
    ("objective.full_context_reconstruction", "losses.reconstruction.full_context"),
    ("objective.paired_reconstruction", "losses.reconstruction.paired"),
    ("objective.unit_ctc", "losses.unit_ctc.weight"),
    ("objective.consistency", "losses.consistency"),
    ("model.heard_units", "model.unit_conditioning"),
)
"""Fields and sections of a config, old and new dotted path."""

RENAMED_VALUES = {"model.unit_conditioning": {"added": "add", "only": "replace"}}
"""Values of such fields, by the new path: old and new value."""

RENAMED_WORDS = {"only_read": "text_only"}
"""Words of tables, as column or as value: old and new."""

RENAMED_WEIGHTS: tuple[tuple[str, str], ...] = ()
"""Dotted paths of weights: a pattern, and what takes its place, in order. They hold anywhere in a path, so that the
moving average and the optimizer's state follow."""


def is_within(field: str, section: str) -> bool:
    return field == section or field.startswith(section + ".")


def translate_flag(field: str, value: object, fields: frozenset[str]) -> tuple[str, object]:
    """A field given by its new name, and its value, as a checkout whose configs have `fields` knows them."""
    for old, new in RENAMED_FIELDS:
        if is_within(field, new) and field not in fields:
            values = {after: before for before, after in RENAMED_VALUES.get(field, {}).items()}
            return old + field.removeprefix(new), values.get(value, value)
    return field, value


def convert_run(run: Path, fields: frozenset[str]) -> None:
    """Translates the config and the weights of a run, in place, for a checkout whose configs have these fields."""
    config = json.loads((run / "config.json").read_text())
    for old, new in RENAMED_FIELDS:
        if (value := take(config, old)) is not None and any(is_within(field, new) for field in fields):
            put(config, new, RENAMED_VALUES.get(new, {}).get(value, value) if isinstance(value, str) else value)
        elif value is not None:
            put(config, old, value)
    (run / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    if RENAMED_WEIGHTS and any(is_within(field, "losses") for field in fields):
        for step in (run / "checkpoints").iterdir():
            rename_weights(step / "state")


def take(tree: dict, path: str):
    """Removes what is at a dotted path, and sections that are empty then; None where there is nothing."""
    first, _, rest = path.partition(".")
    if first not in tree or not rest:
        return tree.pop(first, None)
    found = take(tree[first], rest)
    if not tree[first]:
        del tree[first]
    return found


def put(tree: dict, path: str, value) -> None:
    *sections, last = path.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
    tree[last] = value


def rename_weights(state: Path) -> None:
    """Writes the arrays of a checkpoint again, under their new names."""
    import jax
    import numpy as np
    import orbax.checkpoint as ocp

    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.metadata(state).item_metadata.tree
        # On whatever devices it was saved: there may be fewer here.
        as_arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        arrays = checkpointer.restore(state, restore_args=as_arrays)
    renamed: dict = {}
    for path, array in flat(arrays):
        for pattern, replacement in RENAMED_WEIGHTS:
            path = re.sub(pattern, replacement, path)
        put(renamed, path, array)
    shutil.rmtree(state)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(state, renamed)


def flat(tree, path: str = "") -> Iterator[tuple[str, object]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else None
    if items is None:
        yield path, tree
        return
    for key, value in items:
        yield from flat(value, f"{path}.{key}" if path else str(key))
