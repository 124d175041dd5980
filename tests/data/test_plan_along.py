"""A plan along another one: few pairs of buckets, and epochs that hold what they would hold alone."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from joint_st.data.batch import Shape
from joint_st.data.buckets import Buckets
from joint_st.data.plan import Along, BatchPlan
from joint_st.training.setup import TrainingData


def plan_of(count: int, buckets: int, seed: int, along: Along | None = None, batch_size: int = 2) -> BatchPlan:
    lengths = np.random.default_rng(seed).integers(1, 100, count)
    chosen = Buckets.choose(lengths, lengths, count=buckets, multiple=1, batch_size=batch_size)
    return BatchPlan(lengths, chosen, seed=seed, stream=int(along is not None), shuffle=True, along=along)


def shapes_of(speech: BatchPlan, text: BatchPlan, text_first: int, text_from: int, steps: int) -> list[Shape]:
    """The shapes of all batches that hold both parts, one by one."""
    both = range(max(text_first, text_from), steps)
    return [Shape(speech[n - text_first].bucket, text[n - text_from].bucket) for n in both]


CASES = [(5, 3, 0, 0), (3, 3, 70, 0), (4, 2, 0, 130), (6, 5, 3, 0)]


@pytest.mark.parametrize("speech_buckets, text_buckets, text_first, text_from", CASES)
def test_pairs_of_buckets_are_few(speech_buckets, text_buckets, text_first, text_from):
    steps, speech = 1_500, plan_of(900, speech_buckets, 1)
    alone = plan_of(700, text_buckets, 2)
    along = Along(speech, text_from - text_first, steps - text_first)
    text = plan_of(700, text_buckets, 2, along)
    assert (len(speech.buckets), len(text.buckets)) == (speech_buckets, text_buckets)
    least = speech_buckets + text_buckets - 1
    found = shapes_of(speech, text, text_first, text_from, steps)
    without = shapes_of(speech, alone, text_first, text_from, steps)
    assert len(set(without)) == speech_buckets * text_buckets
    assert least <= len(set(found)) <= least + 3
    # No step takes the longest of both, but where nearly all speech is in one bucket.
    longest = Counter(found)[Shape(speech_buckets - 1, text_buckets - 1)]
    assert longest <= Counter(without)[Shape(speech_buckets - 1, text_buckets - 1)] / 2


def test_an_epoch_holds_what_it_would_hold_alone():
    steps, speech = 1_000, plan_of(900, 4, 1)
    text, alone = plan_of(500, 3, 2, Along(speech, -10, steps - 10)), plan_of(500, 3, 2)
    alone.stream = text.stream
    size = text.steps_per_epoch
    for epoch in range(3):
        numbers = range(epoch * size, (epoch + 1) * size)
        own, other = ([(plan[i].bucket, *plan[i].rows) for i in numbers] for plan in (text, alone))
        assert own != other and sorted(own) == sorted(other)
    # Before the speech begins, and after the end, batches are as without it.
    first = [text[i].rows.tolist() for i in range(10)]
    assert first == [alone[i].rows.tolist() for i in range(10)]
    late = -(-steps // size) * size
    assert [text[late + i].rows.tolist() for i in range(9)] == [alone[late + i].rows.tolist() for i in range(9)]


def test_within_an_epoch_longer_speech_has_shorter_text():
    speech = plan_of(900, 4, 1)
    text = plan_of(500, 3, 2, Along(speech, 0, 10_000))
    for epoch in range(3):
        numbers = range(epoch * text.steps_per_epoch, (epoch + 1) * text.steps_per_epoch)
        pairs = sorted((speech[i].bucket, text[i].bucket) for i in numbers)
        for one, other in zip(pairs, pairs[1:]):
            assert one[0] == other[0] or one[1] >= other[1]


def test_a_pass_over_the_text_has_short_and_long_sentences_at_all_times():
    steps, speech = 3_000, plan_of(900, 3, 1)
    text = plan_of(12_000, 3, 2, Along(speech, 0, steps))
    assert text.steps_per_epoch > steps
    buckets = text.buckets_of(0, steps)
    whole = np.bincount(buckets) / steps
    for part in np.split(buckets, 5):
        np.testing.assert_allclose(np.bincount(part, minlength=3) / len(part), whole, atol=0.06)


@pytest.mark.parametrize("speech_buckets, text_buckets", [(4, 1), (1, 3)])
def test_with_one_bucket_nothing_changes(speech_buckets, text_buckets):
    speech, alone = plan_of(300, speech_buckets, 1), plan_of(200, text_buckets, 2)
    text = plan_of(200, text_buckets, 2, Along(speech, 0, 1_000))
    alone.stream = text.stream
    for i in range(150):
        np.testing.assert_array_equal(text[i].rows, alone[i].rows)


@pytest.mark.parametrize("speech_buckets, text_buckets, text_first, text_from", CASES)
def test_the_shapes_of_a_training_are_those_of_its_batches(speech_buckets, text_buckets, text_first, text_from):
    steps, speech = 700, plan_of(900, speech_buckets, 1)
    text = plan_of(700, text_buckets, 2, Along(speech, text_from - text_first, steps - text_first))
    data = TrainingData(SimpleNamespace(), None, speech, None, SimpleNamespace(), text, text_first, text_from)
    assert data.shapes(steps) == tuple(sorted(set(shapes_of(speech, text, text_first, text_from, steps))))
    spoken = TrainingData(SimpleNamespace(), None, speech, None, None, None, 0)
    assert spoken.shapes(steps) == tuple(Shape(k, None) for k in range(speech_buckets))


def test_buckets_of_some_batches_are_those_of_each():
    plan = plan_of(300, 4, 1)
    for first, end in ((0, 1), (5, 5), (3, 200), (plan.steps_per_epoch, 3 * plan.steps_per_epoch + 1)):
        assert plan.buckets_of(first, end).tolist() == [plan[i].bucket for i in range(first, end)]
