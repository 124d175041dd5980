"""The open vocabulary: names of people and of places, and which of them occur in training audio.

The names are in three files in this folder, one lower-case word a line. A hash of the name decides whether it may occur
in training audio (`heard`) or only in text (`text_only`).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from importlib import resources

KINDS = ("first", "surname", "place")
FILES = {"first": "first_names.txt", "surname": "surnames.txt", "place": "places.txt"}


@dataclasses.dataclass(frozen=True)
class Names:
    """Names of each kind in `KINDS`, sorted."""

    heard: dict[str, tuple[str, ...]]
    text_only: dict[str, tuple[str, ...]]


def is_heard(name: str) -> bool:
    """Return whether a name may occur in training audio; true for half of them."""
    return digest(name)[0] % 2 == 0


def digest(name: str) -> bytes:
    """Return a hash of a name that is the same everywhere."""
    return hashlib.sha256(name.encode()).digest()


@functools.cache
def names(per_kind: int = 0) -> Names:
    """Return `per_kind` names of each kind, half of them heard, picked by their hash; all names where it is 0."""
    heard: dict[str, tuple[str, ...]] = {}
    text_only: dict[str, tuple[str, ...]] = {}
    for kind in KINDS:
        text = resources.files(__package__ or "").joinpath(FILES[kind]).read_text(encoding="utf-8")
        words = sorted(text.split(), key=digest)
        for sort, wanted in ((heard, True), (text_only, False)):
            picked = [word for word in words if is_heard(word) == wanted][: per_kind // 2 or None]
            sort[kind] = tuple(sorted(picked))
    return Names(heard, text_only)
