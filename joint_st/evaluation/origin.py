"""The origin of a stored result, which decides whether its hypotheses can be used instead of decoding again.

It is stored as `.origin.json` next to the utterances of an evaluation and next to a layer analysis: the checkpoint, the
normaliser, the source of each split and the settings of each decoder. Each utterance has a hash of its samples. Names
alone (of splits, decoders, steps) prove nothing, since a source may have changed under its name. Except for the
config's sources, nothing in it is a path, so a run that was moved keeps its results.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from joint_st import storage
from joint_st.config import Config, Source
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
    """Fingerprint of each decoder, by its name."""
    window_seconds: float
    """Length of the windows in which longer recordings were decoded."""
    look_ahead_ms: float = 0.0
    """Look-ahead of the streaming layers in ms."""
    found: str = ""
    """Hash of the file of results."""
    texts: str = ""
    """Fingerprint of the texts of a layer analysis; empty for an evaluation, next to which its texts are stored."""

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
        """Return the origin that a result of a checkpoint would have; decoders: as in the field."""
        sources = {split: described(source) for split, source in sources.items()}
        return cls(identity(run, step), normalizer, sources, dict(decoders), window_seconds, look_ahead_ms)

    def content(self, found: str) -> str:
        """Return the content of the file that is stored next to a result."""
        own = dataclasses.replace(self, found=_hash(found.encode(errors="backslashreplace")))
        return json.dumps(dataclasses.asdict(own), indent=1)

    def difference(self, other: Origin, key: tuple[str, str, str], sources: bool = True) -> str:
        """Return in words why another origin's utterances of a key cannot be used for this one; empty where they can.

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
    """Return a source as in a config, in JSON."""
    return source.model_dump(mode="json")


def read_origin(file: Path) -> Origin | None:
    """Return the origin of a file's results; None where it is not known, or where the file has changed."""
    try:
        origin = Origin(**json.loads(file.with_suffix(SUFFIX).read_bytes()))
        return origin if origin.found == _hash(file.read_bytes()) else None
    except (OSError, *NOT_JSON, TypeError):
        return None


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def identity(run: RunDirectory, step: int) -> str:
    """Return a text that changes with any file of a checkpoint; empty where it has no checksums."""
    return checksums.identity(run.checkpoints / str(step))


def last_table(run: RunDirectory, step: int, config: Config) -> Path | None:
    """Return the file of the table of a checkpoint that ends a training, of the config's test splits; None where there is
    none that is whole and of the checkpoint and these splits.

    It is decoded greedily, and by the beam with the run's own n-gram where `evaluation.ngram_order` asks for it, unless the
    training says that there could be none (`run.without_ngram`). The weights of that n-gram, which are found on the dev
    set, are part of the table's name. Later evaluations of other splits, of one head,
    with another look-ahead, in other windows, or with another penalty of unknown words, do not take its place.
    """
    tables, order = [], config.evaluation.ngram_order
    if order and run.evaluations.is_dir():
        # Over words or over labels, as the run's labels separate words or not.
        beams = [f", {level} {order}-gram {run.ngram.name} weight " for level in ("word", "label")]
        for file in sorted(run.evaluations.glob(f"step_{step}_*{SUFFIX}"), key=storage.modified):
            table = file.with_name(file.name.removesuffix(SUFFIX) + ".json")
            decoders = _decoders(file)
            own = len(decoders) == 2 and decoders[0] == "greedy" and any(beam in decoders[1] for beam in beams)
            # Names state a penalty only where it is not that of a training.
            own = own and ", tuned on " in decoders[1] and " unknown penalty " not in decoders[1]
            if own and table == run.evaluation(step, config.data.test, decoders):
                tables.append(table)
    if not order or _without_ngram(run) == order:
        tables.append(run.evaluation(step, config.data.test))
    # The table and the utterances are written in this order, each atomically.
    for table in tables:
        whole = table.is_file() and table.with_suffix(".jsonl").is_file()
        if whole and is_of(table, run, step, config):
            return table
    return None


def _without_ngram(run: RunDirectory) -> int:
    """Return the order of the n-gram that the last table of a run could not have; 0 where nothing says so."""
    try:
        return json.loads(run.without_ngram.read_bytes())["order"]
    except (OSError, *NOT_JSON, TypeError, KeyError):
        return 0


def _decoders(file: Path) -> list[str]:
    """Return the names of the decoders in the file of an origin, in their order; none where it is damaged."""
    try:
        return list(json.loads(file.read_bytes())["decoders"])
    except (OSError, *NOT_JSON, TypeError, KeyError):
        return []


def is_of(table: Path, run: RunDirectory, step: int, config: Config) -> bool:
    """Return whether the utterances next to a table belong to a checkpoint and to the test splits of a config, decoded in
    windows of its own length, as far as the origin says."""
    if not table.with_suffix(SUFFIX).is_file():  # an earlier version wrote it
        return True
    found = read_origin(table.with_suffix(".jsonl"))
    wanted = {split: described(source) for split, source in config.data.test.items()}
    same = found is not None and found.checkpoint == identity(run, step) and dict(found.sources) == wanted
    return same and found.window_seconds == config.window_seconds
