"""Text normalisers, each with a name and a version that is stored in a run.

A change in what a normaliser returns takes a new version: WERs of two versions do not compare.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from joint_st.errors import UserError

SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
LARGE = ((10**9, "billion"), (10**6, "million"), (10**3, "thousand"), (100, "hundred"))


@dataclass(frozen=True)
class Normalizer:
    """A function of text that leaves what it returned unchanged when applied again."""

    name: str
    version: int
    apply: Callable[[str], str]

    def __call__(self, text: str) -> str:
        return self.apply(text)

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"


def normalizer(name: str) -> Normalizer:
    """The normaliser of that name; raises `UserError` naming the nearest."""
    if name not in NORMALIZERS:
        near = difflib.get_close_matches(name, NORMALIZERS, n=1, cutoff=0)[0]
        raise UserError(f"data.normalizer: no normaliser {name!r}, perhaps {near!r}; there is {', '.join(NORMALIZERS)}")
    return NORMALIZERS[name]


def none(text: str) -> str:
    """White space collapsed to single spaces, nothing else."""
    return " ".join(text.split())


def basic(text: str) -> str:
    """NFKC, lower case, no punctuation but apostrophes inside words; any script."""
    text = text.translate(_APOSTROPHES)
    # Twice NFKC: lower case can leave a letter and a mark that compose.
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    text = text.translate(_BARE)
    text = re.sub("''+", " ", text)
    text = re.sub(r"(?<![^ ])'|'(?![^ ])", "", text)
    return none(text)


def english(text: str) -> str:
    """`basic`, then only a-z, apostrophes and spaces.

    Accents are dropped (`café`, `cafe`). Whole numbers become cardinals (`1984` and `1,984`, `one thousand
    nine hundred eighty four`), or digits one by one with a leading zero or from 10^12 on. Other scripts
    disappear.
    """
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    text = unicodedata.normalize("NFKD", basic(text)).translate(_LATIN)
    text = re.sub(r"\d+", lambda match: f" {spell(match[0])} ", text, flags=re.ASCII)
    return basic(re.sub("[^a-z' ]", "", text))


def spell(digits: str) -> str:
    """ASCII digits as a cardinal without `and`; one by one with a leading zero or from 10^12 on."""
    if len(digits) > 12 or (digits[0] == "0" and digits != "0"):
        return " ".join(SMALL[int(digit)] for digit in digits)
    return cardinal(int(digits))


def cardinal(number: int) -> str:
    """A number below 10^12 in words."""
    for size, name in LARGE:
        if number >= size:
            rest = f" {cardinal(number % size)}" if number % size else ""
            return f"{cardinal(number // size)} {name}{rest}"
    if number >= 20:
        return TENS[number // 10] + (f" {SMALL[number % 10]}" if number % 10 else "")
    return SMALL[number]


class _Bare(dict):
    """Characters to what `basic` makes of them, filled in as they come up."""

    def __missing__(self, code: int) -> int | None:
        kind = unicodedata.category(chr(code))
        if chr(code) == "'" or kind[0] in "LMN":
            kept = code
        elif kind == "Cf":  # soft hyphens and joiners sit inside words
            kept = None
        else:
            kept = ord(" ")
        self[code] = kept
        return kept


_BARE = _Bare()
_APOSTROPHES = dict.fromkeys(map(ord, "’ʼ‘`´＇"), "'")
_LATIN = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ħ": "h", "ı": "i"}
)

NORMALIZERS = {
    "none": Normalizer("none", 1, none),
    "basic": Normalizer("basic", 1, basic),
    "english": Normalizer("english", 1, english),
}
