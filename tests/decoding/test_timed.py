"""Decoders with times and n-best lists: the labels are those of the decoder, the rest follows from the head alone."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from joint_st.config import HeadsConfig, ParallelConfig
from joint_st.decoding.decoders import Beam, Greedy
from joint_st.decoding.timed import Alternative, Timed, TimedLabels
from joint_st.distributed.mesh import make_mesh
from joint_st.heads import LabelSpans, head_kind
from joint_st.ops.masks import close_up
from tests.heads.toy import ToyHead, registered
from tests.ops.forced_alignment_reference import log_softmax, viterbi

LENGTHS = np.array([20, 9, 1, 0])
MASK = jnp.asarray(np.arange(20) < LENGTHS[:, None])


def search(decoder, head, x):
    mesh = make_mesh(ParallelConfig())

    @jax.jit
    def run(head, x):
        return decoder.on_device([head], [head.emissions(x)], MASK, mesh, decoder.tables)

    return decoder.on_host(jax.device_get(run(head, x))[0])


@pytest.fixture(scope="module")
def ctc():
    head = head_kind("ctc")(HeadsConfig(), 8, 5, rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(0, 3, (4, 20, 8)).astype(np.float32)
    return head, jnp.asarray(np.where(MASK[..., None], x, np.nan))


@pytest.mark.parametrize("decoder", [Greedy(), Beam(beam=4, candidates=4)])
def test_labels_are_the_decoders_and_times_and_peaks_those_of_the_likeliest_path(decoder, ctc):
    head, x = ctc
    found = search(Timed(decoder, 3), head, x)
    assert [one.labels.tolist() for one in found] == [row.tolist() for row in search(decoder, head, x)]
    assert len(found[0].labels) > 3 and not len(found[3].labels)
    for row, one in enumerate(found):
        log_probs = log_softmax(np.asarray(head.emissions(x))[row, : LENGTHS[row]])
        assert one.alternatives[0].labels.tolist() == one.labels.tolist()
        if not len(one.labels):
            expected = log_probs[:, 0].sum() if len(log_probs) else 0.0
        else:
            path, expected = viterbi(log_probs, one.labels)
            for n, label in enumerate(one.labels):
                at = np.flatnonzero(np.asarray(path) == n)
                assert (one.starts[n], one.ends[n]) == (at[0], at[-1] + 1)
                assert one.peaks[n] == pytest.approx(np.exp(log_probs[at, label].max()), rel=1e-4)
        if isinstance(decoder, Greedy):
            assert len(one.alternatives) == 1
            # What the frames emit by themselves is their likeliest path.
            assert one.alternatives[0].score == pytest.approx(log_probs.max(axis=1).sum() if len(log_probs) else 0.0)
            assert one.alternatives[0].score == pytest.approx(expected, rel=1e-4, abs=1e-5)
        else:
            ranked = [other.score for other in one.alternatives]
            assert ranked == sorted(ranked, reverse=True)
            assert len({tuple(other.labels) for other in one.alternatives}) == len(ranked)
            every = head.beam(head.emissions(x), MASK, None, beam=4, candidates=4, best=3)
            there = [score for score in np.asarray(every.scores)[row] if np.isfinite(score)]
            assert ranked == pytest.approx(there) and len(there) <= 3
            # The sum over alignments is no less than the likeliest one.
            assert ranked[0] >= expected - 1e-4
    assert len(search(Timed(Beam(4, 4), 3), head, x)[0].alternatives) == 3


def test_hypotheses_of_one_text_leave_room_for_others(ctc):
    """Label 1 is a space here: what differs by it alone is one text, and the list is as long as it was asked for."""
    head, x = ctc

    def text(labels):
        return " ".join("".join(" abcd"[label - 1] for label in labels).split())

    every = search(Timed(Beam(8, 4), 8), head, x)
    found = search(Timed(Beam(8, 4), 3, text), head, x)
    folded = 0
    for one, whole in zip(found, every):
        best = {}
        for other in whole.alternatives:
            best.setdefault(text(other.labels), other.score)
        assert [text(other.labels) for other in one.alternatives] == list(best)[:3]
        assert [other.score for other in one.alternatives] == pytest.approx(list(best.values())[:3])
        folded += len(best) < len(whole.alternatives)
        assert one.labels.tolist() == whole.labels.tolist()
    assert folded, "no two hypotheses have one text, so this test shows nothing"


def test_a_head_of_another_kind_says_when_its_labels_come():
    """A transducer emits labels in single frames, as its own `label_spans` says; nothing else changes."""

    class TimedToy(ToyHead):
        def label_spans(self, emissions, mask, labels, label_lengths):
            emitted = self.greedy(emissions, mask)[..., 0]
            frames = close_up(jnp.broadcast_to(jnp.arange(emitted.shape[1]), emitted.shape), emitted > 0)
            there = jnp.arange(labels.shape[1]) < label_lengths[:, None]
            starts = jnp.where(there, frames, 0)
            sure = jnp.where(there, 0.25, 0.0)
            return LabelSpans(starts, starts + there, sure, sure, -1.0 * label_lengths, label_lengths >= 0)

    with registered():
        head = TimedToy(HeadsConfig(), 4, 3, rngs=nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(1).normal(0, 2, (4, 20, 4)).astype(np.float32))
    emitted = np.asarray(head.greedy(head.emissions(x), MASK))[..., 0]
    for row, one in enumerate(search(Timed(Greedy()), head, x)):
        at = np.flatnonzero(emitted[row])
        assert (one.labels.tolist(), one.starts.tolist()) == (emitted[row][at].tolist(), at.tolist())
        assert one.ends.tolist() == (at + 1).tolist() and set(one.peaks.tolist()) <= {0.25}
        assert one.alternatives[0].score == -len(at)


def test_pieces_are_joined_to_the_best_of_all_choices():
    rng = np.random.default_rng(0)

    def piece(count):
        scores = np.sort(rng.normal(size=count))[::-1]
        kept = tuple(Alternative(rng.integers(1, 9, 2).astype(np.int32), float(score)) for score in scores)
        return TimedLabels(kept[0].labels, np.array([0, 2]), np.array([1, 5]), np.array([0.5, 0.25]), kept)

    pieces = [(0, piece(4)), (10, piece(4)), (31, piece(2))]
    found = Timed(Beam(4), 4).join(pieces)
    every = [
        (sum(one.score for one in chosen), np.concatenate([one.labels for one in chosen]).tolist())
        for chosen in itertools.product(*(own.alternatives for _, own in pieces))
    ]
    every.sort(key=lambda pair: -pair[0])
    assert [one.labels.tolist() for one in found.alternatives] == [labels for _, labels in every[:4]]
    assert [one.score for one in found.alternatives] == pytest.approx([score for score, _ in every[:4]])
    assert found.labels.tolist() == every[0][1]
    assert found.starts.tolist() == [0, 2, 10, 12, 31, 33] and found.ends.tolist() == [1, 5, 11, 15, 32, 36]
    assert found.peaks.tolist() == [0.5, 0.25] * 3
    nothing = Timed(Greedy()).join([])
    assert len(nothing.labels) == len(nothing.starts) == 0 and len(nothing.alternatives) == 1


def test_labels_that_several_choices_of_pieces_spell_are_listed_once():
    """Either of two pieces may hold the space between them, for instance."""

    def piece(*alternatives):
        kept = tuple(Alternative(np.array(labels, np.int32), score) for labels, score in alternatives)
        times = np.arange(len(kept[0].labels))
        return TimedLabels(kept[0].labels, times, times + 1, np.ones(len(times), np.float32), kept)

    pieces = [
        (0, piece(([3], -1.0), ([3, 2], -1.25), ([4], -3.0))),
        (9, piece(([2, 5], -1.0), ([5], -1.25), ([6], -4.0))),
    ]
    found = Timed(Beam(4), 4).join(pieces)
    assert found.labels.tolist() == [3, 2, 5]
    kept = [(one.labels.tolist(), one.score) for one in found.alternatives]
    assert kept == [([3, 2, 5], -2.0), ([3, 5], -2.25), ([3, 2, 2, 5], -2.25), ([4, 2, 5], -4.0)]
    # Label 2 is the space.
    texts = Timed(Beam(4), 4, lambda labels: " ".join("".join("01 3456"[one] for one in labels).split()))
    kept = [(one.labels.tolist(), one.score) for one in texts.join(pieces).alternatives]
    assert kept == [([3, 2, 5], -2.0), ([3, 5], -2.25), ([4, 2, 5], -4.0), ([4, 5], -4.25)]


def test_a_space_at_a_seam_is_a_hypothesis_of_its_own():
    """Label 1 is the space: the first piece may end with it, the second may begin with it, and texts drop neither."""

    def text(labels):
        return " ".join("".join(" abcd"[label - 1] for label in labels).split())

    timed = Timed(Beam(8, 4), 3, text)

    def piece(*ranked):
        """Return what is made of hypotheses with scores that a search has found in a piece."""
        labels = np.zeros((1, len(ranked), 4), np.int32)
        for n, (own, _) in enumerate(ranked):
            labels[0, n, : len(own)] = own
        lengths = np.array([[len(own) for own, _ in ranked]])
        scores = np.array([[score for _, score in ranked]], np.float32)
        return timed.on_host((labels, lengths, scores, *np.zeros((3, 1, 4), int)), whole=False)[0]

    found = timed.join([(0, piece(([2], -1), ([2, 1], -2), ([1, 2], -3))), (9, piece(([3], -1), ([4], -4)))])
    assert [(text(one.labels), one.score) for one in found.alternatives] == [("ab", -2), ("a b", -3), ("ac", -5)]
