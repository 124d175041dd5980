"""Paths as people write them in configurations."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
from pathlib import Path

from joint_st import storage
from joint_st.errors import UserError

RECORDED = "JOINT_ST_DATA"
"""The variable that names the folder of recorded speech."""


def expand(path: str) -> Path:
    """Return `path` with `~`, `$NAME` and `${NAME}` replaced; raises `UserError` that names a variable which is not
    set, or a user that is not known."""

    def value(match: re.Match) -> str:
        name = match[1] or match[2]
        found = os.environ.get(name)
        if not found:
            raise UserError(f"{path}: the environment variable {name} is not set; set it to the folder it stands for")
        return found

    try:
        return Path(re.sub(r"\$(?:(\w+)|\{(\w+)\})", value, path)).expanduser()
    except RuntimeError:
        raise UserError(f"{path}: there is no such user here, or no home of one; write the folder itself") from None


def expand_run(path: str) -> Path:
    """Return `expand(path)` for a run on a disk, and the path of one in a bucket as it is."""
    return storage.path(path) if storage.is_remote(path) else expand(path)


def existing(path: str) -> Path:
    """Return `expand(path)`; raises `UserError` where there is no such file."""
    if path.startswith("gs:"):
        raise UserError(
            f"{path}: manifests, texts and their audio are read from disks; copy them there, or mount the bucket"
        )
    expanded = expand(path)
    if why := storage.why_no_file(expanded):
        hint = f"; {RECORDED} names the folder of recorded speech" if RECORDED in path else ""
        raise UserError(f"{_shown(path, expanded)}: {why}; correct the path in the configuration{hint}")
    return expanded


def refuse_bucket(data_dir: str) -> None:
    """Raise `UserError` where the folder of TFDS datasets is in a bucket."""
    if "://" in data_dir:
        raise UserError(
            f"{data_dir}: TFDS datasets are read from disks and built there; copy them, or mount the bucket, and name that "
            "folder as data_dir or $TFDS_DATA_DIR"
        )


def _shown(path: str, expanded: Path) -> str:
    """Return a path as it is and as it is written. A text that is not a path, such as a key or a password, is not
    shown, because logs would keep it."""
    if str(expanded) == path or path.count("$") > path.startswith("$") or not expanded.is_absolute():
        return storage.printable(path)
    return storage.printable(f"{expanded} (from {path})")


def cache_folder(name: str) -> Path:
    """Return a folder for data that can be computed again, made if absent: in the home directory, or among temporary
    files where that cannot be written to, as on some clusters, or where there is none, as in some containers."""
    with contextlib.suppress(OSError, UserError):
        folder = expand(f"~/.cache/joint_st/{name}")
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    folder = Path(tempfile.gettempdir()) / f"joint_st_{name}_{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    # Another user may have made a folder or a link of this name in order to plant files for this user's runs.
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise UserError(f"{folder}: not a folder of this user's; set TMPDIR, or HOME, to a folder of your own")
    return folder
