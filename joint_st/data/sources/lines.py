"""Random access to the lines of a text file, which takes twelve bytes of memory a line."""

from __future__ import annotations

import codecs
import functools
import zlib
from array import array
from collections.abc import Callable
from pathlib import Path

import numpy as np

from joint_st import storage
from joint_st.errors import UserError

NO_TEXT = (
    (b"\x1f\x8b", "compressed by gzip", "unpack it with `gunzip`"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "unpack it with `unzstd`"),
    (b"\xfd7zXZ", "compressed by xz", "unpack it with `unxz`"),
    (b"BZh", "compressed by bzip2", "unpack it with `bunzip2`"),
    (b"PK\x03\x04", "a ZIP archive", "unpack it"),
    (b"PAR1", "a Parquet file", "write its rows as JSON, one a line"),
    (b"ARROW1", "an Arrow file", "write its rows as JSON, one a line"),
    (b"\xff\xfe", "in UTF-16", "convert it to UTF-8"),
    (b"\xfe\xff", "in UTF-16", "convert it to UTF-8"),
)
"""First bytes of files that are often given where lines of text are expected, what such files are, and what to do about
it."""


BLOCK = 1 << 20
"""Bytes in which lines are counted at once."""


class Lines:
    """The lines of a UTF-8 file that hold more than white space; they are found on first use.

    keep: whether a line, as bytes, is one of them; None: all are.
    """

    def __init__(self, path: Path, keep: Callable[[bytes], bool] | None = None):
        self.path = path
        self.version = storage.version(path)
        self._keep = keep
        self._counted = 0, 0
        """An offset, and the number of lines before it."""

    @property
    def _offsets(self) -> np.ndarray:
        return self._found[0]

    @functools.cached_property
    def _found(self) -> tuple[np.ndarray, np.ndarray]:
        """Offset and checksum of each line, int64 and uint32 [lines]."""
        offsets, checksums = array("q"), array("I")
        position = 0
        with open(self.path, "rb") as file:
            self._check_kind(file.read(8))
            file.seek(0)
            for line in file:
                start = position
                position += len(line)
                if start == 0 and line.startswith(codecs.BOM_UTF8):
                    start, line = len(codecs.BOM_UTF8), line[len(codecs.BOM_UTF8) :]
                if not line.isspace() and (self._keep is None or self._keep(line)):
                    offsets.append(start)
                    checksums.append(zlib.crc32(line))
        if storage.version(self.path) != self.version:
            raise self._changed("")
        return np.asarray(offsets, np.int64), np.asarray(checksums, np.uint32)

    def _changed(self, how: str) -> UserError:
        return UserError(
            f"{storage.printable(self.path)}: was changed while it was in use{how}; restore the file, or begin with the new one"
        )

    def _check_kind(self, head: bytes) -> None:
        """Raise `UserError` for a file whose first bytes show that it is not text in UTF-8."""
        for magic, what, how in NO_TEXT:
            if head.startswith(magic):
                raise UserError(f"{storage.printable(self.path)}: {what}; {how}")

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, i: int) -> str:
        """Return line `i` without the white space around it. Raises `UserError` where it is no longer the line that was
        found there first."""
        with open(self.path, "rb") as file:
            file.seek(self._offsets[i])
            line = file.readline()
        # Of what is added at the end, the last line may get a line break.
        if zlib.crc32(line) != (found := self._found[1][i]) and zlib.crc32(line.rstrip(b"\r\n")) != found:
            raise self._changed(f" (utterance {i + 1} is in another place now)")
        try:
            return line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise UserError(f"{self.where(i)}: not UTF-8 ({error.reason}); convert the file") from None

    def where(self, i: int) -> str:
        """Return `file:line` for messages; this counts the lines from the one that was asked for last, if that comes
        before, and otherwise from the beginning."""
        offset = int(self._offsets[i])
        at, before = self._counted if self._counted[0] <= offset else (0, 0)
        with open(self.path, "rb") as file:
            file.seek(at)
            while block := file.read(min(offset - at, BLOCK)):
                at, before = at + len(block), before + block.count(b"\n")
        self._counted = at, before
        return f"{storage.printable(self.path)}:{before + 1}"
