"""The plan of batches: which utterances are in batch `i` is a function of the lengths, the buckets, the mixture, the
seed and `i` alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from joint_st.config import DataConfig, LmDataConfig
from joint_st.data.buckets import LABEL_MULTIPLE, Buckets
from joint_st.data.dataset import Dataset
from joint_st.data.mixture import EveryRowOnce, Mixture, make_mixture

TEXT_STREAM = 1
"""Number of the stream of the text plan's draws; the paired plan's is 0."""


class PlannedBatch(NamedTuple):
    """One batch of the plan, over all hosts."""

    bucket: int
    rows: np.ndarray
    """int64 [B], rows of the dataset; -1 where the batch has none."""


class Along(NamedTuple):
    """The plan of the batches with which those of another plan make a step."""

    plan: BatchPlan
    before: int
    """Number of the batch that makes a step with batch 0 of the other plan; below 0 where that one begins earlier."""
    end: int
    """Number from which batches of the two make no step any more."""


class BatchPlan:
    """Random access to batches, for any `i` from 0 on, without any state between them.

    With `shuffle`, epoch `e` holds what the mixture draws of each bucket (every row once, unless another mixture is
    given), from (seed, e) alone: the rows of a bucket are cut into batches, the last of a bucket filled up with -1, and
    the batches are shuffled. The plan goes on for ever. Without `shuffle`, it is one pass, the longest first.

    With `leave_longer`, rows that are longer than the last bucket are in no batch; otherwise they are an error.
    Lengths are whole numbers of any unit: samples of audio, units of text. Plans of different `stream` draw
    independently from the same seed.

    A plan `along` another one puts, within each of its epochs, its batches of the longer buckets where that one has
    shorter ones. There are then few pairs of buckets, hardly more than buckets in both, and a step is compiled for each;
    and no step takes the longest of both. What an epoch holds is as without it.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        buckets: Buckets,
        *,
        seed: int = 0,
        stream: int = 0,
        shuffle: bool,
        leave_longer: bool = False,
        mixture: Mixture | None = None,
        along: Along | None = None,
    ):
        self.lengths = np.asarray(lengths)
        self.buckets = buckets
        self.seed = seed
        self.stream = stream
        self.shuffle = shuffle
        self.mixture = mixture or EveryRowOnce()
        self._along = along if along and min(len(buckets), len(along.plan.buckets)) > 1 else None
        bucket = buckets.of(self.lengths)
        if not leave_longer and self.lengths.max() > buckets.bounds[-1]:
            longest, bound = self.lengths.max(), buckets.bounds[-1]
            raise ValueError(f"a length of {longest} fits no bucket; the longest is {bound}")
        longest_first = np.argsort(-self.lengths, kind="stable")
        self._members = [longest_first[bucket[longest_first] == k] for k in range(len(buckets))]
        draws = [self.mixture.size(rows) if shuffle and len(rows) else len(rows) for rows in self._members]
        self.batches_per_bucket = tuple(-(-count // size) for count, size in zip(draws, buckets.batch_sizes))
        self.steps_per_epoch = sum(self.batches_per_bucket)
        self._epochs: dict[int, tuple[np.ndarray, list[np.ndarray]]] = {}

    def __getitem__(self, i: int) -> PlannedBatch:
        if i < 0 or (not self.shuffle and i >= self.steps_per_epoch):
            raise IndexError(f"batch {i} of a plan of {self.steps_per_epoch}")
        epoch, step = divmod(i, self.steps_per_epoch)
        order, rows = self._epoch(epoch)
        bucket, batch = order[step]
        return PlannedBatch(int(bucket), rows[bucket][batch])

    def buckets_of(self, first: int, end: int) -> np.ndarray:
        """Return the buckets of batches `first` to `end`, without the last, int [N]."""
        if first >= end:
            return np.zeros(0, int)
        epochs = range(first // self.steps_per_epoch, (end - 1) // self.steps_per_epoch + 1)
        orders = np.concatenate([self._epoch(epoch)[0][:, 0] for epoch in epochs])
        return orders[first - epochs[0] * self.steps_per_epoch :][: end - first]

    @property
    def padding_share(self) -> float:
        """Share of what a pass computes that is padding, empty rows included."""
        rows = np.concatenate([table.ravel() for table in self._epoch(0)[1]])
        return 1 - int(self.lengths[rows[rows >= 0]].sum()) / sum(self._computed())

    def describe(self, unit: float, name: str) -> str:
        """Return the buckets in one readable line; `unit` is the length of one `name` (16000 samples: one s)."""
        sizes, bounds, labels = self.buckets.batch_sizes, self.buckets.bounds, self.buckets.label_bounds
        shapes = "; ".join(
            f"{size} × {bound / unit:.4g} {name}, {most} labels ({batches} batches)"
            for size, bound, most, batches in zip(sizes, bounds, labels, self.batches_per_bucket)
        )
        return f"{shapes}; {self.steps_per_epoch} steps per epoch, {self.padding_share:.1%} padding"

    def _computed(self) -> list[int]:
        shapes = zip(self.batches_per_bucket, self.buckets.batch_sizes, self.buckets.bounds)
        return [batches * size * bound for batches, size, bound in shapes]

    def _epoch(self, epoch: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return `_make_epoch`; the last two epochs are cached, because threads on both sides of a boundary need
        both."""
        epochs = self._epochs
        if epoch not in epochs:
            epochs = dict([*epochs.items()][-1:])
            epochs[epoch] = self._make_epoch(epoch)
            self._epochs = epochs  # replaced and never changed, because other threads may be reading the old one
        return epochs[epoch]

    def _make_epoch(self, epoch: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return the order, int [steps, (bucket, batch)], and per bucket the rows, int64 [batches, B]."""
        longest_first = reversed(range(len(self.buckets)))
        pairs = [(k, b) for k in longest_first for b in range(self.batches_per_bucket[k])]
        order: np.ndarray = np.array(pairs, int).reshape(-1, 2)
        members = self._members
        if self.shuffle:
            # Stream 0 gives the same draws as no stream, because seeds are padded with zeros.
            random = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, epoch, self.stream])))
            members = [self.mixture.draw(rows, random) if len(rows) else rows for rows in members]
            order = random.permutation(order)
            if self._along:
                order = self._fitted(order, epoch, self._along, random)
        filled: list[np.ndarray] = []
        for rows, batches, size in zip(members, self.batches_per_bucket, self.buckets.batch_sizes):
            table = np.full(batches * size, -1, np.int64)
            table[: len(rows)] = rows
            filled.append(table.reshape(batches, size))
        return order, filled

    def _fitted(self, order: np.ndarray, epoch: int, along: Along, random: np.random.Generator) -> np.ndarray:
        """Return the order [steps, (bucket, batch)] of an epoch with its shorter buckets where those along are longer.

        Which of the steps with one bucket along get the shorter ones is drawn: in the order of the steps, the first would,
        and an epoch that is as long as a training would have no short batch towards its end.
        """
        plan, before, end = along
        first = epoch * self.steps_per_epoch + before
        begin, stop = max(first, 0), min(first + len(order), end)
        if begin >= stop:
            return order
        there = slice(begin - first, stop - first)
        own = order[there]
        fitted, shared = order.copy(), np.empty_like(own)
        longest_first = np.lexsort((random.random(len(own)), -plan.buckets_of(begin, stop)))
        shared[longest_first] = own[np.argsort(own[:, 0], kind="stable")]
        fitted[there] = shared
        return fitted


def training_plan(dataset: Dataset, data: DataConfig, seed: int) -> BatchPlan:
    """Plan the shuffled batches of a training set, in the buckets that waste the least padding on it."""
    assert dataset.features is not None
    lengths = dataset.augmentation.planned(dataset.lengths) if dataset.augmentation else dataset.lengths
    buckets = Buckets.choose(
        lengths,
        dataset.label_lengths,
        None if dataset.units is None else dataset.unit_lengths,
        count=data.buckets,
        multiple=dataset.features.samples_per_frame,
        batch_size=data.batch_size,
    )
    return BatchPlan(lengths, buckets, seed=seed, shuffle=True, mixture=make_mixture(data.mixture, dataset))


def text_plan(texts: Dataset, data: DataConfig, seed: int, along: Along | None = None) -> BatchPlan:
    """Plan the shuffled text-only batches, in buckets by the number of units. along: the plan of the speech with which
    they make steps."""
    lengths, mixture = texts.unit_lengths, make_mixture(data.text_mixture, texts)
    buckets = Buckets.choose(
        lengths,
        texts.label_lengths,
        lengths,
        count=data.text_buckets,
        multiple=LABEL_MULTIPLE,
        batch_size=data.text_batch_size,
    )
    return BatchPlan(lengths, buckets, seed=seed, stream=TEXT_STREAM, shuffle=True, mixture=mixture, along=along)


def label_plan(texts: Dataset, data: LmDataConfig, seed: int, *, shuffle: bool) -> BatchPlan:
    """Plan batches for a language model, in buckets by the number of labels; without `shuffle`, one pass."""
    lengths = texts.label_lengths
    buckets = Buckets.choose(lengths, lengths, count=data.buckets, multiple=LABEL_MULTIPLE, batch_size=data.batch_size)
    return BatchPlan(lengths, buckets, seed=seed, shuffle=shuffle)
