"""Checks of folders that a run writes to: whether a small file can be written and removed, and how much room there
is."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from joint_st import storage
from joint_st.data.paths import cache_folder, expand
from joint_st.doctor.check import Check
from joint_st.doctor.machine import SKEW_SECONDS


def access(name: str, folder: Path) -> Iterator[Check]:
    """Check that a file can be written, read back and removed in a folder, or in the nearest existing one above it.

    The folder is not made. The clock of the file's server is compared with this host's, too.
    """
    place = folder
    if not storage.is_remote(folder):
        place = Path(os.path.expanduser(folder)).absolute()
        while not place.exists() and place != place.parent:
            place = place.parent
        if not place.is_dir():
            yield Check(
                "problem", name, f"{folder}: {place} is a file, where a folder should be", "name another folder"
            )
            return
    elif _no_gcsfs():
        yield Check("problem", name, f"{folder}: gs:// needs gcsfs", "pip install 'joint_st[gcs]'")
        return
    content = secrets.token_bytes(64)
    file = place / f".joint_st_doctor.{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}"
    began, wall = time.monotonic(), time.time()
    try:
        with storage.as_user_error(folder):
            storage.write_whole(file, content)
        try:
            with storage.as_user_error(folder):
                read, kept = file.read_bytes(), storage.modified(file)
        finally:
            with storage.as_user_error(folder):
                file.unlink()
    except OSError as error:
        what = f"{folder}: cannot be written ({error.strerror or error})"
        yield Check("problem", name, what, "name another folder, make room there, or get the right to write there")
        return
    took = time.monotonic() - began
    if read != content:
        yield Check("problem", name, f"{folder}: what was read back is not what was written", "do not use this place")
        return
    new = "" if place == folder or str(place) == str(folder) else f", which {place} will hold"
    yield Check("ok", name, f"{folder}{new}: written, read back and removed in {1000 * took:.0f} ms")
    # A bucket keeps whole seconds, and the write may have taken long.
    ahead = kept - wall
    if kept and not -SKEW_SECONDS < ahead < took + SKEW_SECONDS:
        yield Check(
            "problem", "clocks", f"{folder}: its clock is {ahead:+.0f} s off this host's", "start chrony or ntpd"
        )


def _no_gcsfs() -> bool:
    import importlib.util

    return importlib.util.find_spec("gcsfs") is None


def room(name: str, folder: Path, needed: int, why: str) -> Check:
    """Check that a folder has room for a number of bytes."""
    said = f"{_size(needed)} for {why}"
    if storage.is_remote(folder):
        return Check("ok", name, f"{said}; a bucket has no limit")
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    disk = shutil.disk_usage(place)
    found = f"{said}, {_size(disk.free)} free in {place}"
    if disk.total and disk.free < needed:
        return Check(
            "problem",
            name,
            found,
            "make room, keep fewer checkpoints (training.keep_latest, keep_best), or name another --workdir",
        )
    if disk.total and disk.free < 1.5 * needed:
        return Check("warning", name, found, "make room: logs, evaluations and caches are to fit too")
    return Check("ok", name, found)


def caches(index_cache: str, compilation_cache: str) -> Iterator[tuple[str, Path]]:
    """Yield the folders of caches that a run writes, with the field or variable that names each."""
    remote = index_cache and storage.is_remote(index_cache)
    yield (
        "data.index_cache",
        storage.path(index_cache) if remote else expand(index_cache) if index_cache else cache_folder("index"),
    )
    if compilation_cache:
        yield "training.compilation_cache", storage.path(os.path.expanduser(compilation_cache))


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
