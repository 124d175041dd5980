"""Stored evaluations, whose hypotheses can be used instead of decoding again."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from joint_st import storage
from joint_st.config import Source
from joint_st.data.audio import UnreadableAudio
from joint_st.data.dataset import Dataset
from joint_st.decoding.decoders import Decoder, fingerprint
from joint_st.distributed.peers import current
from joint_st.errors import UserError
from joint_st.evaluation.origin import Origin, read_origin
from joint_st.evaluation.report import Key, ScoredUtterance, by_key, read_utterances
from joint_st.runs.directory import RunDirectory


def origin_of(
    run: RunDirectory,
    step: int,
    normalizer: str,
    sources: Mapping[str, Source],
    decoders: Iterable[Decoder],
    window_seconds: float,
    look_ahead_ms: float = 0.0,
) -> Origin:
    """Return the origin that an evaluation of a checkpoint would have."""
    fingerprints = {decoder.name: fingerprint(decoder) for decoder in decoders}
    return Origin.of(run, step, normalizer, sources, fingerprints, window_seconds, look_ahead_ms)


def stored_utterances(
    run: RunDirectory, step: int, keys: Sequence[Key], wanted: Origin, sources: bool = True
) -> tuple[dict[Key, list[ScoredUtterance]], str]:
    """Return the stored utterances of a checkpoint for some keys, and why some are missing; "" where none is.

    A key's utterances come from the newest evaluation that has it and the wanted origin; a key without one is left out.
    sources: whether the split must have the same source.
    """
    found: dict[Key, list[ScoredUtterance]] = {}
    why = "no evaluation is stored"
    files = run.evaluations.glob(f"step_{step}_*.jsonl") if run.evaluations.is_dir() else []
    for file in sorted(files, key=storage.modified, reverse=True):
        if set(found) == set(keys):
            break
        if not (origin := read_origin(file)):
            why = "what is stored does not say what it was made from, or is damaged"
            continue
        there = by_key(read_utterances(file))
        for key in keys:
            if key not in there or key in found:
                continue
            if difference := wanted.difference(origin, key, sources):
                why = f"what is stored was made with {difference}"
            else:
                found[key] = there[key]
    return found, "" if set(found) == set(keys) else why


def contents(utterances: Iterable[ScoredUtterance]) -> Counter:
    """Count the triples of id, reference and hash of the samples."""
    return Counter((one.id, one.reference, one.samples) for one in utterances)


def decoded_contents(dataset: Dataset, rows: Iterable[int], threads: int) -> Counter:
    """Return the `contents` of the readable ones among some rows of a dataset, which are decoded."""
    dataset.hashes = {}

    def read(n: int) -> None:
        try:
            dataset.load(n)
        except UnreadableAudio as error:
            dataset.hashes.pop(n, None)
            dataset.note_unreadable(n, error)

    with ThreadPoolExecutor(threads, thread_name_prefix="read") as readers:
        list(readers.map(read, rows))
    return Counter((dataset.id(n), dataset.text(n), own) for n, own in dataset.hashes.items())


def have_changed(name: str, open_split: Callable[[], Dataset], stored: Sequence[Counter], threads: int) -> bool:
    """Return whether a split has other utterances or texts than the stored `contents`; False where its source does not
    exist any more, as where a run was moved, which is said under the `name` of the checkpoint. What is not stored is
    decoded, and may be unreadable."""
    try:
        dataset = open_split()
    except UserError as error:
        print(f"{name}: what is stored is used, and not compared with its data: {error}", file=sys.stderr)
        return False
    now = {(dataset.id(n), dataset.text(n)): n for n in range(len(dataset))}
    for one in stored:
        said = {(id, text) for id, text, _ in one}
        new = [n for key, n in now.items() if key not in said]
        if said - now.keys() or decoded_contents(dataset, new, threads):
            return True
    return False


def other_texts(split: str) -> str:
    """Return why what is stored of a split that has changed cannot be used."""
    return f"what is stored was made with other utterances or texts than {split} has now"


HASHES = 10_000
"""Number of utterances whose hashes are sent to process 0 together."""

HASHES_SECONDS = 600
"""Time limit for every process to send them."""


def gather_hashes(dataset: Dataset) -> None:
    """Give process 0 the hashes of what all processes have read."""
    peers, own = current(), dict(dataset.hashes)
    for first in range(0, len(dataset), HASHES):
        some = {n: own[n] for n in range(first, min(first + HASHES, len(dataset))) if n in own}
        for told in peers.gather("hashes of the audio", json.dumps(some), HASHES_SECONDS):
            dataset.hashes |= {int(n): one for n, one in json.loads(told).items()}
