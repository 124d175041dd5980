"""Paths as people write them in configurations."""

from __future__ import annotations

import os
import re
from pathlib import Path

from joint_st.errors import UserError

RECORDED = "JOINT_ST_DATA"
"""The variable that names the folder of recorded speech; `../shared/data` stands in where it is unset."""


def expand(path: str) -> Path:
    """`path` with `~`, `$NAME` and `${NAME}` replaced; raises `UserError` naming a variable that is unset."""

    def value(match: re.Match) -> str:
        name = match[1] or match[2]
        found = os.environ.get(name) or (_recorded() if name == RECORDED else None)
        if not found:
            raise UserError(
                f"{path}: the environment variable {name} is not set; set it to the folder it stands for"
            )
        return found

    return Path(re.sub(r"\$(?:(\w+)|\{(\w+)\})", value, path)).expanduser()


def existing(path: str) -> Path:
    """`expand(path)`; raises `UserError` where no file is there."""
    expanded = expand(path)
    if not expanded.is_file():
        hint = f"; {RECORDED} names the folder of recorded speech" if RECORDED in path else ""
        written = f" (from {path})" if str(expanded) != path else ""
        raise UserError(f"{expanded}{written}: no such file; correct the path in the configuration{hint}")
    return expanded


def _recorded() -> str | None:
    checkout = Path(__file__).resolve().parents[2]
    for base in (Path.cwd(), checkout):
        folder = base.parent / "shared" / "data"
        if folder.is_dir():
            return str(folder)
    return None
