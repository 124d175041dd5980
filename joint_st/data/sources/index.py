"""What is known of each utterance without its audio, kept on disk for sources where finding out is slow."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from joint_st.data.paths import expand
from joint_st.data.sources.lines import Lines
from joint_st.data.utterance import Entry

FOLDER = "~/.cache/joint_st/index"


class Index:
    """Entries in a file of lines, `[id, seconds, text]` each; eight bytes an entry in memory."""

    def __init__(self, path: Path):
        self._lines = Lines(path)

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, i: int) -> Entry:
        identifier, seconds, text = json.loads(self._lines[i])
        return Entry(identifier, seconds, text, has_audio=seconds > 0)


def index(key: str, entries: Iterable[Entry]) -> Index:
    """The index stored under `key`, which must change whenever the entries do; written where absent."""
    path = _folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.jsonl"
    if not path.exists():
        # Elsewhere until it is whole: runs that start together may all write it.
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            whole = Path(folder) / path.name
            with open(whole, "w", encoding="utf-8") as file:
                for entry in entries:
                    file.write(json.dumps([entry.id, entry.seconds, entry.text]) + "\n")
            whole.replace(path)
    return Index(path)


def _folder() -> Path:
    folder = expand(FOLDER)
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):  # a home that cannot be written, as on some clusters
        folder = Path(tempfile.gettempdir()) / f"joint_st_index_{os.getuid()}"
        folder.mkdir(exist_ok=True)
    return folder
