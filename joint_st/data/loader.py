"""Loads batches of NumPy arrays, which threads read ahead."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import grain
import numpy as np

from joint_st.config import DataConfig
from joint_st.data.audio import UnreadableAudio
from joint_st.data.batch import Batch, Row, Shape, empty_part, fill_row
from joint_st.data.dataset import Dataset, Example
from joint_st.data.plan import BatchPlan
from joint_st.distributed.peers import current
from joint_st.errors import Stalled, UserError

WHOLE = ((0,), 1)
"""All rows of a batch, in one part."""

MOST_UNREADABLE = 32
"""Utterances in a row of a shuffled plan that a host may fail to read; beyond that, it is not the files."""


def text_batches(
    text: Dataset,
    plan: BatchPlan,
    *,
    start: int = 0,
    parts: tuple[Sequence[int], int] = WHOLE,
    prefetch: int,
) -> Iterator[Batch]:
    """Yield batches of text alone; see `batches`."""
    return batches(
        None,
        None,
        text=(text, plan),
        text_first=sys.maxsize,
        start=start,
        parts=parts,
        read_threads=1,
        prefetch=prefetch,
    )


def reading(data: DataConfig) -> dict[str, Any]:
    """Return the arguments of `batches` that a configuration states: how it reads, and how long it waits."""
    return {
        "read_threads": data.read_threads,
        "prefetch": data.prefetch_batches,
        "read_timeout": data.read_timeout_seconds,
    }


def batches(
    prepared: Dataset | None,
    plan: BatchPlan | None,
    *,
    text: tuple[Dataset, BatchPlan] | None = None,
    text_first: int = 0,
    text_from: int = 0,
    start: int = 0,
    languages: Sequence[str] = ("",),
    parts: tuple[Sequence[int], int] = WHOLE,
    shared: bool = False,
    read_threads: int,
    prefetch: int,
    read_timeout: float = math.inf,
) -> Iterator[Batch]:
    """Yield batches `start`, `start + 1`, ... of the plan; a plan without shuffling ends.

    With `text`, batch `i` also holds batch `i` of the text's plan. The first `text_first` batches are of text alone,
    and the paired plan begins after them; the first `text_from` have none of it, and the text's plan begins after them.

    `languages`: the languages of the run, into which a row's language is an index. `parts`: which of how many equal
    parts of each batch's rows this host gets; all by default. `shared`: whether other hosts get some of these rows too.
    Grain keeps `prefetch` batches ready, and `read_threads` threads together read their utterances. An unreadable
    utterance becomes an invalid row; it raises `UserError` where the config is strict, and where the row is shared,
    which another host may be able to read. Raises `Stalled` where no batch comes for `read_timeout` seconds, and where a
    shuffled plan has more than `MOST_UNREADABLE` unreadable utterances in a row.

    It uses threads and not processes: decoders and resampler release the interpreter lock, and threads start at once,
    share the index in memory, and count unreadable utterances together (`benchmarks/input_pipeline.py`).
    """
    loader = BatchLoader(
        prepared,
        plan,
        parts,
        shared=shared,
        text=text,
        text_first=text_first,
        text_from=text_from,
        languages=languages,
    )
    readers = ThreadPoolExecutor(read_threads, thread_name_prefix="read")
    leading = text[1] if text is not None and plan is None else plan
    assert leading is not None
    end = sys.maxsize if leading.shuffle else leading.steps_per_epoch
    numbers: Any = Numbers(start, end)  # Grain needs this of a source, though it is no `Sequence`
    dataset = grain.MapDataset.source(numbers).map(lambda i: loader(i, readers.map))
    # A Grain thread holds a batch and waits for the readers; with one per batch, the readers never idle.
    options = grain.ReadOptions(num_threads=prefetch, prefetch_buffer_size=prefetch)
    iterator = iter(dataset.to_iter_dataset(options))
    found = in_time(iterator, read_timeout, loader)
    try:
        yield from some_readable(found, prepared) if leading.shuffle and prepared is not None else found
    except Stalled:
        readers.shutdown(wait=False, cancel_futures=True)
        raise
    except BaseException:
        iterator.close()
        readers.shutdown(cancel_futures=True)
        raise
    iterator.close()
    readers.shutdown()


def in_time(iterator: Iterator[Batch], seconds: float, loader: BatchLoader) -> Iterator[Batch]:
    """Yield the batches of a loader's iterator.

    Raises `Stalled`, which names this host and the utterances that are being read, where no batch comes in time.
    """
    if seconds == math.inf:
        yield from iterator
        return
    taker = ThreadPoolExecutor(1, thread_name_prefix="take")
    try:
        while True:
            coming = taker.submit(next, iterator, None)
            if not wait([coming], seconds).done:
                what = ", ".join(sorted(loader.reading.values())[:4]) or "the texts of a batch"
                raise Stalled(
                    f"{current().name()}: has been reading {what} for {seconds:g} s; look at the disk, or the bucket, "
                    "that holds them; the same command goes on from the last checkpoint"
                )
            batch = coming.result()
            if batch is None:
                return
            yield batch
    finally:
        taker.shutdown(wait=False, cancel_futures=True)


def some_readable(found: Iterable[Batch], prepared: Dataset) -> Iterator[Batch]:
    """Yield batches; raise `Stalled` where none of more than `MOST_UNREADABLE` utterances in a row could be read.

    A training would otherwise go on without data, and replace its checkpoints, where a disk is gone.
    """
    failed = 0
    for batch in found:
        if "paired" in batch.rows:
            planned = batch.local_rows["paired"][batch.local_rows["paired"] >= 0]
            failed = 0 if batch.arrays["paired"]["valid"].any() else failed + len(planned)
            if failed > MOST_UNREADABLE:
                why = prepared.unreadable[int(planned[-1])]
                raise Stalled(
                    f"{current().name()}: could read none of the last {failed} utterances ({why}); look at the disk, or "
                    "the bucket, that holds them; the same command goes on from the last checkpoint"
                )
        yield batch


class Numbers:
    """The numbers from `start` up to `end` as a source for Grain, which does not accept a range."""

    def __init__(self, start: int, end: int):
        self._start = start
        self._end = end

    def __len__(self) -> int:
        return max(self._end - self._start, 0)

    def __getitem__(self, i: int) -> int:
        return self._start + i


class BatchLoader:
    """Loads batch `i` of a plan, one host's rows of it."""

    def __init__(
        self,
        prepared: Dataset | None,
        plan: BatchPlan | None,
        parts: tuple[Sequence[int], int] = WHOLE,
        *,
        shared: bool = False,
        text: tuple[Dataset, BatchPlan] | None = None,
        text_first: int = 0,
        text_from: int = 0,
        languages: Sequence[str] = ("",),
    ):
        self._prepared = prepared
        self._shared = shared
        self._plans: dict[str, HostRows] = {}
        if plan is not None:
            self._plans["paired"] = HostRows(plan, parts, "data.batch_size")
        self._texts: Dataset | None = None
        if text is not None:
            self._texts, text_plan = text
            self._plans["text"] = HostRows(text_plan, parts, "data.text_batch_size")
        self._before = {"paired": text_first, "text": text_from}
        self._language = {tag: i for i, tag in enumerate(languages)}
        self.reading: dict[int, str] = {}
        """Ids of the utterances that are being read now, by thread."""

    def __call__(self, i: int, each: Callable = map) -> Batch:
        """Return batch `i`; `each(f, rows)` calls `f` on every row, in any order or concurrently."""
        numbers = {part: i - before for part, before in self._before.items()}
        planned = {part: plan[numbers[part]] for part, plan in self._plans.items() if numbers[part] >= 0}
        arrays = {
            part: empty_part(part, len(own.here), self._plans[part].buckets, own.bucket)
            for part, own in planned.items()
        }
        filling: Iterable = ()
        if "paired" in planned:
            heard = planned["paired"].here
            draw = self._plans["paired"].seed, i
            filling = each(
                lambda b: self._fill(arrays["paired"], int(b), int(heard[b]), draw), np.flatnonzero(heard >= 0)
            )
        if "text" in planned:
            # This thread reads texts while others read audio.
            read = planned["text"].here
            for b in np.flatnonzero(read >= 0):
                self._fill_text(arrays["text"], int(b), int(read[b]))
        for _ in filling:
            pass
        buckets = {part: own.bucket for part, own in planned.items()}
        return Batch(
            number=i,
            shape=Shape(buckets.get("paired"), buckets.get("text")),
            arrays=arrays,
            rows={part: own.everywhere for part, own in planned.items()},
            local_rows={part: own.here for part, own in planned.items()},
        )

    def _fill(self, part: dict[str, np.ndarray], b: int, n: int, draw: tuple[int, int]) -> None:
        """Fill row `b` with utterance `n`, augmented for (seed, step); leave it empty where the utterance cannot be
        read."""
        prepared, bound = self._prepared, part["audio"].shape[1]
        assert prepared is not None and prepared.features is not None
        thread = threading.get_ident()
        self.reading[thread] = prepared.id(n)
        try:
            example = prepared.load(n, draw)
        except UnreadableAudio as error:
            if self._shared:  # left out here alone, it would make the devices of both hosts compute different things
                raise
            prepared.note_unreadable(n, error)
            return
        finally:
            self.reading.pop(thread, None)
        example = example._replace(audio=example.audio[:bound])
        fill_row(part, "paired", b, Row(example, prepared.features.frames(bound), self._language_of(example)))

    def _fill_text(self, part: dict[str, np.ndarray], b: int, n: int) -> None:
        assert self._texts is not None
        example = self._texts.load(n)
        fill_row(part, "text", b, Row(example, 0, self._language_of(example)))

    def _language_of(self, example: Example) -> int:
        return self._language.get(example.language, 0)


class RowsOfBatch(NamedTuple):
    """The bucket of a batch, and its rows of the data set, int64 [B]; -1 for an empty row."""

    bucket: int
    everywhere: np.ndarray
    here: np.ndarray
    """The rows of this host."""


class HostRows:
    """One host's part of the rows of each batch of a plan."""

    def __init__(self, plan: BatchPlan, parts: tuple[Sequence[int], int], field: str):
        held, of = parts
        uneven = [size for size in plan.buckets.batch_sizes if size % of]
        if uneven:
            raise UserError(
                f"{field}: batches of {uneven[0]} do not divide into {of} parts, one for each device that shares them; "
                "make it a multiple of their number"
            )
        self._plan = plan
        self.buckets = plan.buckets
        self.seed = plan.seed
        self._held = list(held)
        self._of = of

    def __getitem__(self, i: int) -> RowsOfBatch:
        bucket, rows = self._plan[i]
        return RowsOfBatch(bucket, rows, rows.reshape(self._of, -1)[self._held].ravel())
