"""Batches of numpy arrays, read ahead by threads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypedDict

import grain
import numpy as np

from joint_st.data.audio import UnreadableAudio
from joint_st.data.plan import BatchPlan
from joint_st.data.prepared import Prepared, prepare
from joint_st.errors import UserError

__all__ = ["Batch", "Prepared", "batches", "prepare"]

SLACK_SECONDS = 0.02
"""Manifests round durations: so much of an utterance beyond its bucket is cut off, and more is an error."""


class Batch(TypedDict):
    """This host's rows of a batch; the shapes are those of the batch's bucket."""

    audio: np.ndarray
    """int16 [B, S], zeros behind the end."""
    audio_lengths: np.ndarray
    """int32 [B] samples."""
    labels: np.ndarray
    """int32 [B, U], zeros behind the end."""
    label_lengths: np.ndarray
    """int32 [B]."""
    valid: np.ndarray
    """bool [B]; False where there is no utterance, or none that can be read."""
    index: np.ndarray
    """int32 [B], row in the prepared dataset; -1 where there is none."""


def batches(
    prepared: Prepared,
    plan: BatchPlan,
    *,
    start: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    read_threads: int,
    prefetch: int,
) -> Iterator[tuple[int, Batch]]:
    """Batches `start`, `start + 1`, ... of the plan with their numbers; a plan without shuffling ends.

    Host `process_index` of `process_count` gets its contiguous part of each batch's rows. Grain keeps `prefetch`
    batches ready, and their utterances are read by `read_threads` threads in common. Raises `UserError` for the
    first unreadable utterance where the config is strict, and otherwise yields it as an invalid row.
    """
    uneven = [size for size in plan.buckets.batch_sizes if size % process_count]
    if uneven:
        raise UserError(f"data.batch_size: batches of {uneven[0]} do not divide over {process_count} hosts")
    with ThreadPoolExecutor(read_threads, thread_name_prefix="read") as readers:

        def load(i: int) -> tuple[int, Batch]:
            bucket, rows = plan[i]
            part = len(rows) // process_count
            rows = rows[process_index * part : (process_index + 1) * part]
            bound, labels = plan.buckets.bounds[bucket], plan.buckets.label_bounds[bucket]
            return i, _load(prepared, rows, bound, labels, readers)

        dataset = grain.MapDataset.source(_Numbers(start, sys.maxsize if plan.shuffle else plan.steps_per_epoch))
        # A batch being read waits for the readers: as many Grain threads as batches keep them busy.
        options = grain.ReadOptions(num_threads=prefetch, prefetch_buffer_size=prefetch)
        iterator = iter(dataset.map(load).to_iter_dataset(options))
        try:
            yield from iterator
        finally:
            iterator.close()
            readers.shutdown(cancel_futures=True)


class _Numbers:
    """`start` up to `end` as a source for Grain, which takes no range."""

    def __init__(self, start: int, end: int):
        self._start = start
        self._end = end

    def __len__(self) -> int:
        return max(self._end - self._start, 0)

    def __getitem__(self, i: int) -> int:
        return self._start + i


def _load(prepared: Prepared, rows: np.ndarray, bound: int, label_bound: int, readers: ThreadPoolExecutor) -> Batch:
    batch = Batch(
        audio=np.zeros((len(rows), bound), np.int16),
        audio_lengths=np.zeros(len(rows), np.int32),
        labels=np.zeros((len(rows), label_bound), np.int32),
        label_lengths=np.zeros(len(rows), np.int32),
        valid=np.zeros(len(rows), bool),
        index=rows.astype(np.int32),
    )

    def fill(b: int) -> None:
        try:
            audio, labels = prepared.load(int(rows[b]))
            over = len(audio) - bound
            if over > SLACK_SECONDS * prepared.features.sample_rate:
                rate = prepared.features.sample_rate
                stated = prepared.lengths[rows[b]] / rate
                raise UnreadableAudio(
                    prepared.id(int(rows[b])), f"{len(audio) / rate:.3f} s long, where its source says {stated:.3f} s"
                )
        except UnreadableAudio as error:
            prepared.note_unreadable(int(rows[b]), error)
            return
        audio = audio[:bound]
        batch["audio"][b, : len(audio)] = audio
        batch["audio_lengths"][b] = len(audio)
        batch["labels"][b, : len(labels)] = labels
        batch["label_lengths"][b] = len(labels)
        batch["valid"][b] = True

    for _ in readers.map(fill, np.flatnonzero(rows >= 0)):
        pass
    return batch
