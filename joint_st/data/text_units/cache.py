"""A cache of computed phonemes on disk, for all runs on this machine."""

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
"""Number of the format; it changes with what is stored and how it is computed, and files of another format are not
read."""
WAIT_SECONDS = 20.0
"""Time to wait for another process that is writing."""


class PhonemeCache:
    """A table from (voice, text) to phonemes, for several threads and processes.

    It is kept in memory alone where the file cannot be used: on a network file system without locks, on a full disk, or
    if the file is damaged.
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
        """Return the stored phonemes; None where there are none."""
        with self._lock:
            if (found := self._memory.get((voice, text))) is not None:
                return found
            rows = self._guard(lambda database: database.execute(SELECT, (voice, text)).fetchall())
            return rows[0][0] if rows else None

    def put(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Store rows of (voice, text, phonemes) in one transaction."""
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
        # A commit need not wait for the disk, since data that a crash destroys can be computed again.
        database.execute("PRAGMA synchronous = OFF")
        database.execute(CREATE)
        return database

    def _guard(self, action: Callable[[sqlite3.Connection], Any]) -> Any:
        """Return `action` of the database; None where there is no usable database."""
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
    """Return the cache of a version of espeak-ng, of which this process has one."""
    return _cache(cache_folder("phonemes") / f"{version}-{FORMAT}.sqlite")


_cache = functools.cache(PhonemeCache)
