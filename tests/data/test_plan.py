import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from joint_st.data.buckets import LABEL_MULTIPLE, WORTH, Buckets
from joint_st.data.loader import HostRows
from joint_st.data.plan import BatchPlan

MULTIPLE = 10


@st.composite
def datasets(draw):
    """Lengths [N], label lengths [N], number of buckets, batch size."""
    count = draw(st.integers(1, 60))
    lengths = draw(st.lists(st.integers(0, 400), min_size=count, max_size=count))
    labels = draw(st.lists(st.integers(0, 40), min_size=count, max_size=count))
    return np.array(lengths), np.array(labels), draw(st.integers(1, 5)), draw(st.integers(1, 6))


def choose(dataset):
    lengths, labels, count, batch_size = dataset
    return Buckets.choose(lengths, labels, count=count, multiple=MULTIPLE, batch_size=batch_size)


def computed(lengths, bounds, batch_size):
    """Return what a pass over buckets of these bounds computes, counted one utterance at a time."""
    total = 0
    for k, bound in enumerate(bounds):
        below = bounds[k - 1] if k else -1
        members = sum(below < length <= bound for length in lengths)
        size = batch_size * max(1, bounds[-1] // bound)
        while members > 0:
            total += size * bound
            members -= size
    return total


@given(datasets())
def test_every_utterance_fits_its_bucket(dataset):
    lengths, labels, count, batch_size = dataset
    buckets = choose(dataset)
    assert 1 <= len(buckets) <= count
    assert list(buckets.bounds) == sorted(set(buckets.bounds))
    assert all(bound % MULTIPLE == 0 and bound > 0 for bound in buckets.bounds)
    assert all(bound % LABEL_MULTIPLE == 0 and bound > 0 for bound in buckets.label_bounds)
    assert buckets.bounds[-1] - max(lengths.max(), 1) < MULTIPLE
    longest = buckets.bounds[-1]
    assert buckets.batch_sizes == tuple(batch_size * (longest // bound) for bound in buckets.bounds)
    for length, label, k in zip(lengths, labels, buckets.of(lengths)):
        assert length <= buckets.bounds[k] and label <= buckets.label_bounds[k]
        assert k == 0 or length > buckets.bounds[k - 1]
    for k, bound in enumerate(buckets.label_bounds):
        assert bound - max(labels[buckets.of(lengths) == k], default=0) <= LABEL_MULTIPLE


@settings(deadline=None)
@given(datasets())
def test_no_other_bounds_compute_less(dataset):
    lengths, _, count, batch_size = dataset
    candidates = sorted({max(-(-length // MULTIPLE), 1) * MULTIPLE for length in lengths.tolist()})[-9:]
    lengths = lengths[np.maximum(lengths, 1) > candidates[0] - MULTIPLE]  # few enough to try every choice
    buckets = choose((lengths, np.zeros_like(lengths), count, batch_size))
    *inner, longest = candidates
    costs = {
        size: min(computed(lengths, (*cut, longest), batch_size) for cut in itertools.combinations(inner, size))
        for size in range(min(count, len(candidates)))
    }
    assert computed(lengths, buckets.bounds, batch_size) == costs[len(buckets) - 1]
    enough = min(costs.values()) * (1 + WORTH)
    assert len(buckets) - 1 == min(size for size, cost in costs.items() if cost <= enough)


def test_many_different_lengths_are_tried_on_a_grid():
    lengths = np.random.default_rng(0).integers(1, 3_000_000, 20_000)
    buckets = Buckets.choose(lengths, np.ones_like(lengths), count=4, multiple=MULTIPLE, batch_size=8)
    assert len(buckets) == 4 and 0 <= buckets.bounds[-1] - lengths.max() < MULTIPLE
    # Evenly spread lengths in four equal steps: a mean of 1/2 in a mean of (1/4 + 2/4 + 3/4 + 4/4) / 4 = 5/8.
    assert BatchPlan(lengths, buckets, shuffle=False).padding_share == pytest.approx(0.2, abs=0.003)


@given(datasets(), st.integers(0, 2**31), st.integers(0, 3))
def test_an_epoch_holds_every_row_once(dataset, seed, epoch):
    lengths, buckets = dataset[0], choose(dataset)
    plan = BatchPlan(lengths, buckets, seed=seed, shuffle=True)
    steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
    seen = []
    for bucket, rows in (plan[i] for i in steps):
        assert len(rows) == buckets.batch_sizes[bucket]
        real = rows[rows >= 0]
        assert len(real) and (buckets.of(lengths[real]) == bucket).all()
        assert (rows[len(real) :] == -1).all()
        seen.extend(real.tolist())
    assert sorted(seen) == list(range(len(lengths)))


@given(datasets(), st.integers(0, 2**31), st.integers(1, 4), st.integers(0, 2))
def test_any_number_of_hosts_has_every_row_of_an_epoch_once(dataset, seed, hosts, epoch):
    lengths, labels, count, batch_size = dataset
    buckets = choose((lengths, labels, count, batch_size * hosts))
    plan = BatchPlan(lengths, buckets, seed=seed, shuffle=True)
    seen = []
    for host in range(hosts):
        rows = HostRows(plan, ((host,), hosts), "data.batch_size")
        for i in range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch):
            here = rows[i].here
            assert len(here) * hosts == buckets.batch_sizes[rows[i].bucket]
            seen.extend(here[here >= 0].tolist())
    assert sorted(seen) == list(range(len(lengths)))


@given(datasets(), st.integers(0, 2**31), st.integers(0, 2), st.integers(0, 3))
def test_rows_are_drawn_as_they_are_written_here(dataset, seed, stream, epoch):
    """The draws of an epoch, step by step: of each bucket, the longest first; then of the order of the batches."""
    lengths, buckets = dataset[0], choose(dataset)
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch, stream])))
    members = [[] for _ in buckets.bounds]
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        members[min(k for k, bound in enumerate(buckets.bounds) if lengths[row] <= bound)].append(row)
    drawn = [random.permutation(np.array(rows, np.int64)).tolist() for rows in members]
    batches = []
    for k in reversed(range(len(buckets))):
        size = buckets.batch_sizes[k]
        for start in range(0, len(drawn[k]), size):
            rows = drawn[k][start : start + size]
            batches.append((k, rows + [-1] * (size - len(rows))))
    order = random.permutation(np.array([(i, i) for i in range(len(batches))]).reshape(-1, 2))[:, 0]
    plan = BatchPlan(lengths, buckets, seed=seed, stream=stream, shuffle=True)
    assert plan.steps_per_epoch == len(batches)
    for step, i in enumerate(order):
        bucket, rows = plan[epoch * len(batches) + step]
        assert (bucket, rows.tolist()) == batches[i]


@given(datasets(), st.integers(0, 2**31), st.lists(st.integers(0, 200), min_size=1, max_size=8))
def test_a_batch_depends_on_its_number_alone(dataset, seed, asked):
    lengths, buckets = dataset[0], choose(dataset)
    plan = BatchPlan(lengths, buckets, seed=seed, shuffle=True)
    for i in asked:
        fresh = BatchPlan(lengths, buckets, seed=seed, shuffle=True)[i]
        assert plan[i].bucket == fresh.bucket
        np.testing.assert_array_equal(plan[i].rows, fresh.rows)


def test_epochs_and_seeds_differ():
    lengths = np.arange(1, 200)
    buckets = Buckets.choose(lengths, lengths, count=2, multiple=MULTIPLE, batch_size=4)

    def epoch(seed, number):
        plan = BatchPlan(lengths, buckets, seed=seed, shuffle=True)
        steps = plan.steps_per_epoch
        return np.concatenate([plan[i].rows for i in range(number * steps, (number + 1) * steps)]).tolist()

    orders = [epoch(seed, number) for seed in (0, 1) for number in (0, 1)]
    assert all(a != b for a, b in itertools.combinations(orders, 2))


def test_the_shuffle_stays_what_it_was():
    """A checkpoint's data order must survive an upgrade: these numbers may only change on purpose."""
    lengths = np.array([5, 10, 15, 20, 25, 30, 35, 40])
    buckets = Buckets((20, 40), (8, 8), (4, 2))
    plan = BatchPlan(lengths, buckets, seed=7, shuffle=True)
    assert [(b, rows.tolist()) for b, rows in (plan[i] for i in range(6))] == EXPECTED


@given(datasets())
def test_an_evaluation_pass_is_in_order_and_ends(dataset):
    lengths, buckets = dataset[0], choose(dataset)
    plan = BatchPlan(lengths, buckets, shuffle=False)
    rows = np.concatenate([plan[i].rows for i in range(plan.steps_per_epoch)])
    rows = rows[rows >= 0]
    assert sorted(rows.tolist()) == list(range(len(lengths)))
    assert (np.diff(lengths[rows]) <= 0).all()
    with pytest.raises(IndexError):
        plan[plan.steps_per_epoch]


@given(datasets())
def test_padding_is_counted(dataset):
    lengths, buckets = dataset[0], choose(dataset)
    plan = BatchPlan(lengths, buckets, shuffle=False)
    planned = [plan[i] for i in range(plan.steps_per_epoch)]
    cells = sum(len(rows) * buckets.bounds[bucket] for bucket, rows in planned)
    assert plan.padding_share == pytest.approx(1 - lengths.sum() / cells)
    assert computed(lengths, buckets.bounds, dataset[3]) == cells
    assert f"{plan.steps_per_epoch} steps per epoch" in plan.describe(1, "samples")


def test_a_length_beyond_the_buckets_is_refused():
    with pytest.raises(ValueError, match="a length of 41 fits no bucket; the longest is 40"):
        BatchPlan(np.array([3, 41]), Buckets((20, 40), (8, 8), (4, 2)), shuffle=True)


EXPECTED = [
    (0, [3, 2, 0, 1]),
    (1, [5, 6]),
    (1, [4, 7]),
    (1, [7, 6]),
    (1, [4, 5]),
    (0, [0, 2, 3, 1]),
]
