"""Words in parentheses in references of NIST's formats, which need not be recognised."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein

from joint_st.data.normalizers import normalizer
from joint_st.evaluation.bootstrap import paired_difference
from joint_st.evaluation.optional_words import marks, without_unheard
from tests.evaluation.test_scoring import jsonl, kaldi, run, trn

BASIC = normalizer("basic")


@pytest.mark.parametrize(
    "reference, heard, kept",
    [
        ("hello (uh) world", "hello world", "hello world"),
        ("hello (uh) world", "hello uh world", "hello uh world"),
        ("hello (uh) world", "hello um world", "hello uh world"),  # one error in any case
        ("a (uh) b", "a c", "a b"),  # one error, and not two
        ("(uh) a (uh)", "a uh", "a uh"),
        ("um (uh)", "uh", "um uh"),
        ("(Twenty-six) b", "six b", "six b"),
        ("(%HESITATION) a", "", "a"),
        ("(uh)", "", ""),
        ("(uh) (uh)", "uh", "uh"),
        ("(uh huh) a(b) (c", "", "uh huh a b c"),
    ],
)
def test_what_a_hypothesis_leaves_out_is_no_word_of_the_reference(reference, heard, kept):
    assert without_unheard(reference, heard, BASIC) == kept


def test_no_other_choice_of_words_has_fewer_errors():
    rng = np.random.default_rng(0)
    for _ in range(300):
        words, heard = (list(rng.choice(["a", "b", "c"], rng.integers(0, 7))) for _ in range(2))
        optional = rng.random(len(words)) < 0.5
        text = " ".join(f"({word})" if may else word for word, may in zip(words, optional))
        found = without_unheard(text, " ".join(heard), BASIC).split()
        choices = [
            [word for word, keep in zip(words, keeps) if keep]
            for keeps in itertools.product(*((True, False) if may else (True,) for may in optional))
        ]
        best = min((Levenshtein.distance(one, heard), -len(one)) for one in choices)
        assert found in choices and (Levenshtein.distance(found, heard), -len(found)) == best


def counts(row):
    return [row[name] for name in ("words", "insertions", "deletions", "substitutions")]


def test_optional_words_count_where_they_are_heard(tmp_path, capsys):
    said = {"u1": "hello (uh) world", "u2": "(um) yes (%HESITATION) no"}
    heard = [{"u1": "hello world", "u2": "um yes"}, {"u1": "hello uh word", "u2": "yes hesitation no"}]
    ref = trn(tmp_path / "ref.trn", said)
    files = [trn(tmp_path / f"{n}.trn", one) for n, one in enumerate(heard)]
    found = run(ref, *files, tmp_path=tmp_path)
    assert [counts(row) for row in found["systems"]] == [[5, 0, 1, 0], [6, 0, 0, 1]]
    [pair] = found["differences"]
    assert pair["difference"] == pytest.approx(1 / 5 - 1 / 6)
    assert "3 words of the references are in parentheses" in " ".join(capsys.readouterr().out.split())
    ctm = tmp_path / "ref.ctm"
    ctm.write_text("u1 1 0 1 hello\nu1 1 1 1 (uh)\nu1 1 2 1 world\nu2 1 0 1 yes\nu2 1 1 1 no\n")
    assert counts(run(ctm, files[0], tmp_path=tmp_path)["systems"][0]) == [4, 1, 1, 0], "um; no"
    stm, hyp = tmp_path / "ref.stm", tmp_path / "hyp.ctm"
    stm.write_text("rec 1 spk 0 5 <o,f0,m> hello (uh) world\n")
    for words, expected in (("hello world", [2, 0, 0, 0]), ("hello uh", [3, 0, 1, 0])):
        hyp.write_text("".join(f"rec 1 {n} 1 {word}\n" for n, word in enumerate(words.split())))
        assert counts(run(stm, hyp, tmp_path=tmp_path)["systems"][0]) == expected
    # Elsewhere parentheses are punctuation.
    for write, options in ((jsonl, ()), (kaldi, ("--ref-format", "kaldi"))):
        reference = write(tmp_path / "ref", said)
        options = options or ("--ref-format", "jsonl")
        assert counts(run(reference, files[0], *options, tmp_path=tmp_path)["systems"][0]) == [7, 0, 3, 0]


def test_marks_that_count_as_words_are_told(tmp_path, capsys):
    ref = trn(tmp_path / "ref.trn", {"u1": "<unk> hello {NOISE} [laughter]", "u2": "[laughter] a < b <…>"})
    [row] = run(ref, trn(tmp_path / "hyp.trn", {"u1": "hello", "u2": "a b"}), tmp_path=tmp_path)["systems"]
    assert counts(row) == [7, 0, 4, 0]
    told = f"{ref}: marks that count as words to be recognised: [laughter] 2, <unk> 1, {{NOISE}} 1\n"
    assert capsys.readouterr().err == told
    assert not marks(["a [b", "x<y", "[…]"], BASIC)


def test_a_difference_of_rates_whose_words_depend_on_the_system():
    """The interval is that of the difference of the two rates in each resample."""
    rng = np.random.default_rng(1)
    words_a, words_b = rng.integers(3, 9, 200), rng.integers(3, 9, 200)
    a, b = rng.binomial(words_a, 0.3), rng.binomial(words_b, 0.1)
    found = paired_difference(a, b, words_a, 5000, denominators_b=words_b)
    assert found.difference == pytest.approx(a.sum() / words_a.sum() - b.sum() / words_b.sum())
    drawn = rng.integers(0, 200, (5000, 200))
    gaps = a[drawn].sum(1) / words_a[drawn].sum(1) - b[drawn].sum(1) / words_b[drawn].sum(1)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(gaps, (0.025, 0.975))), abs=0.005)
    assert found.verdict == "b_lower"
    assert paired_difference(a, b, words_a, denominators_b=words_a) == paired_difference(a, b, words_a)
    assert paired_difference(a, b, words_a, denominators_b=0 * words_b) is None
