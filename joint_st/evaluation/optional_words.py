"""Words of references that need not be recognised, and marks in references that are none of the words said.

In the formats of NIST (trn, CTM, STM), a word in parentheses, such as `(uh)` or `(%HESITATION)`, is optionally deletable:
it is no error to leave it out (the manual of sclite, "Transcript Format"; sclite obeys it with `-D`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

FORMATS = ("trn", "ctm", "stm")
"""Formats in which parentheses have this meaning."""

_OPTIONAL = re.compile(r"(?<!\S)\(([^()\s]+)\)(?!\S)")

_MARK = re.compile(r"<[^<>\s]+>|\{[^{}]+\}|\[[^\[\]]+\]")


def count_optional(text: str) -> int:
    """Return how many words of a text are in parentheses."""
    return len(_OPTIONAL.findall(text))


def without_unheard(reference: str, hypothesis: str, normalize: Callable[[str], str]) -> str:
    """Return a reference, normalised, without the optional words that the hypothesis leaves out.

    Those are dropped without which the errors in words are fewest and, of several such choices, the one with the fewest
    dropped. hypothesis: normalised. What stands between optional words is normalised by itself.
    """
    words, optional = [], []
    for place, piece in enumerate(_OPTIONAL.split(reference)):
        own = normalize(piece).split()
        words += own
        optional += [place % 2 == 1] * len(own)
    return " ".join(word for word, kept in zip(words, _kept(words, optional, hypothesis.split())) if kept)


def _kept(words: Sequence[str], optional: Sequence[bool], heard: Sequence[str]) -> list[bool]:
    """Return for each of N reference words whether it is kept, given M words of the hypothesis.

    The alignment of least cost: an insertion, a deletion or a substitution costs N + 1, and an optional word that is
    dropped costs 1.
    """
    error = len(words) + 1
    numbers = {word: number for number, word in enumerate(dict.fromkeys(heard))}
    spoken = np.array([numbers[word] for word in heard], np.int64)
    inserted = np.arange(len(heard) + 1) * error
    costs, dropping, aligning = inserted, [], []
    for word, may_drop in zip(words, optional):
        dropped = costs + (1 if may_drop else error)
        aligned = np.full_like(costs, np.iinfo(costs.dtype).max)
        aligned[1:] = costs[:-1] + error * (spoken != numbers.get(word, -1))
        best = np.minimum(dropped, aligned)
        costs = np.minimum.accumulate(best - inserted) + inserted
        dropping.append(costs == dropped)
        aligning.append(costs == aligned)
    kept, column = [True] * len(words), len(heard)
    for row in reversed(range(len(words))):
        while not (aligning[row][column] or dropping[row][column]):
            column -= 1  # an insertion
        if aligning[row][column]:
            column -= 1
        else:
            kept[row] = not optional[row]
    return kept


def marks(texts: Iterable[str], normalize: Callable[[str], str]) -> Counter[str]:
    """Return how often each mark, such as `<unk>`, `{NOISE}` or `[laughter]`, becomes a word of the normalised texts."""
    found = Counter(mark for text in texts for mark in _MARK.findall(text))
    return Counter({mark: count for mark, count in found.items() if normalize(mark)})
