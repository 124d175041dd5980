"""Scripts that put no space between words: what stands between two spaces is then a sentence, and no word."""

from __future__ import annotations

import re
from collections.abc import Iterable

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
