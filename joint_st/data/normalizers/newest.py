"""The newest version of each normaliser. If a normaliser's results change, it gets a new version, and the old one moves
to `joint_st.data.normalizers.earlier`.
"""

from __future__ import annotations

import re
import unicodedata

from joint_st.data.normalizers.numbers import fraction, spell


def none(text: str) -> str:
    """Collapse white space to single spaces, and nothing else."""
    return " ".join(text.split())


def basic(text: str) -> str:
    """Apply NFKC, lower the case, and drop punctuation except apostrophes inside words; any script.

    Fractions, exponents and numbers in circles are separated from digits (`3½` becomes `3 1 2`). Zero-width spaces
    separate words, as they do in Khmer. Soft hyphens, joiners, variation selectors and enclosing marks disappear, and
    so does a combining mark that stands on no letter or number.
    """
    text = _APART.sub(" ", text.translate(_BEFORE))
    # The small letter of the Turkish İ is i, without a second dot. Twice NFKC: lower case can leave a letter and a mark
    # that compose.
    text = unicodedata.normalize("NFKC", text).replace("\u0130", "i").lower()
    text = unicodedata.normalize("NFKC", text).translate(_AFTER)
    text = _BARE_MARKS.sub("", text)
    text = re.sub("''+", " ", text)
    text = re.sub(r"(?<![^ ])'|'(?![^ ])", "", text)
    return none(text)


def english(text: str) -> str:
    """Apply `basic`, then keep only a-z, apostrophes and spaces.

    Accents are dropped (`café`, `cafe`). Whole numbers become cardinals (`1984` and `1,984`, `one thousand nine hundred
    eighty four`), or digits one by one with a leading zero or from 10^12 on; a fraction that is one character is said
    (`3½`, `three and a half`). Other scripts disappear.
    """
    text = _FRACTION.sub(_say_fraction, text)
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    text = unicodedata.normalize("NFKD", basic(text)).translate(_LATIN)
    text = re.sub(r"\d+", lambda match: f" {spell(match[0])} ", text, flags=re.ASCII)
    return basic(re.sub("[^a-z' ]", "", text))


def _say_fraction(found: re.Match) -> str:
    whole, written = found.groups()
    upper, _, lower = unicodedata.normalize("NFKC", written).partition("\u2044")
    return f"{whole or ''} {fraction(int(upper), int(lower), after_whole=bool(whole))} "


class _Before(dict):
    """Maps characters to what `basic` makes of them before NFKC; filled as they occur."""

    def __missing__(self, code: int) -> int | None:
        character = chr(code)
        if character in _APOSTROPHES:
            before: int | None = ord("'")
        elif character in _SPACES:
            before = ord(" ")
        elif character in _UNSEEN or unicodedata.category(character) in ("Cf", "Me"):
            before = None
        else:
            before = code
        self[code] = before
        return before


class _After(dict):
    """Maps characters to what `basic` makes of them after NFKC; filled as they occur."""

    def __missing__(self, code: int) -> int | None:
        after = _BEFORE[code]
        if after is not None and after != ord("'") and unicodedata.category(chr(after))[0] not in "LMN":
            after = ord(" ")
        self[code] = after
        return after


_APOSTROPHES = "'’ʼ‘`´＇"
_SPACES = "\u200b\u3164\uffa0™℠"
"""Characters that become spaces: the zero-width space, Hangul fillers, and signs that NFKC would attach to a name as
letters."""
_UNSEEN = {*map(chr, (0x034F, *range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))}
"""Invisible marks: the grapheme joiner and variation selectors."""
_BEFORE, _AFTER = _Before(), _After()

# Everything that is not a letter, a number, an apostrophe or a space at this point is a mark.
_BARE_MARKS = re.compile(r"(?<![^ '])[^\w ']+")


def _places_apart() -> re.Pattern:
    """Yield the places where a number that NFKC writes as digits (exponent, fraction, circled) touches another
    number."""
    raised, lowered, first, last = "", "", "", ""
    # Up to the Chinese characters of the first plane, and digits with a full stop or a comma.
    for character in map(chr, (*range(0xB0, 0x3400), *range(0x1F100, 0x1F10B))):
        kind = unicodedata.decomposition(character).partition(">")[0]
        written = unicodedata.normalize("NFKC", character)
        if kind in ("<super", "<sub") and written.isdecimal():
            raised += character * (kind == "<super")
            lowered += character * (kind == "<sub")
        elif kind in ("<fraction", "<circle", "<compat", "<square"):
            first += character * written[0].isdecimal()
            last += character * written[-1].isdecimal()
    return re.compile(
        rf"(?<=[\d{lowered}{last}])(?=[{raised}])|(?<=[\d{raised}{last}])(?=[{lowered}])|"
        rf"(?<=[\d{raised}{lowered}{last}])(?=[{first}])|(?<=[{raised}{lowered}{last}])(?=\d)"
    )


_APART = _places_apart()
_FRACTION = re.compile(r"(\d\s?)?([¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞])")
_LATIN = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ħ": "h", "ı": "i"}
)
