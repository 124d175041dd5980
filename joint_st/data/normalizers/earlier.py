"""Earlier versions of the normalisers, for older runs. What they return never changes.

Version 1 is not idempotent on some texts, keeps words that consist of a mark alone, and writes `3½` as `31 2`.
"""

from __future__ import annotations

import re
import unicodedata

from joint_st.data.normalizers.newest import none
from joint_st.data.normalizers.numbers import spell


def basic_1(text: str) -> str:
    """Apply NFKC, lower the case, and drop punctuation except apostrophes inside words; any script."""
    text = text.translate(_APOSTROPHES)
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    text = text.translate(_KEPT)
    text = re.sub("''+", " ", text)
    text = re.sub(r"(?<![^ ])'|'(?![^ ])", "", text)
    return none(text)


def english_1(text: str) -> str:
    """Apply `basic_1`, then keep only a-z, apostrophes and spaces; whole numbers become words."""
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    text = unicodedata.normalize("NFKD", basic_1(text)).translate(_LATIN)
    text = re.sub(r"\d+", lambda match: f" {spell(match[0])} ", text, flags=re.ASCII)
    return basic_1(re.sub("[^a-z' ]", "", text))


class _Kept(dict):
    """Maps characters to what `basic_1` makes of them; filled as they occur."""

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


_KEPT = _Kept()
_APOSTROPHES = dict.fromkeys(map(ord, "’ʼ‘`´＇"), "'")
_LATIN = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ħ": "h", "ı": "i"}
)
