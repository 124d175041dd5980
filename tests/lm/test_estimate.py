"""Modified Kneser-Ney, against its formulas counted out one probability at a time, and as KenLM reads it."""

from __future__ import annotations

import json
import math
import random

import jax
import jax.numpy as jnp
import pytest

from joint_st.cli import main
from joint_st.config import Config, DataConfig, ManifestSource, TokenizerConfig, save
from joint_st.data.normalizers import normalizer
from joint_st.data.tokenizers import UNKNOWN, Characters
from joint_st.decoding.fusion.build import open_lm
from joint_st.errors import UserError
from joint_st.lm.arpa import read_arpa, write_arpa
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


def test_what_labels_cannot_spell_is_counted_like_a_label():
    model = estimate([["a", "<unk>"], ["a"]], 1, of_labels=True)
    # Of 5 tokens, with discounts 0.5 and 1; what they free is shared among three tokens.
    expected = {"a": (2 - 1) / 5 + 0.5 / 3, "<unk>": (1 - 0.5) / 5 + 0.5 / 3, "</s>": (2 - 1) / 5 + 0.5 / 3}
    assert {token: 10 ** model.log10_prob(token, []) for token in expected} == pytest.approx(expected)
    model = estimate([["a", "<unk>", "b"], ["a", "<unk>", "c"], ["b"]], 3, of_labels=True)
    for context in (["<s>"], ["a"], ["a", "<unk>"], ["<unk>", "b"]):
        assert sum(10 ** model.log10_prob(token, context) for token in (*"abc", "</s>", "<unk>")) == pytest.approx(1)
    assert 10 ** model.log10_prob("<unk>", ["a"]) > 0.5


def test_texts_with_characters_that_a_run_cannot_spell_are_counted(tmp_path, caplog):
    texts = ["ab a", "a \u5f35b\u5f35", "b \u5eab", "b a"]
    lines = [json.dumps({"audio_filepath": f"{n}.wav", "duration": 1, "text": text}) for n, text in enumerate(texts)]
    (tmp_path / "train.jsonl").write_text("\n".join(lines) + "\n")
    Characters(" ab").save(tmp_path / "tokenizer")
    data = DataConfig(
        train=(ManifestSource(path=str(tmp_path / "train.jsonl")),),
        tokenizer=TokenizerConfig(path=str(tmp_path / "tokenizer")),
        normalizer="basic",
    )
    save(Config(data=data), tmp_path / "config.json")
    out = tmp_path / "lm.arpa"
    command = ["data", "ngram", str(tmp_path / "config.json"), "--level", "label", "--order", "2", "--out", str(out)]
    assert main(command) == 0
    assert caplog.messages == [
        "2 of 4 texts hold characters that the tokenizer cannot spell, and which are <unk> in the model: "
        "'\u5f35' 2, '\u5eab' 1"
    ]
    model = read_arpa(out)
    assert ("<unk>", "b") in model.ngrams[1] and sorted(model.tokens) == ["a", "b", "\u2581"]
    lm = jax.tree.map(jnp.asarray, open_lm(out, Characters(" ab"), normalizer("basic"))[0])
    _, after = lm.lengthen(lm.start()[None], jnp.array([UNKNOWN]), 1.0, 0.0, 0.0)
    score, _ = lm.lengthen(after[:, 0], jnp.array([3]), 1.0, 0.0, 0.0)
    assert float(score[0, 0]) == pytest.approx(math.log(10) * model.log10_prob("a", ["<unk>"]), rel=1e-4)
