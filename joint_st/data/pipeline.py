"""Batches of numpy arrays, read ahead by threads."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypedDict

import grain
import numpy as np

from joint_st.config import DataConfig
from joint_st.data.audio import UnreadableAudio
from joint_st.data.buckets import Buckets
from joint_st.data.plan import BatchPlan
from joint_st.data.prepared import Prepared, prepare
from joint_st.errors import UserError

__all__ = ["Batch", "Prepared", "batches", "prepare", "training_plan"]

SLACK_SECONDS = 0.1
"""Durations are rounded and MP3 is padded: so much beyond its bucket is cut off; more is an error."""


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


def training_plan(prepared: Prepared, data: DataConfig, seed: int) -> BatchPlan:
    """The shuffled batches of a training set, in the buckets that waste the least on it."""
    buckets = Buckets.choose(
        prepared.lengths,
        prepared.label_lengths,
        count=data.buckets,
        multiple=prepared.features.samples_per_frame,
        batch_size=data.batch_size,
    )
    return BatchPlan(prepared.lengths, buckets, seed=seed, shuffle=True)


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

    Host `process_index` of `process_count` gets its contiguous part of each batch's rows. Grain keeps
    `prefetch` batches ready, and their utterances are read by `read_threads` threads in common. An unreadable
    utterance becomes an invalid row, or where the config is strict raises `UserError`.

    Threads, not processes: decoders and resampler let go of the interpreter, and on 2 cores threads were as
    fast (`benchmarks/input_pipeline.py`), start at once, and share the count of unreadable utterances.
    """
    loader = BatchLoader(prepared, plan, process_index, process_count)
    with ThreadPoolExecutor(read_threads, thread_name_prefix="read") as readers:
        end = sys.maxsize if plan.shuffle else plan.steps_per_epoch
        dataset = grain.MapDataset.source(Numbers(start, end)).map(lambda i: (i, loader(i, readers.map)))
        # A Grain thread holds a batch and waits for the readers; with one per batch, the readers never idle.
        options = grain.ReadOptions(num_threads=prefetch, prefetch_buffer_size=prefetch)
        iterator = iter(dataset.to_iter_dataset(options))
        try:
            yield from iterator
        finally:
            iterator.close()
            readers.shutdown(cancel_futures=True)


class Numbers:
    """`start` up to `end` as a source for Grain, which takes no range."""

    def __init__(self, start: int, end: int):
        self._start = start
        self._end = end

    def __len__(self) -> int:
        return max(self._end - self._start, 0)

    def __getitem__(self, i: int) -> int:
        return self._start + i


class BatchLoader:
    """Batch `i` of a plan, one host's rows. It pickles."""

    def __init__(self, prepared: Prepared, plan: BatchPlan, process_index: int = 0, process_count: int = 1):
        uneven = [size for size in plan.buckets.batch_sizes if size % process_count]
        if uneven:
            raise UserError(
                f"data.batch_size: batches of {uneven[0]} do not divide over {process_count} hosts; "
                "make it a multiple of their number"
            )
        self._prepared = prepared
        self._plan = plan
        self._process_index = process_index
        self._process_count = process_count

    def __call__(self, i: int, each: Callable = map) -> Batch:
        """Batch `i`; `each(f, rows)` calls `f` on every row, in any order or at once."""
        bucket, rows = self._plan[i]
        part = len(rows) // self._process_count
        rows = rows[self._process_index * part :][:part]
        buckets = self._plan.buckets
        batch = Batch(
            audio=np.zeros((part, buckets.bounds[bucket]), np.int16),
            audio_lengths=np.zeros(part, np.int32),
            labels=np.zeros((part, buckets.label_bounds[bucket]), np.int32),
            label_lengths=np.zeros(part, np.int32),
            valid=np.zeros(part, bool),
            index=rows.astype(np.int32),
        )
        for _ in each(lambda b: self._fill(batch, int(b)), np.flatnonzero(rows >= 0)):
            pass
        return batch

    def _fill(self, batch: Batch, b: int) -> None:
        n, bound = int(batch["index"][b]), batch["audio"].shape[1]
        try:
            audio, labels = self._prepared.load(n)
            self._check_length(n, len(audio), bound)
        except UnreadableAudio as error:
            self._prepared.note_unreadable(n, error)
            return
        audio = audio[:bound]
        batch["audio"][b, : len(audio)] = audio
        batch["audio_lengths"][b] = len(audio)
        batch["labels"][b, : len(labels)] = labels
        batch["label_lengths"][b] = len(labels)
        batch["valid"][b] = True

    def _check_length(self, n: int, samples: int, bound: int) -> None:
        rate = self._prepared.features.sample_rate
        if samples > bound + SLACK_SECONDS * rate:
            stated = self._prepared.lengths[n] / rate
            raise UnreadableAudio(
                self._prepared.id(n), f"{samples / rate:.3f} s long, where its source says {stated:.3f} s"
            )
