"""The automaton of an n-gram model gives what walking the model gives."""

from __future__ import annotations

import dataclasses
import math

import jax
import numpy as np
import pytest

from joint_st.decoding.fusion.ngram import NGram
from joint_st.lm.estimate import estimate
from tests.decoding.fusion.reference import pruned
from tests.lm.test_estimate import made_up


def weighted(model):
    """The model with back-off weights for the n-grams of its highest order too, as where a larger one was cut."""
    highest = {ngram: entry._replace(log10_backoff=-0.3) for ngram, entry in model.ngrams[-1].items()}
    return dataclasses.replace(model, ngrams=(*model.ngrams[:-1], highest))


@pytest.mark.parametrize("order, share, cut", [(4, 0.0, False), (4, 0.5, False), (1, 0.0, False), (2, 0.0, True)])
def test_every_token_of_texts_known_and_not(order, share, cut):
    texts = made_up(60)
    model = pruned(estimate(texts[:50], order), share)
    if cut:
        model = weighted(model)
    ngram, ids = NGram.of(model)
    rng = np.random.default_rng(0)
    texts += [[f"w{i}" for i in rng.integers(0, 45, 8)] for _ in range(20)]
    length = max(map(len, texts)) + 1
    tokens = np.full((len(texts), length), ngram.end)
    for row, text in zip(tokens, texts):
        row[: len(text)] = [ids.get(token, ngram.unknown) for token in text]

    @jax.jit
    def walk(ngram, tokens):
        def step(states, column):
            log_probs, states = ngram.step(states, column)
            return states, log_probs

        return jax.lax.scan(step, np.full(tokens.shape[0], ngram.start), tokens.T)[1].T

    found = np.asarray(walk(ngram, tokens))
    for text, row in zip(texts, found):
        said = ["<s>", *text, "</s>"]
        expected = [math.log(10) * model.log10_prob(said[i], said[:i]) for i in range(1, len(said))]
        np.testing.assert_allclose(row[: len(expected)], expected, rtol=1e-5, atol=1e-5)
    if share:
        missing = [g for g in model.ngrams[2] if g[1:] not in model.ngrams[1]]
        assert missing, "a suffix that is not in the model is the hard case"


def test_contexts_that_say_nothing_are_no_states():
    texts = [list("ab"), list("ba")]
    model = estimate(texts, 3)
    ngram, _ = NGram.of(model)
    prefixes = {g[:-1] for of_order in model.ngrams for g in of_order}
    weighted = {g for of_order in model.ngrams for g, entry in of_order.items() if entry.log10_backoff}
    assert len(ngram.shorter) == len(prefixes | weighted)
    assert len(ngram.log_probs) == 1 + sum(map(len, model.ngrams))
