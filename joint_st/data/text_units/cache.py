"""Phonemes that were computed, kept on disk for all runs on this machine."""

from __future__ import annotations

import functools
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from joint_st.data.paths import cache_folder

log = logging.getLogger(__name__)

FORMAT = 1
"""Changes with what is kept and how it is computed; files of another number are not read."""
WAIT_SECONDS = 20.0
"""Time to wait for another process that is writing."""


class PhonemeCache:
    """A table from (voice, text) to phonemes, for several threads and processes.

    It lies in memory alone where the file cannot be used: on a network file system that does not lock, on a full
    disk, where the file is damaged.
    """

    def __init__(self, path: Path):
        self._lock = threading.Lock()
        self._memory: dict[tuple[str, str], str] = {}
        self._path = path
        self._database: sqlite3.Connection | None = None
        try:
            self._database = self._open()
        except sqlite3.Error as error:
            self._give_up(error)

    def get(self, voice: str, text: str) -> str | None:
        """What was kept; None where nothing was."""
        with self._lock:
            if (found := self._memory.get((voice, text))) is not None:
                return found
            rows = self._guard(lambda database: database.execute(SELECT, (voice, text)).fetchall())
            return rows[0][0] if rows else None

    def put(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Keeps rows of (voice, text, phonemes), all at once."""
        rows = list(rows)

        def insert(database):
            with database:
                database.executemany(INSERT, rows)

        with self._lock:
            self._guard(insert)
            if self._database is None:
                self._memory.update({(voice, text): phonemes for voice, text, phonemes in rows})

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, WAIT_SECONDS, check_same_thread=False)
        # What a crash of the machine spoils can be computed again, and a commit need not wait for the disk.
        database.execute("PRAGMA synchronous = OFF")
        database.execute(CREATE)
        return database

    def _guard(self, action: Callable[[sqlite3.Connection], Any]) -> Any:
        """`action` of the database, or None where there is none, or none any more."""
        if self._database is None:
            return None
        try:
            return action(self._database)
        except sqlite3.Error as error:
            self._give_up(error)
            return None

    def _give_up(self, error: sqlite3.Error) -> None:
        log.warning("%s: %s; phonemes are kept in memory instead", self._path, error)
        self._database = None


CREATE = (
    "CREATE TABLE IF NOT EXISTS phonemes "
    "(voice TEXT, text TEXT, phonemes TEXT NOT NULL, PRIMARY KEY (voice, text)) WITHOUT ROWID"
)
SELECT = "SELECT phonemes FROM phonemes WHERE voice = ? AND text = ?"
INSERT = "INSERT OR REPLACE INTO phonemes VALUES (?, ?, ?)"


def phoneme_cache(version: str) -> PhonemeCache:
    """The cache of a version of espeak-ng, one in this process."""
    return _cache(cache_folder("phonemes") / f"{version}-{FORMAT}.sqlite")


_cache = functools.cache(PhonemeCache)
