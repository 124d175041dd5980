"""The language model: its layers, its step form, and that its probabilities sum to one."""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from joint_st.config import LmModelConfig
from joint_st.models.language_model import EDGE, LanguageModel, init_lm, lm_shapes, merge_lm
from joint_st.models.lstm import LstmLayer
from tests.models.contract import check_layer, whole_form

VOCABULARY = 4


@functools.cache
def make(**changes):
    """Return a model whose weights are far from initial ones, which give about the same probability to all labels."""
    config = LmModelConfig(**{"width": 6, "layers": 2} | changes)
    weights = jax.jit(lambda: jax.tree.map(lambda x: 1.7 * x, init_lm(config, VOCABULARY, 0)))()
    return merge_lm(config, VOCABULARY, weights)


# Compiled whole: operation by operation they would be dozens of programs for each shape.
next_log_probs = jax.jit(LanguageModel.next_log_probs)
log_prob = jax.jit(LanguageModel.log_prob)
step = jax.jit(LanguageModel.step)


def test_layer_contract():
    check_layer(LstmLayer(8, dropout=0.1, rngs=nnx.Rngs(0)), 8)


def test_layer_is_an_lstm_as_numpy_writes_it():
    layer = LstmLayer(5, dropout=0.0, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7, 5)).astype(np.float32)
    matrices = [np.asarray(w[...]) for w in (layer.inputs.kernel, layer.inputs.bias, layer.recurrent.kernel)]
    matrices[1] = rng.normal(size=matrices[1].shape)
    layer.inputs.bias[...] = jnp.asarray(matrices[1])
    h = c = np.zeros(5)
    expected = []
    for frame in x:
        normed = (frame - frame.mean()) / np.sqrt(frame.var() + 1e-6)
        i, f, g, o = np.split(normed @ matrices[0] + matrices[1] + h @ matrices[2], 4)
        c = c / (1 + np.exp(-f - 1)) + np.tanh(g) / (1 + np.exp(-i))
        h = np.tanh(c) / (1 + np.exp(-o))
        expected.append(frame + h)
    np.testing.assert_allclose(whole_form(layer, x[None], np.ones((1, 7), bool))[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tied", [False, True])
def test_step_form_is_the_whole_form_and_padding_changes_nothing(tied):
    model = make(tied=tied)
    labels, lengths = np.array([[1, 3, 2, 2, 1], [2, 1, 3, 3, 3]]), np.array([5, 2])
    whole = np.asarray(next_log_probs(model, labels, lengths))
    state, given, stepped = model.init_state(2), np.full(2, EDGE), []
    for column in [*labels.T, None]:
        log_probs, state = step(model, given, state)
        stepped.append(log_probs)
        given = column
    np.testing.assert_allclose(np.stack(stepped, axis=1)[0], whole[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.stack(stepped, axis=1)[1, :3], whole[1, :3], rtol=1e-5, atol=1e-5)
    assert np.ptp(whole[0, :, 1]) > 0.1, "what came before matters"
    # The sequence's own: labels one after the other, then the end.
    total = sum(whole[1, i, label] for i, label in enumerate([2, 1, EDGE]))
    found = log_prob(model, labels, lengths)
    np.testing.assert_allclose(found[1], total, rtol=1e-5)
    np.testing.assert_allclose(log_prob(model, labels[1:, :2], lengths[1:]), found[1:], rtol=1e-5)
    np.testing.assert_allclose(log_prob(model, np.full((1, 3), 7), np.array([0]))[0], whole[0, 0, EDGE], rtol=1e-5)


def test_probabilities_of_all_texts_up_to_a_length_and_of_what_goes_on_are_1():
    model = make()
    longest = 4
    texts = [text for n in range(longest + 1) for text in itertools.product(range(1, VOCABULARY), repeat=n)]
    lengths = np.array([len(text) for text in texts])
    padded = np.array([[*text, *[EDGE] * (longest - len(text))] for text in texts])
    of_texts = np.asarray(log_prob(model, padded, lengths), np.float64)
    mass = np.exp(of_texts).sum()
    # Of the longest, what is not the end goes on.
    of_longest = lengths == longest
    ends = np.asarray(next_log_probs(model, padded, lengths), np.float64)[of_longest, -1, EDGE]
    going_on = np.exp(of_texts[of_longest] - ends) * -np.expm1(ends)
    assert 0.01 < going_on.sum() < 0.99
    assert mass + going_on.sum() == pytest.approx(1, abs=1e-5)


def test_sizes_and_dropout():
    shapes = lm_shapes(LmModelConfig(width=6, layers=3), VOCABULARY)
    assert shapes["lstm"]["layers"]["recurrent"]["kernel"].shape == (3, 6, 24)
    assert shapes["label_head"]["linear"]["kernel"].shape == (6, VOCABULARY)
    assert "label_head" not in lm_shapes(LmModelConfig(width=6, tied=True), VOCABULARY)
    labels, lengths = np.array([[1, 2, 3]]), np.array([3])
    for rate in (0.0, 0.5):
        model = make(dropout=rate)
        first, again, other = (float(log_prob(model, labels, lengths, k)[0]) for k in map(jax.random.key, (0, 0, 1)))
        assert first == again and (first != other) == bool(rate)
    assert isinstance(model, LanguageModel)
