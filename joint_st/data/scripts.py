"""Scripts that put no space between words: what stands between two spaces is then a sentence, and no word."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from joint_st.data.tokenizers import UNKNOWN_MARK

_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf"  # Thai, Lao, Burmese, Khmer, Tai
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u302f\u3031-\u312f\u31a0-\u31ff"  # radicals, kana, Bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"  # Chinese characters
)
"""A letter of a script that puts no space between words."""


def mostly_unspaced(texts: Iterable[str]) -> bool:
    """Return whether most letters of all texts together are in scripts without spaces between words; False where there
    are no letters."""
    unspaced = letters = 0
    for text in texts:
        unspaced += len(_UNSPACED.findall(text))
        letters += len(text) - text.count(" ")
    return 2 * unspaced > letters


def written_with_space(word: str, after: str) -> bool:
    """Return whether a space between two words counts as a character: not next to a letter of a script without spaces,
    where some systems write one and others none."""
    return not (_UNSPACED.match(word[-1:]) or _UNSPACED.match(after[:1]))


class Token(NamedTuple):
    """A word, or a letter of a script without spaces: what has a time and a confidence of its own."""

    text: str
    joined: bool = False
    """Whether no space stands between it and the token before it."""


def tokens_of(text: str) -> list[Token]:
    """Return the words of a text, in which each letter of a script without spaces is a token of its own.

    Marks and punctuation belong to the letter before them, opening brackets and quotes to the one after them. A text
    without such letters has the tokens `text.split()`.
    """
    return [Token(text[start:end], start > 0 and not text[start - 1].isspace()) for start, end in token_bounds(text)]


def token_bounds(text: str) -> Iterator[tuple[int, int]]:
    """Yield where each of the `tokens_of` a text begins, and the position after its end."""
    first: int = -1
    within: _Kind | None = None
    for here, character in enumerate(text):
        if character.isspace():
            if first >= 0:
                yield first, here
            first, within = -1, None
            continue
        kind = _kind(character, text[here - 1 : here])
        if first < 0:
            first = here
        elif within and kind in _SPLITS[within]:
            yield first, here
            first, within = here, None
        within = kind if kind in _SPLITS else within
    if first >= 0:
        yield first, len(text)


_Kind = Literal["unspaced", "other", "unknown", "opening", "attached"]
"""A letter of a script without spaces, another letter, the mark of what a tokenizer cannot spell, an opening bracket or
quote, and what belongs to the letter before it."""

_SPLITS: dict[_Kind, tuple[_Kind, ...]] = {
    "unspaced": ("unspaced", "other", "unknown", "opening"),
    "other": ("unspaced",),
    "unknown": ("unspaced",),
}
"""The kinds of characters that begin a new token, by the kind of the last letter of the one before."""

_SUBJOINS = "\u1039\u17d2"
"""The signs of Burmese and Khmer that put the next letter below the one before."""
_VOWELS_AFTER = "\u0e33\u0eb3"
"""Vowels of Thai and Lao that Unicode calls letters, and that never stand alone."""


def _kind(character: str, before: str) -> _Kind:
    """Return the kind of a character that is no space. before: the character before it; empty for the first."""
    category = unicodedata.category(character)
    if category[0] in "MC" or character in _VOWELS_AFTER or (before and before in _SUBJOINS):
        return "attached"
    if _UNSPACED.match(character):
        return "unspaced"
    if character == UNKNOWN_MARK:
        return "unknown"
    if category in ("Ps", "Pi"):
        return "opening"
    return "attached" if category[0] in "PS" else "other"
