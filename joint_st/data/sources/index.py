"""What is known of each utterance without its audio, kept on disk for sources where finding out is slow."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

from joint_st.data.paths import cache_folder
from joint_st.data.sources.lines import Lines
from joint_st.data.utterance import Entry

FORMAT = 4
"""Number of the format of an index's lines; files of another number are not read."""


class Index:
    """Entries in a file of lines, `[id, seconds, text, language, speaker, noise, snr, timed_words]` each.

    In memory, they take eight bytes each.
    """

    def __init__(self, path: Path):
        self._lines = Lines(path)

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, i: int) -> Entry:
        identifier, seconds, text, language, speaker, noise, snr, timed_words = json.loads(self._lines[i])
        return Entry(identifier, seconds, text, seconds > 0, language, speaker, noise, snr, timed_words)


def index(key: str, entries: Iterable[Entry]) -> Index:
    """The index stored under `key`, which must change whenever the entries do; written where absent."""
    digest = hashlib.sha256(f"{FORMAT} {key}".encode()).hexdigest()[:32]
    path = cache_folder("index") / f"{digest}.jsonl"
    if not path.exists():
        # Elsewhere until it is whole: runs that start together may all write it.
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            whole = Path(folder) / path.name
            with open(whole, "w", encoding="utf-8") as file:
                for entry in entries:
                    own = (entry.id, entry.seconds, entry.text, entry.language, entry.speaker)
                    file.write(json.dumps((*own, entry.noise, entry.snr, entry.timed_words)) + "\n")
            whole.replace(path)
    return Index(path)
