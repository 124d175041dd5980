"""ARPA files: scores by hand, and as KenLM gives them; what is refused."""

from __future__ import annotations

import gzip
import math

import pytest

from joint_st.errors import UserError
from joint_st.lm import arpa
from joint_st.lm.arpa import read_arpa, write_arpa

TEXT = """made by hand

\\data\\
ngram 1=5
ngram 2=3
ngram 3=1

\\1-grams:
-1.0\t<unk>
-99\t<s>\t-0.5
-0.75\t</s>
-0.5 a -0.25
-1.5\tb\t-0.125

\\2-grams:
-0.25\t<s> a\t-0.0625
-0.375\ta b
-2\ta a

\\3-grams:
-0.1\t<s> a b

\\end\\
"""


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "lm.arpa"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize(
    "token, before, expected",
    [
        ("b", ["<s>", "a"], -0.1),
        ("a", ["<s>", "a"], -0.0625 - 2),
        ("b", ["a", "a"], -0.375),
        ("b", ["b", "b"], -0.125 - 1.5),
        ("</s>", ["<s>", "a"], -0.0625 - 0.25 - 0.75),
        ("never", ["a"], -0.25 - 1),
        ("a", ["never"], -0.5),
        ("b", [], -1.5),
    ],
)
def test_the_longest_ngram_counts_and_each_back_off(written, token, before, expected):
    assert read_arpa(written).log10_prob(token, before) == pytest.approx(expected)


def test_a_sentence_is_its_tokens_and_its_end(written):
    assert read_arpa(written).sentence(["a", "b"]) == pytest.approx(-0.25 - 0.1 - 0.125 - 0.75)


def test_back_off_weights_of_the_highest_order_mean_nothing(written, tmp_path):
    """A file that was cut from a larger model still has them."""
    cut = tmp_path / "cut.arpa"
    cut.write_text(TEXT.replace("<s> a b\n", "<s> a b\t-0.7\n"))
    assert cut.read_text() != TEXT and read_arpa(cut) == read_arpa(written)


@pytest.mark.parametrize("name", ["out.arpa", "out.arpa.gz"])
def test_what_is_written_is_read(written, tmp_path, name):
    model = read_arpa(written)
    write_arpa(model, tmp_path / "new" / name)
    assert read_arpa(tmp_path / "new" / name) == model
    assert name.endswith(".gz") == ((tmp_path / "new" / name).read_bytes()[:2] == gzip.compress(b"")[:2])


def test_what_cannot_be_written_leaves_nothing(written, tmp_path):
    (tmp_path / "taken.arpa").mkdir()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OSError, match="taken.arpa'$") as caught:
        write_arpa(read_arpa(written), tmp_path / "taken.arpa")
    assert caught.value.filename == str(tmp_path / "taken.arpa") and sorted(tmp_path.iterdir()) == before


def test_a_model_without_the_unknown_token_gets_an_impossible_one(written):
    written.write_text(TEXT.replace("-1.0\t<unk>\n", "").replace("1=5", "1=4"))
    assert read_arpa(written).log10_prob("never", []) == -99


@pytest.mark.parametrize(
    "before, after, message",
    [
        ("\\end\\", "", "lacks \\end\\"),
        ("ngram 2=3", "ngram 2=4", "announces n-grams"),
        ("ngram 2=3", "ngram 2=2", "has more 2-grams than the 2 that it announces"),
        ("-2\ta a", "-2\ta", "line 18 is not of an ARPA file: '-2\\ta'"),
        ("-2\ta a", "two\ta a", "line 18"),
        ("-0.25\t<s> a", "-0.25\t<s> b", "has '<s> a b', but not '<s> a'"),
        ("-0.1\t<s> a b", "-0.1\t<s> a c", "has '<s> a c', but not 'c'"),
        ("</s>", "</S>", "has no </s>"),
        (
            "-0.375\ta b",
            "nan\ta b",
            "line 17: a log10 probability of nan, which must be at most 0: 'nan\\ta b'; estimate",
        ),
        ("-0.375\ta b", "0.375\ta b", "line 17: a log10 probability of 0.375, which must be at most 0"),
        ("-0.375\ta b", "inf\ta b", "line 17: a log10 probability of inf"),
        ("-0.0625", "nan", "line 16: a log10 back-off weight of nan, which must be at most 99"),
        ("-0.0625", "inf", "line 16: a log10 back-off weight of inf"),
        ("-0.0625", "1e30", "line 16: a log10 back-off weight of 1e+30"),
        ("-0.0625", "-0_1", "line 16 is not of an ARPA file"),
    ],
)
def test_broken_files(written, before, after, message):
    written.write_text(TEXT.replace(before, after))
    with pytest.raises(UserError) as caught:
        read_arpa(written)
    assert message in str(caught.value) and str(written) in str(caught.value)


def test_ngrams_that_repeat_one_are_counted_and_the_first_counts(written, caplog):
    """Lower-casing a file can cause that; KenLM reads it in the same way."""
    again = TEXT.replace("-2\ta a", "-2\ta a\n-1\ta b\n-3\ta b").replace("-1.5\tb", "-1.5\tb\t-0.125\n-0.1\tb")
    written.write_text(again.replace("ngram 1=5", "ngram 1=6").replace("ngram 2=3", "ngram 2=5"))
    model = read_arpa(written)
    assert model.repeated == 3
    assert model.log10_prob("b", ["a"]) == pytest.approx(-0.375) and model.log10_prob("b", []) == pytest.approx(-1.5)
    written.write_text(TEXT)
    assert read_arpa(written) == model and read_arpa(written).repeated == 0
    [message] = [record.getMessage() for record in caplog.records]
    assert message == f"{written}: 3 n-grams, such as 'b', repeat an earlier one, which counts"
    # What a file announces is still the number of its lines.
    written.write_text(again.replace("ngram 1=5", "ngram 1=6"))
    with pytest.raises(UserError, match="is it cut short"):
        read_arpa(written)


def test_a_probability_of_minus_infinity_is_one_of_0(written):
    written.write_text(TEXT.replace("-0.375\ta b", "-inf\ta b"))
    assert read_arpa(written).log10_prob("b", ["a"]) == -99


def test_what_is_no_arpa_file(written, monkeypatch):
    with pytest.raises(UserError, match="no such file"):
        read_arpa(written.with_name("none.arpa"))
    written.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="no ARPA file"):
        read_arpa(written)
    written.write_text(TEXT)
    monkeypatch.setattr(arpa, "MOST", 8)
    with pytest.raises(UserError, match="9 n-grams, at most 8 are read; prune it"):
        read_arpa(written)


def test_kenlm_gives_the_same(written):
    kenlm = pytest.importorskip("kenlm")
    # What comes before the counts, and spaces for tabs, KenLM does not take.
    written.write_text(TEXT.removeprefix("made by hand\n\n").replace("-0.5 a -0.25", "-0.5\ta\t-0.25"))
    model, other = read_arpa(written), kenlm.Model(str(written))
    for sentence in ("", "a", "a b", "a a b", "b never a", "never never"):
        assert model.sentence(sentence.split()) == pytest.approx(other.score(sentence), abs=1e-5)
        assert math.isfinite(model.sentence(sentence.split()))
