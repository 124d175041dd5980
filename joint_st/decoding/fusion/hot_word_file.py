"""Files of hot words: a word or a phrase a line; with ` :W` after it, it counts for W bonuses instead of one."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

from joint_st import storage
from joint_st.data.normalizers import Normalizer
from joint_st.distributed.peers import current
from joint_st.errors import UserError

MOST_WEIGHT = 100.0
"""Most bonuses that a phrase may count for."""
NAMED = 10
"""Number of left-out lines that are named; all are counted."""


def read_hot_words(path: Path, normalizer: Normalizer) -> dict[str, float]:
    """Return the normalised phrases of a file, and how many bonuses each counts for (the largest number of a repeated
    phrase).

    Names on stderr the lines that are empty once normalised. Raises `UserError` where there is no such file, where it
    is not text or has no word, and for an invalid weight.
    """
    if why := storage.why_no_file(path):
        raise UserError(f"{path}: {why}")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{path}: not text in UTF-8") from None
    phrases: dict[str, float] = {}
    empty = []
    for number, line in enumerate(lines, 1):
        written, weight = _split(line, f"{path}:{number}")
        phrase = normalizer(written)
        if phrase:
            phrases[phrase] = max(weight, phrases.get(phrase, 0.0))
        elif line.strip():
            empty.append(f"{path}:{number}: {line.strip()!r}")
    why = f"the normaliser {normalizer} leaves nothing of"
    if not phrases:
        raise UserError(f"{path}: holds no word" + (f"; {why} {empty[0]}" if empty else ""))
    if current().is_first:
        for place in empty[:NAMED]:
            print(f"{place} is left out: {why} it", file=sys.stderr)
        if len(empty) > NAMED:
            print(f"{path}: {len(empty)} lines in all are left out", file=sys.stderr)
    return phrases


def _split(line: str, place: str) -> tuple[str, float]:
    """Return a line without its weight, and the weight; 1 where it has none."""
    found = re.fullmatch(r"(.*\S)\s+:(\S+)\s*", line)
    if not found:
        return line, 1.0
    try:
        weight = float(found[2])
    except ValueError:
        weight = math.nan
    if not 0 < weight <= MOST_WEIGHT:
        raise UserError(f"{place}: the weight :{found[2]} is no number above 0 and up to {MOST_WEIGHT:g}")
    return found[1], weight
