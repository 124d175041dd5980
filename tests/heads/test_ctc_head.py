"""CTC behind the interface of heads, against the functions that it wraps and against best paths by hand."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from joint_st.config import HeadsConfig, ParallelConfig
from joint_st.decoding.decoders import Beam, Greedy, emitted_labels
from joint_st.distributed.mesh import make_mesh
from joint_st.errors import UserError
from joint_st.heads import Head, head_kind, register_head
from joint_st.heads.base import HEADS
from joint_st.heads.ctc import collapse
from joint_st.ops.ctc import ctc_loss
from joint_st.ops.prefix_beam import prefix_beam_search

WIDTH, SYMBOLS = 8, 6
LENGTHS = np.array([30, 17, 1, 0])
MASK = np.arange(30) < LENGTHS[:, None]


@pytest.fixture(scope="module")
def head():
    return head_kind("ctc")(HeadsConfig(), WIDTH, SYMBOLS, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def x():
    """Embeddings [4, 30, D], NaN in the padding."""
    x = np.random.default_rng(0).normal(0, 3, (4, 30, WIDTH)).astype(np.float32)
    return jnp.asarray(np.where(MASK[..., None], x, np.nan))


def spelled(path):
    return [symbol for symbol, _ in itertools.groupby(path) if symbol]


def labels_of(emitted):
    return [emitted_labels(row)[0].tolist() for row in np.asarray(emitted)]


def test_emissions_are_the_logits(head, x):
    kernel, bias = head.linear.kernel[...], head.linear.bias[...]
    emissions = head.emissions(x)
    np.testing.assert_allclose(emissions[MASK], x[MASK] @ kernel + bias, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(head.emissions(x[:, 4:9]), emissions[:, 4:9])
    np.testing.assert_allclose(head.blank_scores(emissions)[MASK], jax.nn.log_softmax(emissions)[MASK][:, 0], atol=1e-6)


def test_the_loss_is_per_label_and_0_where_the_labels_do_not_fit(head, x):
    labels, lengths = jnp.array([[1, 2, 2], [3, 4, 0], [1, 1, 0], [1, 0, 0]]), jnp.array([3, 2, 2, 1])
    found = head.loss(x, jnp.asarray(MASK), labels, lengths, make_mesh(ParallelConfig()))
    expected, feasible = ctc_loss(head.emissions(x), LENGTHS, labels, lengths)
    assert feasible.tolist() == [True, True, False, False]
    np.testing.assert_allclose(found, expected / lengths, rtol=1e-6)
    weights = head.weights(lengths, jnp.array([4, 2, 3, 1]), LENGTHS, jnp.array([True, True, True, True]))
    assert weights.tolist() == [3, 2, 0, 0]


def test_greedy_is_the_best_path_collapsed(head, x):
    logits = np.asarray(head.emissions(x))
    expected = [spelled(row[:n].argmax(1)) for row, n in zip(logits, LENGTHS)]
    emitted = np.asarray(head.greedy(head.emissions(x), jnp.asarray(MASK)))
    assert emitted.shape == (4, 30, 1) and emitted.dtype == np.int32
    assert labels_of(emitted) == expected and sum(map(len, expected)) > 20
    for row, path in zip(emitted, logits.argmax(axis=2)):
        labels, frames = emitted_labels(row)
        np.testing.assert_array_equal(path[frames], labels)


@pytest.mark.parametrize("sizes", [[1] * 30, [7, 7, 7, 7, 2], [30]])
def test_steps_emit_what_the_whole_does(head, x, sizes):
    emissions, state, pieces = head.emissions(x), head.init_state(4), []
    for first, size in zip(itertools.accumulate([0, *sizes]), sizes):
        piece = slice(first, first + size)
        emitted, state = head.step(emissions[:, piece], jnp.asarray(MASK[:, piece]), state)
        pieces.append(emitted)
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), head.greedy(emissions, jnp.asarray(MASK)))


def test_collapses_repeats_then_drops_blanks():
    ids = jnp.array([[1, 1, 0, 1, 2, 2, 3], [0, 0, 3, 3, 0, 0, 3], [5, 5, 5, 5, 5, 5, 5], [0] * 7])
    emitted, last = collapse(ids, jnp.ones(ids.shape, bool), jnp.array([1, 0, 5, 2]))
    assert emitted.tolist() == [[0, 0, 0, 1, 2, 0, 3], [0, 0, 3, 0, 0, 0, 3], [0] * 7, [0] * 7]
    assert last.tolist() == [3, 3, 5, 0]


def test_reads_nothing_beyond_the_length():
    ids = jnp.array([[1, 2, 2, 9]] * 3)
    emitted, last = collapse(ids, jnp.arange(4) < jnp.array([0, 2, 3])[:, None], jnp.array([7, 0, 0]))
    assert emitted.tolist() == [[0, 0, 0, 0], [1, 2, 0, 0], [1, 2, 0, 0]] and last.tolist() == [7, 2, 2]


def test_shapes_of_size_zero():
    emitted, last = collapse(jnp.zeros((2, 0), jnp.int32), jnp.zeros((2, 0), bool), jnp.array([4, 0]))
    assert emitted.shape == (2, 0) and last.tolist() == [4, 0]
    assert collapse(jnp.zeros((0, 5), jnp.int32), jnp.zeros((0, 5), bool), jnp.zeros(0, jnp.int32))[0].shape == (0, 5)
    assert labels_of(np.zeros((2, 0, 1), np.int32)) == [[], []]


def test_the_beam_is_prefix_beam_search(head, x):
    emissions = head.emissions(x)
    found = head.beam(emissions, jnp.asarray(MASK), None, beam=4, candidates=3, best=2)
    expected = prefix_beam_search(emissions, LENGTHS, beam=4, candidates=3, best=2)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def apart():
    """The kind `ctc_apart`: CTC that does not tell that its emissions suffice."""

    @register_head("ctc_apart")
    class Apart(head_kind("ctc")):
        emissions_suffice = False

    yield
    HEADS.forget("ctc_apart")


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("decoder", [Greedy(), Beam(4, 3)])
def test_heads_are_searched_at_once_as_one_by_one(decoder, x):
    mesh = make_mesh(ParallelConfig())
    found = []
    for kind in ("ctc", "ctc_apart"):
        heads = [head_kind(kind)(HeadsConfig(), WIDTH, SYMBOLS, rngs=nnx.Rngs(seed)) for seed in (0, 1)]

        @jax.jit
        def decode(heads, x):
            emissions = [head.emissions(x) for head in heads]
            return decoder.on_device(heads, emissions, jnp.asarray(MASK), mesh, decoder.tables)

        found.append([decoder.on_host(one) for one in jax.device_get(decode(heads, x))])
    for one, other in zip(*found, strict=True):
        assert [row.tolist() for row in one] == [row.tolist() for row in other]
    assert found[0][0][0].tolist() != found[0][1][0].tolist()


def test_what_a_kind_lacks_is_one_line():
    class Bare(Head):
        kind = "bare"

    for method, said in (("beam", "no beam search"), ("label_spans", "no times and no probabilities")):
        arguments = [None] * (3 if method == "beam" else 4)
        sizes = {"beam": 1, "candidates": 1, "best": 1} if method == "beam" else {}
        with pytest.raises(UserError, match=f"heads.bare: .*{said}") as error:
            getattr(Head, method)(Bare, *arguments, **sizes)
        assert "\n" not in str(error.value)
