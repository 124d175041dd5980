"""Text normalisers, each with a name and a version that is stored in a run.

A change in what a normaliser returns needs a new version, because WERs of two versions are not comparable. Earlier
versions stay, for the runs that were trained with them.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from joint_st.config import newest_normalizer
from joint_st.data.languages import bcp_47
from joint_st.data.normalizers import earlier, newest
from joint_st.errors import UserError


@dataclass(frozen=True)
class Normalizer:
    """A function of text that changes nothing when it is applied to its own result."""

    name: str
    version: int
    apply: Callable[[str], str]

    def __call__(self, text: str) -> str:
        return self.apply(text)

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"


NORMALIZERS = {
    str(one): one
    for one in (
        Normalizer("none", 1, newest.none),
        Normalizer("basic", 2, newest.basic),
        Normalizer("english", 2, newest.english),
        Normalizer("basic", 1, earlier.basic_1),
        Normalizer("english", 1, earlier.english_1),
    )
}
"""All versions of all normalisers by name and version."""


def misfit(name: str, languages: Iterable[str]) -> str:
    """Return a remark where `english` is to normalise texts of other languages, whose numbers and letters it would change;
    empty where it is not.

    name: of the normaliser, with or without its version. languages: those of the training data, as their sources state
    them.
    """
    if name.partition(" ")[0] != "english":
        return ""
    stated = set(map(bcp_47, languages))
    if not (others := sorted(tag for tag in stated if tag and tag.partition("-")[0] != "en")):
        return ""
    return (
        f"data.normalizer: `english` spells numbers in English and keeps no letters but a to z, and the data are also in "
        f"{', '.join(others)}; take `basic`"
    )


def normalizer(name: str) -> Normalizer:
    """Return the normaliser of a name and version, `english v1`, or the newest version of a name, `english`.

    Raises `UserError` that names the nearest where there is none.
    """
    if found := NORMALIZERS.get(newest_normalizer(name)):
        return found
    names = list(dict.fromkeys(one.name for one in NORMALIZERS.values()))
    there = sorted(NORMALIZERS) if name.partition(" ")[0] in names else names
    near = difflib.get_close_matches(name, there, n=1, cutoff=0)[0]
    raise UserError(f"data.normalizer: no normaliser {name!r}, perhaps {near!r}; there is {', '.join(there)}")
