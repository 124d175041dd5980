"""A neural language model in the beam search gives the n-best list of all alignments, and rescores it correctly."""

from __future__ import annotations

import itertools

import jax
import numpy as np
import pytest

from joint_st.config import LmModelConfig
from joint_st.data.tokenizers import Characters
from joint_st.decoding.fusion import Fusion, Weights
from joint_st.decoding.fusion.build import check_labels
from joint_st.decoding.fusion.hot_words import HotWords
from joint_st.decoding.fusion.neural_lm import NeuralLM
from joint_st.decoding.fusion.word_lm import WordLM
from joint_st.decoding.rescoring import Rescoring, RescoringWeights
from joint_st.errors import UserError
from joint_st.lm.estimate import estimate
from joint_st.models.language_model import init_lm, merge_lm
from joint_st.ops.prefix_beam import prefix_beam_search
from tests.decoding.fusion.reference import of_hot_words, of_tokens
from tests.decoding.fusion.test_fusion import HOT, LETTERS, WORDS, assert_equal_to_exhaustive, text_of
from tests.ops.test_prefix_beam import prefixes


@pytest.fixture(scope="module")
def neural() -> NeuralLM:
    config = LmModelConfig(width=6, layers=2)
    weights = jax.tree.map(lambda x: 1.7 * x, init_lm(config, len(LETTERS), 0))
    return NeuralLM(weights, config, len(LETTERS))


@pytest.fixture(scope="module")
def log_probs(neural) -> dict[tuple[int, ...], float]:
    """Log probabilities of all label sequences of up to 5 labels, their ends included, by the whole-sequence form."""
    texts = [text for n in range(6) for text in itertools.product(range(1, len(LETTERS)), repeat=n)]
    padded = np.array([[*text, *[0] * (5 - len(text))] for text in texts])
    lengths = np.array([len(text) for text in texts])
    of_texts = jax.jit(lambda weights: merge_lm(neural.config, len(LETTERS), weights).log_prob(padded, lengths))
    return dict(zip(texts, np.asarray(of_texts(neural.weights)).tolist(), strict=True))


def of_labels(log_probs, labels, weights) -> float:
    unknown = sum(label == 1 for label in labels)
    return weights[0] * (log_probs[labels] - weights[2] * unknown) + weights[1] * len(labels)


def test_fused_search_is_exhaustive_search(neural, log_probs):
    weights = Weights(0.6, 0.8, 3.0, 1.5)
    fusion = Fusion(neural, HotWords.of(HOT, LETTERS), weights)

    def score(labels):
        return of_labels(log_probs, labels, weights) + of_hot_words(HOT, text_of(labels, LETTERS), 1.5)

    assert_equal_to_exhaustive(fusion, score, LETTERS)


@pytest.mark.parametrize("kind", ["neural", "word"])
def test_rescored_order_is_that_of_the_scores_added_up_by_hand(neural, log_probs, kind):
    weights = RescoringWeights(0.9, 1.1, 4.0)
    model = estimate(WORDS, 2)
    lm = neural if kind == "neural" else WordLM.of(model, LETTERS)
    logits = np.random.default_rng(1).normal(0, 1.5, (3, 5, len(LETTERS))).astype(np.float32)
    found = prefix_beam_search(logits, np.array([5, 3, 0]), beam=12, candidates=9)
    rescored = jax.jit(Rescoring.rescore)(Rescoring(lm, weights), found)

    def score(labels):
        if kind == "neural":
            return of_labels(log_probs, labels, weights)
        return of_tokens(model, text_of(labels, LETTERS).split(), *weights)

    for row in range(3):
        before = prefixes(found, row)
        expected = sorted(((labels, old + score(labels)) for labels, old in before), key=lambda pair: -pair[1])
        after = prefixes(rescored, row)
        assert [labels for labels, _ in after] == [labels for labels, _ in expected]
        np.testing.assert_allclose([s for _, s in after], [s for _, s in expected], rtol=1e-4, atol=1e-4)
    assert prefixes(found, 0) != prefixes(rescored, 0)


def test_labels_of_another_tokenizer(tmp_path):
    check_labels(tmp_path, Characters("abc "), Characters("abc "))
    with pytest.raises(UserError, match=r"over the labels of another tokenizer \(5 labels, and the run has 6\)"):
        check_labels(tmp_path, Characters("abc"), Characters("abc "))
    with pytest.raises(UserError, match=r"\(label 4 is 'd', and the run's is 'c'\); train it with --data.tokenizer"):
        check_labels(tmp_path, Characters("abd"), Characters("abc"))
