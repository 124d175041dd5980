import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joint_st.config.sections.data import NORMALIZERS as NEWEST
from joint_st.data.normalizers import NORMALIZERS, normalizer
from joint_st.data.normalizers.numbers import spell
from joint_st.errors import UserError

LETTERS_AND_NUMBERS, MARKS = "LN", "M"
ODD = [
    character
    for character in map(chr, range(sys.maxunicode + 1))
    if unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf", "Sk", "Lm", "No", "Nl")
]
"""Marks, characters that are not seen, spacing accents, modifiers, numbers that are no digits."""
ODD_TEXT = st.text(st.one_of(st.sampled_from(ODD), st.sampled_from("aZ19 '’ΣσİIéｶ각"), st.characters()), max_size=8)


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
        # A mark that stands on nothing is no word: emoji selectors, keycaps, spacing accents.
        ("hello \u2764\ufe0f world", "hello world"),
        ("press 1\ufe0f\u20e3 now", "press 1 now"),
        ("25\u02daC outside", "25 c outside"),
        # What sits unseen between a letter and its mark does not part them.
        ("e\u200d\u0301", "é"),
        ("n\u00ad\u0303o", "ño"),
        ("\u0130stanbul I\u0307zmir", "istanbul izmir"),
        (
            "\u1797\u17b6\u179f\u17b6\u200b\u1781\u17d2\u1798\u17c2\u179a",
            "\u1797\u17b6\u179f\u17b6 \u1781\u17d2\u1798\u17c2\u179a",
        ),
        # Numbers that NFKC writes in digits stay apart from their neighbours.
        ("3½ cups, ½ cup, 3⅐", "3 1 2 cups 1 2 cup 3 1 7"),
        ("10² 10¹² x²3 ①② H₂O １²", "10 2 10 12 x2 3 1 2 h2o 1 2"),
        ("google™ ﾊﾟ", "google パ"),
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
        ("3½ cups, 3 ¾, ½ cup, ⅔", "three and a half cups three and three quarters one half cup two thirds"),
        ("10² cells in 1984²", "ten two cells in one thousand nine hundred eighty four two"),
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


@given(st.one_of(st.text(), ODD_TEXT), st.sampled_from(sorted(NEWEST)))
def test_a_second_pass_changes_nothing(text, name):
    once = normalizer(name)(text)
    assert normalizer(name)(once) == once
    assert once == " ".join(once.split())


@given(st.one_of(st.text(), ODD_TEXT))
def test_every_mark_stands_on_a_letter_or_a_number(text):
    once = f" {normalizer('basic')(text)}"
    for before, character in zip(once, once[1:]):
        if unicodedata.category(character)[0] in MARKS:
            assert unicodedata.category(before)[0] in LETTERS_AND_NUMBERS + MARKS


@given(st.text())
def test_english_leaves_only_its_characters(text):
    assert set(normalizer("english")(text)) <= set("abcdefghijklmnopqrstuvwxyz' ")


def test_an_unknown_name_or_version_gets_the_nearest():
    with pytest.raises(UserError, match="'englsh', perhaps 'english'; there is none, basic, english"):
        normalizer("englsh")
    with pytest.raises(
        UserError, match="'english v9', perhaps 'english v[12]'; there is basic v1, basic v2, english v1"
    ):
        normalizer("english v9")


def test_names_and_versions_are_what_runs_have_stored():
    assert set(NORMALIZERS) == {"none v1", "basic v1", "english v1", "basic v2", "english v2"}
    assert all(str(one) == name for name, one in NORMALIZERS.items())
    for name, version in NEWEST.items():
        assert str(normalizer(name)) == f"{name} v{version}"
        assert version == max(one.version for one in NORMALIZERS.values() if one.name == name)


def test_version_1_is_as_it_was():
    """Older runs were trained and scored with it, including its mistakes."""
    odd = "3½ \u0130 ❤\ufe0f x\u200by Don’t"
    assert normalizer("basic v1")(odd) == "31 2 i\u0307 \ufe0f xy don't"
    assert normalizer("english v1")(odd) == "thirty one two i xy don't"
