"""Paths as people write them in configurations."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path

from joint_st import storage
from joint_st.errors import UserError

RECORDED = "JOINT_ST_DATA"
"""The variable that names the folder of recorded speech."""


def expand(path: str) -> Path:
    """`path` with `~`, `$NAME` and `${NAME}` replaced; raises `UserError` naming a variable that is unset."""

    def value(match: re.Match) -> str:
        name = match[1] or match[2]
        found = os.environ.get(name)
        if not found:
            raise UserError(f"{path}: the environment variable {name} is not set; set it to the folder it stands for")
        return found

    return Path(re.sub(r"\$(?:(\w+)|\{(\w+)\})", value, path)).expanduser()


def existing(path: str) -> Path:
    """`expand(path)`; raises `UserError` where no file is there."""
    if path.startswith("gs:"):
        raise UserError(
            f"{path}: manifests, texts and their audio are read from disks; copy them there, or mount the bucket"
        )
    expanded = expand(path)
    if why := storage.why_no_file(expanded):
        hint = f"; {RECORDED} names the folder of recorded speech" if RECORDED in path else ""
        written = f" (from {path})" if str(expanded) != path else ""
        raise UserError(f"{storage.printable(expanded)}{written}: {why}; correct the path in the configuration{hint}")
    return expanded


def cache_folder(name: str) -> Path:
    """Folder for what can be computed again, made if absent: in the home, or in the temporary files of the machine."""
    folder = expand(f"~/.cache/joint_st/{name}")
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):  # a home that cannot be written, as on some clusters
        folder = Path(tempfile.gettempdir()) / f"joint_st_{name}_{os.getuid()}"
        folder.mkdir(exist_ok=True)
    return folder
