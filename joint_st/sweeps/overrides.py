"""What tells the arms of a sweep apart: the fields of the config in which they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pydantic_core

from joint_st.config import Config
from joint_st.config.tree import leaves

_OF_RUNS = ("name", "seed")
"""Fields that tell runs of an arm apart."""


def differing_fields(arms: Mapping[str, Sequence[Config]]) -> dict[str, dict[str, Any]]:
    """For each arm, the values of all fields in which arms differ, by dotted path, as JSON has them.

    arms: configs of their runs. None stands for a field that an arm's configs do not have. Fields that also differ
    within an arm, as they may with its seeds, are left out.
    """
    values = {arm: [_values(config) for config in configs] for arm, configs in arms.items()}
    everywhere = [one for runs in values.values() for one in runs]
    paths = dict.fromkeys(path for one in everywhere for path in one)

    def alike(configs: Sequence[Mapping[str, Any]], path: str) -> bool:
        return all(one.get(path) == configs[0].get(path) for one in configs)

    chosen = [
        path for path in paths if not alike(everywhere, path) and all(alike(runs, path) for runs in values.values())
    ]
    return {arm: {path: runs[0].get(path) for path in chosen} for arm, runs in values.items()}


def _values(config: Config) -> dict[str, Any]:
    found = {leaf.path: pydantic_core.to_jsonable_python(leaf.value) for leaf in leaves(config)}
    return {path: value for path, value in found.items() if path not in _OF_RUNS}
