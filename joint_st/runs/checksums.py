"""Checksums of what never changes once a run has it: a checkpoint, and the inventories beside the checkpoints.

They lie in `checksums.json` of the folder they are for: the size and the MD5 of each file, which Google Cloud Storage
keeps of its own objects too, so that a run may be copied between a disk and a bucket and is still the same. Whoever reads
a file of such a folder compares it first; a folder without them counts as whole, and is said to be unverified, once.
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
    """Whether files are compared before they are read, in this process; they are, unless a command's flag says not."""
    global _verifies
    _verifies = on


def verifies() -> bool:
    """Whether files are compared before they are read."""
    return _verifies


def write(folder: Path, files: Checksums) -> None:
    """Store the checksums of a folder's files in it."""
    listed = {name: list(files[name]) for name in sorted(files)}
    content = {"kind": _KIND, "files": listed, "files_md5": _own(listed)}
    storage.write_whole(folder / FILE, json.dumps(content, indent=1, ensure_ascii=False))


def is_there(folder: Path) -> bool:
    """Whether a folder has checksums."""
    return (folder / FILE).exists()


def identity(folder: Path) -> str:
    """Changes with all that a folder's checksums are of; empty where it has none."""
    try:
        return storage.checksum((folder / FILE).read_bytes())
    except FileNotFoundError:
        return ""


def read(folder: Path) -> Checksums | None:
    """The checksums in a folder; None where it has none. Raises `UserError` where they are damaged themselves."""
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
    """The checksum of a list of checksums."""
    return storage.checksum(json.dumps(listed, ensure_ascii=True).encode())


def _outside(name: str) -> bool:
    """Whether a path leads out of the folder it is relative to."""
    return name.startswith("/") or ".." in name.split("/")


def damage(folder: Path, names: Collection[str] | None = None, part: Callable[[list], list] = list) -> str:
    """What is wrong with some files of a folder (all by default), in words that begin with a file; empty where nothing is.

    Files that the checksums do not name are left out, and all are where there are no checksums, which is said once.
    part: chooses which of them this process compares.
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
    """Say once for each run that what a folder of it holds cannot be verified."""
    run = folder.parent.parent if folder.parent.name == CHECKPOINTS else folder
    if str(run) not in _told:
        _told.add(str(run))
        print(
            f"{run}: files without {FILE} (an earlier version wrote them, or not all was copied): not verified",
            file=sys.stderr,
        )
