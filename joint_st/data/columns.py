"""Files of columns: arrays of numbers, and bytes for each row. They are memory-mapped, and kept in a folder that runs
share.

An incomplete file is recognised: a checksum covers all of it, and its end says where everything is.
"""

from __future__ import annotations

import contextlib
import json
import logging
import mmap
import os
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from joint_st import storage
from joint_st.data.paths import cache_folder, expand
from joint_st.errors import UserError

log = logging.getLogger(__name__)

MAGIC = b"joint_st columns 1\n"
"""Bytes with which a file begins and ends."""
TAIL = struct.Struct("<QQII")
"""The end of a file: where the description begins, its length, its checksum, and the checksum of everything before
it."""
CHUNK = 1 << 24
"""Bytes whose checksum is computed at once."""


class Damaged(Exception):
    """A file that was not written completely, or was changed since."""


class NoRoom(UserError):
    """A file that cannot be written to its place."""


class Writer:
    """Writes a file: first the bytes of all rows one after the other, then columns.

    Raises `NoRoom` where the file cannot be written.
    """

    def __init__(self, path: Path):
        self._folder = path.parent
        with self._writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "wb")
        self._sum = 0
        self._at = 0
        self._put(MAGIC)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *error) -> None:
        with contextlib.suppress(OSError):  # the file is complete when `finish` returns
            self._file.close()

    def add(self, content: bytes) -> int:
        """Append bytes; return how many there are so far."""
        self._put(content)
        return self._at - len(MAGIC)

    def finish(self, columns: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
        """Write the columns, which have equal lengths, and further facts about them as JSON."""
        described = {}
        for name, column in columns.items():
            column = np.asarray(column)
            described[name] = {"dtype": column.dtype.str, "rows": len(column)}
            if len(column) and (column == column[0]).all():  # takes no room
                described[name]["constant"] = column[0].item()
                continue
            self._put(bytes(-self._at % 8))
            described[name]["at"] = self._at
            self._put(np.ascontiguousarray(column).tobytes())
        description = json.dumps({"columns": described, "about": about}).encode()
        with self._writing():
            self._file.write(description)
            self._file.write(TAIL.pack(self._at, len(description), zlib.crc32(description), self._sum) + MAGIC)
            self._file.flush()

    def _put(self, content: bytes) -> None:
        with self._writing():
            self._file.write(content)
        self._sum = zlib.crc32(content, self._sum)
        self._at += len(content)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise NoRoom(
                f"{self._folder}: the index of the data cannot be kept here ({error.strerror or error}); make room, "
                "or name another folder by data.index_cache"
            ) from error


class Columns:
    """A file that `Writer` wrote, opened for reading. Raises `Damaged`, and `OSError` where there is none."""

    def __init__(self, path: Path):
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < 2 * len(MAGIC) + TAIL.size:
                raise Damaged("too short")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        content = memoryview(self._map)
        tail = size - len(MAGIC) - TAIL.size
        if content[: len(MAGIC)] != MAGIC or content[tail + TAIL.size :] != MAGIC:
            raise Damaged("not written to its end")
        at, length, of_description, of_body = TAIL.unpack(content[tail : tail + TAIL.size])
        if at + length != tail:
            raise Damaged("its parts do not fit together")
        if zlib.crc32(content[at:tail]) != of_description or _checksum(content[:at]) != of_body:
            raise Damaged("its checksum differs")
        description = json.loads(bytes(content[at:tail]))
        self.about: dict[str, Any] = description["about"]
        """The facts that `Writer.finish` was given."""
        self.columns = {name: self._column(**fields) for name, fields in description["columns"].items()}
        """Each column [rows], read-only."""

    def content(self, start: int, stop: int) -> bytes:
        """Return the bytes of the rows from `start` up to `stop`."""
        return self._map[len(MAGIC) + start : len(MAGIC) + stop]

    def _column(self, dtype: str, rows: int, at: int = 0, constant: Any = None) -> np.ndarray:
        if constant is not None:
            return np.broadcast_to(np.asarray(constant, dtype), (rows,))
        return np.frombuffer(self._map, dtype, rows, at) if rows else np.zeros(0, dtype)


def _checksum(content: memoryview) -> int:
    found = 0
    for start in range(0, len(content), CHUNK):
        found = zlib.crc32(content[start : start + CHUNK], found)
    return found


class Cache:
    """A folder of such files, on a disk or in a bucket; by default the cache in the home directory."""

    def __init__(self, folder: str = ""):
        self._shared = storage.path(folder) if storage.is_remote(folder) else None
        self.folder = expand(folder) if folder and self._shared is None else cache_folder("index")
        """Folder on a disk, into which files of a bucket are copied."""
        self.made = 0
        """Number of files that did not exist and were made."""
        self._told = False

    def open(
        self, name: str, key: str, make: Callable[[Writer], tuple[Mapping, Mapping]], *, anew: bool = False
    ) -> Columns:
        """Open the file `name` if it was made for `key`; otherwise, or if `anew`, make a new one in its place.

        `make` adds the bytes of all rows to the writer, and returns columns and further facts about them. With an empty
        key the file is made each time, and not kept. If it cannot be written into the folder, it is written into the
        folder for temporary files, for this process alone. Raises `NoRoom` where that fails too.
        """
        place = self.folder / name
        if key and not anew:
            found = self._found(place, key)
            if found is None and self._shared is not None and self._fetch(name):
                found = self._found(place, key)
            if found is not None:
                return found
        self.made += 1
        draft = storage.draft_of(self.folder / name)
        try:
            found = self._made(draft, key, make, place if key else None)
        except NoRoom as error:
            if not self._told:
                self._told = True
                log.warning("%s; for now it is in %s, for this process alone", error, tempfile.gettempdir())
            with tempfile.TemporaryDirectory(
                prefix="joint_st_"
            ) as spare:  # the open file stays readable when the folder is removed
                return self._made(Path(spare) / name, key, make, None)
        if key and self._shared is not None:
            storage.move_into_place(place, self._shared / name)
        return found

    @staticmethod
    def _made(draft: Path, key: str, make: Callable[[Writer], tuple[Mapping, Mapping]], place: Path | None) -> Columns:
        """Make the file and open it; it is moved to its place, or removed if `place` is None."""
        try:
            with Writer(draft) as writer:
                columns, about = make(writer)
                writer.finish(columns, {**about, "key": key})
            found = Columns(draft)
            if place:
                storage.move_into_place(draft, place)
            return found
        finally:
            with contextlib.suppress(OSError):
                draft.unlink()

    def _found(self, place: Path, key: str) -> Columns | None:
        try:
            found = Columns(place)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (Damaged, OSError, ValueError, KeyError) as error:
            log.warning("%s: damaged (%s); it is made again", place, error)
            return None
        return found if found.about["key"] == key else None

    def _fetch(self, name: str) -> bool:
        """Copy a file from the bucket; return whether it exists there."""
        assert self._shared is not None
        remote = self._shared / name
        with storage.as_user_error(remote):
            if not remote.exists():
                return False
            storage.write_whole(self.folder / name, remote.read_bytes())
        return True
