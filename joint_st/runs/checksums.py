"""Checksums of the files of a run that never change: its checkpoints and its inventories.

They are in `checksums.json` of their folder: the size and the MD5 of each file. Google Cloud Storage keeps the same for
its objects, so that a run can be copied between a disk and a bucket. A file of such a folder is compared before it is
read; a folder without checksums counts as intact, and is reported once as unverified.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from joint_st import storage
from joint_st.errors import UserError
from joint_st.json_files import NOT_JSON

FILE = "checksums.json"

CHECKPOINTS = "checkpoints"
"""Folder of a run's checkpoints."""

_KIND = "md5"

Checksums = Mapping[str, storage.Checksum]
"""Size and checksum of each file, by its path in the folder."""

_verifies = True
_told: set[str] = set()


def verify(on: bool) -> None:
    """Set whether this process compares files before it reads them."""
    global _verifies
    _verifies = on


def verifies() -> bool:
    """Return whether files are compared before they are read."""
    return _verifies


def write(folder: Path, files: Checksums) -> None:
    """Store the checksums of a folder's files in the folder."""
    listed = {name: list(files[name]) for name in sorted(files)}
    content = {"kind": _KIND, "files": listed, "files_md5": _own(listed)}
    storage.write_whole(folder / FILE, json.dumps(content, indent=1, ensure_ascii=False))


def is_there(folder: Path) -> bool:
    """Return whether a folder has checksums."""
    return (folder / FILE).exists()


def identity(folder: Path) -> str:
    """Return a text that changes with any file of a folder that has checksums; empty where it has none."""
    try:
        return storage.checksum((folder / FILE).read_bytes())
    except FileNotFoundError:
        return ""


def read(folder: Path) -> Checksums | None:
    """Read the checksums in a folder; None where it has none. Raises `UserError` where they are damaged themselves."""
    file = folder / FILE
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except NOT_JSON:
        content = None
    try:
        listed = content["files"]
        if content["kind"] == _KIND and content["files_md5"] == _own(listed) and not any(map(_outside, listed)):
            return {name: storage.Checksum(*pair) for name, pair in listed.items()}
    except (AttributeError, KeyError, TypeError):
        pass
    raise UserError(f"{file}: damaged: not what was written")


def _own(listed: Mapping[str, list]) -> str:
    """Return the checksum of a list of checksums."""
    return storage.checksum(json.dumps(listed, ensure_ascii=True).encode())


def _outside(name: str) -> bool:
    """Return whether a path leads out of the folder to which it is relative."""
    return name.startswith("/") or ".." in name.split("/")


def damage(folder: Path, names: Collection[str] | None = None, part: Callable[[list], list] = list) -> str:
    """Return what is wrong with some files of a folder (by default all), in words that begin with a file; empty where
    nothing is.

    Files without checksums are skipped; if the folder has no checksums at all, that is reported once. part: chooses the
    files that this process compares.
    """
    if not _verifies:
        return ""
    try:
        recorded = read(folder)
    except UserError as error:
        return str(error)
    if recorded is None:
        tell_unverified(folder)
        return ""
    chosen = part(sorted(recorded if names is None else recorded.keys() & set(names)))
    found = dict(storage.checksums(folder, chosen))
    for name in chosen:
        wanted, file = recorded[name], folder / name
        if name not in found:
            return f"{file}: missing"
        if found[name].size != wanted.size:
            return f"{file}: damaged: {found[name].size} bytes, where {wanted.size} were written"
        if found[name] != wanted:
            return f"{file}: damaged: not what was written"
    return ""


def tell_unverified(folder: Path) -> None:
    """Report once for each run that the files of a folder cannot be verified."""
    run = folder.parent.parent if folder.parent.name == CHECKPOINTS else folder
    if str(run) not in _told:
        _told.add(str(run))
        print(
            f"{run}: files without {FILE} (an earlier version wrote them, or not all was copied): not verified",
            file=sys.stderr,
        )
