"""Modified Kneser-Ney, against its formulas counted out one probability at a time, and as KenLM reads it."""

from __future__ import annotations

import random

import pytest

from joint_st.errors import UserError
from joint_st.lm.arpa import write_arpa
from joint_st.lm.estimate import FALLBACK, estimate


def made_up(sentences: int, words: int = 40) -> list[list[str]]:
    """Return sentences whose words have frequencies as in a language, and depend on the word before."""
    rng = random.Random(0)
    vocabulary = [f"w{i}" for i in range(words)]
    weights = [1 / (i + 1) for i in range(words)]
    made = []
    for _ in range(sentences):
        sentence = []
        for _ in range(rng.randint(1, 6)):
            again = sentence and rng.random() < 0.4
            sentence.append(
                vocabulary[(int(sentence[-1][1:]) * 7 + 1) % words] if again else rng.choices(vocabulary, weights)[0]
            )
        made.append(sentence)
    return made


class Formulas:
    """p(w | h) straight from the definitions; every count is a walk over all sentences."""

    def __init__(self, sentences, order):
        self.lines = [("<s>", *sentence, "</s>") for sentence in sentences]
        self.order = order
        self.words = sorted({word for line in self.lines for word in line[1:]})
        self.grams = [
            [line[i : i + n] for line in self.lines for i in range(len(line) - n + 1)] for n in range(1, order + 2)
        ]
        self.counts, self.discounts = {}, {}
        for n in range(1, order + 1):
            of_order = {gram: self.count(gram) for gram in set(self.grams[n - 1]) if gram != ("<s>",)}
            self.counts[n] = of_order
            t = [sum(count == k for count in of_order.values()) for k in range(5)]
            self.discounts[n] = FALLBACK
            if t[1] and t[2] and t[3]:
                y = t[1] / (t[1] + 2 * t[2])
                found = [k - (k + 1) * y * t[k + 1] / t[k] for k in (1, 2, 3)]
                if all(0 < d < k for k, d in zip((1, 2, 3), found)):
                    self.discounts[n] = tuple(found)

    def count(self, gram):
        if len(gram) == self.order or gram[0] == "<s>":
            return self.grams[len(gram) - 1].count(gram)
        return len({longer[0] for longer in self.grams[len(gram)] if longer[1:] == gram})

    def probability(self, word, context):
        after = {gram[-1]: c for gram, c in self.counts[len(context) + 1].items() if gram[:-1] == context}
        lower = self.probability(word, context[1:]) if context else 1 / (len(self.words) + 1)
        if not after:
            return lower
        d1, d2, d3 = self.discounts[len(context) + 1]
        total, count = sum(after.values()), after.get(word, 0)
        kinds = list(after.values())
        freed = d1 * kinds.count(1) + d2 * kinds.count(2) + d3 * sum(c >= 3 for c in kinds)
        own = max(count - (0, d1, d2, d3)[min(count, 3)], 0)
        return own / total + freed / total * lower


@pytest.fixture(scope="module", params=[(1, 60), (2, 60), (3, 250)])
def estimated(request):
    order, sentences = request.param
    texts = made_up(sentences)
    return texts, order, estimate(texts, order)


def contexts_of(texts, order):
    lines = [("<s>", *text, "</s>") for text in texts]
    found = {line[i : i + n] for line in lines[:25] for n in range(order) for i in range(len(line) - n)}
    return sorted(found - {("</s>",)})[:40] + [("w1",) * (order - 1)]


def test_every_probability_is_the_formulas(estimated):
    texts, order, model = estimated
    formulas = Formulas(texts, order)
    for context in contexts_of(texts, order):
        for word in ("w0", "w3", "w11", "</s>", "<unk>"):
            assert 10 ** model.log10_prob(word, context) == pytest.approx(formulas.probability(word, context), rel=1e-9)


def test_discounts_of_some_orders_come_from_the_counts(estimated):
    texts, order, _ = estimated
    if order == 3:
        found = Formulas(texts, order).discounts
        assert any(discounts != FALLBACK for discounts in found.values())


def test_probabilities_after_each_context_sum_to_one(estimated):
    texts, order, model = estimated
    for context in contexts_of(texts, order):
        words = [*model.tokens, "</s>", "<unk>"]
        assert sum(10 ** model.log10_prob(word, context) for word in words) == pytest.approx(1, abs=1e-9)


def test_kenlm_scores_sentences_alike(estimated, tmp_path):
    kenlm = pytest.importorskip("kenlm")
    texts, order, model = estimated
    if order == 1:
        pytest.skip("KenLM reads no models of order 1")
    write_arpa(model, tmp_path / "lm.arpa")
    other = kenlm.Model(str(tmp_path / "lm.arpa"))
    for text in [*texts[:20], ["w3", "never", "w0"], []]:
        assert model.sentence(text) == pytest.approx(other.score(" ".join(text)), abs=1e-4)


@pytest.mark.parametrize("texts, message", [([], "no text"), ([["a", "<s>"]], "hold '<s>'"), ([["</s>"]], "'</s>'")])
def test_what_cannot_be_estimated(texts, message):
    with pytest.raises(UserError, match=message):
        estimate(texts, 2)
