import pytest
from hypothesis import given
from hypothesis import strategies as st

from joint_st.data.normalizers import NORMALIZERS, normalizer, spell
from joint_st.errors import UserError


@pytest.mark.parametrize(
    "text, expected",
    [
        ("  Hello,   World!  ", "hello world"),
        ("Don’t 'quote' rock'n'roll dogs'", "don't quote rock'n'roll dogs"),
        ("well-known co\u00adoperate", "well known cooperate"),
        ("ﬁne ＡＢＣ", "fine abc"),
        ("क्या पहनने वाली हो?", "क्या पहनने वाली हो"),
        ("中共高级领导人。", "中共高级领导人"),
        ("Über ÉTÉ 3 €", "über été 3"),
        ("''", ""),
    ],
)
def test_basic(text, expected):
    assert normalizer("basic")(text) == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Café Zoë, naïve Łódź Straße Ærø", "cafe zoe naive lodz strasse aero"),
        ("It's 21 of 1,984", "it's twenty one of one thousand nine hundred eighty four"),
        ("(or 007)", "or zero zero seven"),
        ("B2B", "b two b"),
        ("привет", ""),
        ("Author of the danger trail, Philip Steels, etc.", "author of the danger trail philip steels etc"),
    ],
)
def test_english(text, expected):
    assert normalizer("english")(text) == expected


def test_none_only_collapses_white_space():
    assert normalizer("none")(" A,\tb\n C ") == "A, b C"


@pytest.mark.parametrize(
    "digits, words",
    [
        ("0", "zero"),
        ("13", "thirteen"),
        ("20", "twenty"),
        ("99", "ninety nine"),
        ("100", "one hundred"),
        ("110", "one hundred ten"),
        ("1000000", "one million"),
        ("345000012", "three hundred forty five million twelve"),
        ("45678901", "forty five million six hundred seventy eight thousand nine hundred one"),
        ("12000000000", "twelve billion"),
        ("1" * 13, " ".join(["one"] * 13)),
        ("05", "zero five"),
    ],
)
def test_numbers_are_spelt(digits, words):
    assert spell(digits) == words


@given(st.text(), st.sampled_from(sorted(NORMALIZERS)))
def test_a_second_pass_changes_nothing(text, name):
    once = normalizer(name)(text)
    assert normalizer(name)(once) == once
    assert once == " ".join(once.split())


@given(st.text())
def test_english_leaves_only_its_characters(text):
    assert set(normalizer("english")(text)) <= set("abcdefghijklmnopqrstuvwxyz' ")


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UserError, match="'englsh', perhaps 'english'; there is none, basic, english"):
        normalizer("englsh")


def test_names_and_versions_are_what_runs_have_stored():
    assert {str(one) for one in NORMALIZERS.values()} == {"none v1", "basic v1", "english v1"}
