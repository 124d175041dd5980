"""What a stored result was made from, which decides whether its hypotheses may stand in for decoding again.

Beside the utterances of an evaluation, and beside a layer analysis, lies `.origin.json`: the checkpoint, the normaliser,
the source of each split and what each decoder is. With each utterance stands a hash of its samples. Names alone (of
splits, decoders, steps) say nothing: a source may have changed under its name. None of it is a place, but for sources as
the config has them, and so a run that was moved keeps its results.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from joint_st.config import Source
from joint_st.json_files import NOT_JSON
from joint_st.runs import checksums
from joint_st.runs.directory import RunDirectory

SUFFIX = ".origin.json"


@dataclasses.dataclass(frozen=True)
class Origin:
    """What an evaluation was made from."""

    checkpoint: str
    """Hash of the checkpoint's checksums; empty where it has none."""
    normalizer: str
    """Name and version."""
    sources: Mapping[str, dict]
    """Source of each split, as a config has it."""
    decoders: Mapping[str, str]
    """All of each decoder that changes what it finds, by its name."""
    window_seconds: float
    """Length of the windows in which longer recordings were heard."""
    look_ahead_ms: float = 0.0
    """Look-ahead of the streaming layers."""
    found: str = ""
    """Hash of the file of what was found."""

    @classmethod
    def of(
        cls,
        run: RunDirectory,
        step: int,
        normalizer: str,
        sources: Mapping[str, Source],
        decoders: Mapping[str, str],
        window_seconds: float,
        look_ahead_ms: float = 0.0,
    ) -> Origin:
        """What a result of a checkpoint would be made from; decoders: as the field."""
        sources = {split: described(source) for split, source in sources.items()}
        return cls(identity(run, step), normalizer, sources, dict(decoders), window_seconds, look_ahead_ms)

    def content(self, found: str) -> str:
        """What is stored of it beside a file of what was found."""
        own = dataclasses.replace(self, found=_hash(found.encode(errors="backslashreplace")))
        return json.dumps(dataclasses.asdict(own), indent=1)

    def difference(self, other: Origin, key: tuple[str, str, str], sources: bool = True) -> str:
        """What keeps another one's utterances of a key from standing for these, in words; empty where nothing does.

        key: split, head and decoder.
        sources: whether the splits have to be of the same source.
        """
        split, _, decoder = key
        if other.checkpoint != self.checkpoint:
            return "other weights of the same step"
        if other.normalizer != self.normalizer:
            return f"the normaliser {other.normalizer}"
        if other.decoders.get(decoder) != self.decoders.get(decoder):
            return f"another decoder named {decoder}"
        if other.window_seconds != self.window_seconds:
            return "windows of another length"
        if other.look_ahead_ms != self.look_ahead_ms:
            return "another look-ahead"
        if sources and other.sources.get(split) != self.sources.get(split):
            return f"another source named {split}"
        return ""


def described(source: Source) -> dict:
    """A source as a config has it, in JSON."""
    return source.model_dump(mode="json")


def read_origin(file: Path) -> Origin | None:
    """The origin of what a file has; None where it is not known, or the file is not what was stored."""
    try:
        origin = Origin(**json.loads(file.with_suffix(SUFFIX).read_bytes()))
        return origin if origin.found == _hash(file.read_bytes()) else None
    except (OSError, *NOT_JSON, TypeError):
        return None


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def identity(run: RunDirectory, step: int) -> str:
    """Changes with all of a checkpoint; empty where it has no checksums."""
    return checksums.identity(run.checkpoints / str(step))


def is_of(table: Path, run: RunDirectory, step: int, sources: Mapping[str, Source]) -> bool:
    """Whether the utterances beside a table are of a checkpoint and of sources, by split, as far as it says of what."""
    if not table.with_suffix(SUFFIX).is_file():  # an earlier version wrote it
        return True
    found = read_origin(table.with_suffix(".jsonl"))
    wanted = {split: described(source) for split, source in sources.items()}
    return found is not None and found.checkpoint == identity(run, step) and dict(found.sources) == wanted
