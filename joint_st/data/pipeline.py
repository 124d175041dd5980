"""Batches of numpy arrays, read ahead by threads."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NotRequired, TypedDict

import grain
import numpy as np

from joint_st.config import DataConfig, LmDataConfig
from joint_st.data.audio import UnreadableAudio
from joint_st.data.buckets import LABEL_MULTIPLE, Buckets
from joint_st.data.dataset import Dataset
from joint_st.data.mixture import make_mixture
from joint_st.data.plan import BatchPlan
from joint_st.errors import UserError

SLACK_SECONDS = 0.1
"""Durations are rounded and MP3 is padded: so much beyond its bucket is cut off; more is an error."""

TEXT_STREAM = 1
"""Of the text plan's draws, beside those of the paired plan."""

WHOLE = ((0,), 1)
"""All rows of a batch, in one part."""


class Batch(TypedDict):
    """This host's rows of a batch; the shapes are those of the batch's bucket.

    Units are there where the data have units; what begins with `text_`, from data of text alone, where such were
    given.
    """

    audio: np.ndarray
    """int16 [B, S], zeros behind the end."""
    audio_lengths: np.ndarray
    """int32 [B] samples."""
    labels: np.ndarray
    """int32 [B, L], zeros behind the end."""
    label_lengths: np.ndarray
    """int32 [B]."""
    valid: np.ndarray
    """bool [B]; False where there is no utterance, or none that can be read."""
    index: np.ndarray
    """int32 [B], row in the prepared dataset; -1 where there is none."""
    units: NotRequired[np.ndarray]
    """int32 [B, U], zeros behind the end."""
    unit_lengths: NotRequired[np.ndarray]
    """int32 [B]."""
    unit_ends: NotRequired[np.ndarray]
    """int32 [B, U], encoder frame (exclusive) at which each unit ends; zeros where word times are unknown."""
    text_units: NotRequired[np.ndarray]
    """int32 [B', U'], zeros behind the end."""
    text_unit_lengths: NotRequired[np.ndarray]
    """int32 [B']."""
    text_labels: NotRequired[np.ndarray]
    """int32 [B', L'], zeros behind the end."""
    text_label_lengths: NotRequired[np.ndarray]
    """int32 [B']."""
    text_valid: NotRequired[np.ndarray]
    """bool [B']; False where there is no text."""
    text_index: NotRequired[np.ndarray]
    """int32 [B'], row in the prepared texts; -1 where there is none."""


def training_plan(prepared: Dataset, data: DataConfig, seed: int) -> BatchPlan:
    """The shuffled batches of a training set, in the buckets that waste the least on it."""
    lengths = prepared.augmentation.planned(prepared.lengths) if prepared.augmentation else prepared.lengths
    buckets = Buckets.choose(
        lengths,
        prepared.label_lengths,
        None if prepared.units is None else prepared.unit_lengths,
        count=data.buckets,
        multiple=prepared.features.samples_per_frame,
        batch_size=data.batch_size,
    )
    mixture = make_mixture(data.mixture, prepared)
    return BatchPlan(lengths, buckets, seed=seed, shuffle=True, mixture=mixture)


def text_plan(prepared: Dataset, data: DataConfig, seed: int) -> BatchPlan:
    """The shuffled text-only batches, in buckets of numbers of units."""
    buckets = Buckets.choose(
        prepared.unit_lengths,
        prepared.label_lengths,
        prepared.unit_lengths,
        count=data.text_buckets,
        multiple=LABEL_MULTIPLE,
        batch_size=data.text_batch_size,
    )
    mixture = make_mixture(data.text_mixture, prepared)
    return BatchPlan(prepared.unit_lengths, buckets, seed=seed, stream=TEXT_STREAM, shuffle=True, mixture=mixture)


def label_plan(texts: Dataset, data: LmDataConfig, seed: int, *, shuffle: bool) -> BatchPlan:
    """Batches in buckets of numbers of labels; without `shuffle`, one pass."""
    lengths = texts.label_lengths
    buckets = Buckets.choose(lengths, lengths, count=data.buckets, multiple=LABEL_MULTIPLE, batch_size=data.batch_size)
    return BatchPlan(lengths, buckets, seed=seed, shuffle=shuffle)


def text_batches(
    text: Dataset,
    plan: BatchPlan,
    *,
    start: int = 0,
    parts: tuple[Sequence[int], int] = WHOLE,
    prefetch: int,
) -> Iterator[tuple[int, Batch]]:
    """As `batches`, of text alone."""
    of_text = {"text": (text, plan), "text_first": sys.maxsize}
    return batches(None, None, **of_text, start=start, parts=parts, read_threads=1, prefetch=prefetch)


def batches(
    prepared: Dataset | None,
    plan: BatchPlan | None,
    *,
    text: tuple[Dataset, BatchPlan] | None = None,
    text_first: int = 0,
    start: int = 0,
    parts: tuple[Sequence[int], int] = WHOLE,
    read_threads: int,
    prefetch: int,
) -> Iterator[tuple[int, Batch]]:
    """Batches `start`, `start + 1`, ... of the plan with their numbers; a plan without shuffling ends.

    With `text`, batch `i` holds batch `i` of its plan too. The first `text_first` batches are of text alone, and
    the paired plan begins after them.

    `parts`: which of how many equal parts of each batch's rows this host gets, all by default. Grain keeps
    `prefetch` batches ready, and their utterances are read by `read_threads` threads in common. An unreadable
    utterance becomes an invalid row, or where the config is strict raises `UserError`.

    Threads, not processes: decoders and resampler let go of the interpreter, and on 2 cores threads were as
    fast (`benchmarks/input_pipeline.py`), start at once, and share the count of unreadable utterances.
    """
    loader = BatchLoader(prepared, plan, parts, text=text, text_first=text_first)
    with ThreadPoolExecutor(read_threads, thread_name_prefix="read") as readers:
        leading = text[1] if plan is None else plan
        end = sys.maxsize if leading.shuffle else leading.steps_per_epoch
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
    """Batch `i` of a plan, one host's rows."""

    def __init__(
        self,
        prepared: Dataset | None,
        plan: BatchPlan | None,
        parts: tuple[Sequence[int], int] = WHOLE,
        *,
        text: tuple[Dataset, BatchPlan] | None = None,
        text_first: int = 0,
    ):
        self._prepared = prepared
        self._rows = plan and HostRows(plan, parts, "data.batch_size")
        self._text = text and (text[0], HostRows(text[1], parts, "data.text_batch_size"))
        self._text_first = text_first

    def __call__(self, i: int, each: Callable = map) -> Batch:
        """Batch `i`; `each(f, rows)` calls `f` on every row, in any order or at once."""
        if i < self._text_first:
            batch = Batch()
            self._add_text(batch, i)
            return batch
        buckets, bucket, rows = self._rows[i - self._text_first]
        part = len(rows)
        batch = Batch(
            audio=np.zeros((part, buckets.bounds[bucket]), np.int16),
            audio_lengths=np.zeros(part, np.int32),
            labels=np.zeros((part, buckets.label_bounds[bucket]), np.int32),
            label_lengths=np.zeros(part, np.int32),
            valid=np.zeros(part, bool),
            index=rows.astype(np.int32),
        )
        if buckets.unit_bounds:
            most = buckets.unit_bounds[bucket]
            batch["units"] = np.zeros((part, most), np.int32)
            batch["unit_lengths"] = np.zeros(part, np.int32)
            batch["unit_ends"] = np.zeros((part, most), np.int32)
        filling = each(lambda b: self._fill(batch, int(b), i), np.flatnonzero(rows >= 0))
        if self._text:
            self._add_text(batch, i)
        for _ in filling:
            pass
        return batch

    def _fill(self, batch: Batch, b: int, step: int) -> None:
        n, bound = int(batch["index"][b]), batch["audio"].shape[1]
        try:
            example = self._prepared.load(n, (self._rows.plan.seed, step))
            self._check_length(n, len(example.audio), bound)
        except UnreadableAudio as error:
            self._prepared.note_unreadable(n, error)
            return
        audio, labels = example.audio[:bound], example.labels
        batch["audio"][b, : len(audio)] = audio
        batch["audio_lengths"][b] = len(audio)
        batch["labels"][b, : len(labels)] = labels
        batch["label_lengths"][b] = len(labels)
        if "units" in batch:
            batch["units"][b, : len(example.units)] = example.units
            batch["unit_lengths"][b] = len(example.units)
            last = self._prepared.features.frames(bound)
            batch["unit_ends"][b, : len(example.units)] = np.minimum(example.unit_ends, last)
        batch["valid"][b] = True

    def _add_text(self, batch: Batch, i: int) -> None:
        """Batch `i` of the texts; they are read here, while other threads read audio."""
        texts, host_rows = self._text
        buckets, bucket, rows = host_rows[i]
        # Texts for a language model have labels alone.
        most_units = buckets.unit_bounds[bucket] if buckets.unit_bounds else 0
        units = np.zeros((len(rows), most_units), np.int32)
        labels = np.zeros((len(rows), buckets.label_bounds[bucket]), np.int32)
        unit_lengths, label_lengths = np.zeros((2, len(rows)), np.int32)
        for b in np.flatnonzero(rows >= 0):
            _, its_labels, its_units, _ = texts.load(int(rows[b]))
            unit_lengths[b], label_lengths[b] = len(its_units), len(its_labels)
            units[b, : len(its_units)] = its_units
            labels[b, : len(its_labels)] = its_labels
        if buckets.unit_bounds:
            batch.update(text_units=units, text_unit_lengths=unit_lengths)
        batch.update(
            text_labels=labels,
            text_label_lengths=label_lengths,
            text_valid=rows >= 0,
            text_index=rows.astype(np.int32),
        )

    def _check_length(self, n: int, samples: int, bound: int) -> None:
        rate = self._prepared.features.sample_rate
        if samples > bound + SLACK_SECONDS * rate:
            stated = self._prepared.lengths[n] / rate
            raise UnreadableAudio(
                self._prepared.id(n), f"{samples / rate:.3f} s long, where its source says {stated:.3f} s"
            )


class HostRows:
    """One host's parts of the rows of each batch of a plan."""

    def __init__(self, plan: BatchPlan, parts: tuple[Sequence[int], int], field: str):
        held, of = parts
        uneven = [size for size in plan.buckets.batch_sizes if size % of]
        if uneven:
            raise UserError(
                f"{field}: batches of {uneven[0]} do not divide into {of} parts, one for each device that shares them; "
                "make it a multiple of their number"
            )
        self.plan = plan
        self._held = list(held)
        self._of = of

    def __getitem__(self, i: int) -> tuple[Buckets, int, np.ndarray]:
        """Buckets of the plan, the bucket of batch `i`, and the host's rows int64 [B]."""
        bucket, rows = self.plan[i]
        return self.plan.buckets, bucket, rows.reshape(self._of, -1)[self._held].ravel()
