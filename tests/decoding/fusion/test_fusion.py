"""The n-best list of a fused search is that of all alignments, scored by plain Python."""

from __future__ import annotations

import numpy as np
import pytest

from joint_st.decoding.fusion import Fusion, Weights
from joint_st.decoding.fusion.hot_words import HotWords
from joint_st.decoding.fusion.label_lm import LabelLM
from joint_st.decoding.fusion.word_lm import WordLM
from joint_st.errors import UserError
from joint_st.lm.estimate import estimate
from joint_st.ops.prefix_beam import prefix_beam_search
from tests.decoding.fusion.reference import of_hot_words, of_tokens, pruned
from tests.ops.prefix_beam_reference import every_alignment
from tests.ops.test_prefix_beam import assert_same, prefixes

LETTERS = ["", "\u2047", "a", "b", " "]
PIECES = ["", "\u2047", " a", "b", " ab"]
WORDS = [text.split() for text in ("ab a", "b ab ab", "abb a b", "a", "ab b a", "ba ab", "zz ab")]
HOT = ["ab", "b a", "abb"]


def text_of(labels, spellings):
    return "".join(spellings[label] for label in labels)


@pytest.mark.parametrize("spellings", [LETTERS, PIECES])
def test_words_and_hot_words(spellings):
    weights = Weights(0.7, 1.3, 4.0, 1.5)
    model = pruned(estimate(WORDS, 3), 0.3)
    fusion = Fusion(WordLM.of(model, spellings), HotWords.of(HOT, spellings), weights)

    def score(labels):
        text = text_of(labels, spellings)
        return of_tokens(model, text.split(), *weights[:3]) + of_hot_words(HOT, text, 1.5)

    assert_equal_to_exhaustive(fusion, score, spellings)


def test_labels():
    weights = Weights(0.6, 0.8, 3.0)
    symbols = ["", "<unk>", "a", "b", "\u2581"]
    texts = ["\u2581".join(words) for words in WORDS]
    model = estimate(map(list, texts), 4)
    fusion = Fusion(LabelLM.of(model, symbols), None, weights)

    def score(labels):
        return of_tokens(model, [symbols[label] for label in labels], *weights[:3])

    assert_equal_to_exhaustive(fusion, score, LETTERS)


def assert_equal_to_exhaustive(fusion, score, spellings):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (3, 5, len(spellings))).astype(np.float32)
    lengths = np.array([5, 4, 0])
    found = prefix_beam_search(logits, lengths, fusion, beam=1100, candidates=9)
    for row, length in enumerate(lengths):
        scored = [(labels, p + score(labels)) for labels, p in every_alignment(logits[row, :length]).items()]
        assert_same(prefixes(found, row), sorted(scored, key=lambda item: -item[1]), tolerance=1e-4)


def test_a_hot_word_counts_while_it_is_spelled_and_is_taken_back():
    hot = HotWords.of(["bab", "a b"], LETTERS)

    def scores(text):
        """Return the scores after each letter, and at the end."""
        state, total, found = int(hot.first), 0.0, []
        for letter in text:
            label = LETTERS.index(letter)
            total += float(hot.gains[state, label])
            state = int(hot.after[state, label])
            found.append(total)
        return [*found, total + float(hot.ends[state])]

    def approx(expected):
        return pytest.approx(expected, abs=1e-6)

    assert scores("bab") == approx([1 / 3, 2 / 3, 1, 1])
    assert scores("baa") == approx([1 / 3, 2 / 3, 0, 0])
    assert scores("babb") == approx([1 / 3, 2 / 3, 1, 0, 0])
    # Within a word none begins; after a phrase that failed, another may go on.
    assert scores("abab ") == approx([1 / 3, 0, 0, 0, 0, 0])
    assert scores("a bab") == approx([1 / 3, 2 / 3, 1, 2 / 3, 1, 1])
    # Spaces that are not written change nothing.
    assert scores("a  b ") == approx([1 / 3, 2 / 3, 2 / 3, 1, 1, 1])
    assert scores(" bab  a  b") == approx([0, 1 / 3, 2 / 3, 1, 1, 1, 4 / 3, 5 / 3, 5 / 3, 2, 2])
    assert scores("a b bab") == approx([1 / 3, 2 / 3, 1, 1, 4 / 3, 5 / 3, 2, 2])


def test_a_hot_phrase_counts_for_its_weight():
    """This includes phrases that begin with, end with and overlap each other."""
    weights = {"ab": 2.0, "abb": 0.5, "b": 1.5, "b ab": 3.0}
    hot = HotWords.of([*weights, "a b"], LETTERS, weights)
    rng = np.random.default_rng(0)
    for _ in range(200):
        labels = rng.integers(2, 5, rng.integers(0, 9))
        state, total = int(hot.first), 0.0
        for label in labels:
            total += float(hot.gains[state, label])
            state = int(hot.after[state, label])
        text = text_of(labels, LETTERS)
        expected = sum(of_hot_words([phrase], text, weights.get(phrase, 1.0)) for phrase in (*weights, "a b"))
        assert total + float(hot.ends[state]) == pytest.approx(expected, abs=1e-5)


def test_hot_words_pull_the_beam_along():
    """Pruned to one prefix after each frame, the search keeps the hot word's prefix although others are likelier."""
    logits = np.zeros((1, 5, 5), np.float32)
    logits[0, [0, 1, 2, 3, 4], [3, 0, 2, 0, 3]] = 4
    logits[0, [0, 2, 4], [2, 3, 2]] = 4.3
    fusion = Fusion(None, HotWords.of(["bab"], LETTERS), Weights(hot_word_bonus=6.0))
    lengths = np.array([5])
    assert prefixes(prefix_beam_search(logits, lengths, beam=1, candidates=2), 0)[0][0] == (2, 3, 2)
    assert prefixes(prefix_beam_search(logits, lengths, fusion, beam=1, candidates=2), 0)[0][0] == (3, 2, 3)


def test_what_does_not_fit_the_labels(monkeypatch):
    model = estimate([["AB"]], 2)
    with pytest.raises(UserError, match="1 of its 1 words, such as 'AB', cannot be spelled by the run's tokenizer"):
        WordLM.of(model, LETTERS)
    with pytest.raises(UserError, match="has the piece 'a b'"):
        WordLM.of(estimate(WORDS, 2), ["", "\u2047", "a b"])
    with pytest.raises(UserError, match="'abc' cannot be spelled"):
        HotWords.of(["a", "abc"], LETTERS)
    with pytest.raises(UserError, match="'a b' cannot be spelled"):
        HotWords.of(["ab", "a b"], LETTERS[:-1])
    HotWords.of(["ab"], LETTERS[:-1])
    monkeypatch.setattr("joint_st.decoding.fusion.hot_words.MOST", 10)
    with pytest.raises(UserError, match="2 hot words need a table of 25 cells; at most 10"):
        HotWords.of(["ab", "b"], LETTERS)
