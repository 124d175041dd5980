"""The open vocabulary: names of people and of places, and which of them are heard.

The names are in three files beside this module, one lower-case word a line. A hash of the name decides, once
and for all, whether it may occur in training audio (`heard`) or only in text (`only_read`).
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
    only_read: dict[str, tuple[str, ...]]


def is_heard(name: str) -> bool:
    """Whether a name may occur in training audio; true of half of them."""
    return hashlib.sha256(name.encode()).digest()[0] % 2 == 0


@functools.cache
def names() -> Names:
    """All names."""
    heard, only_read = {}, {}
    for kind in KINDS:
        text = resources.files(__package__).joinpath(FILES[kind]).read_text(encoding="utf-8")
        words = sorted(text.split())
        heard[kind] = tuple(word for word in words if is_heard(word))
        only_read[kind] = tuple(word for word in words if not is_heard(word))
    return Names(heard, only_read)
