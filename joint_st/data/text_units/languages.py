"""From a BCP 47 tag to a voice of espeak-ng."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import NamedTuple

from joint_st.errors import UserError

OTHER_NAMES = {"zh-hk": "yue", "zh-mo": "yue", "nn": "nb", "iw": "he"}
"""Tags that espeak-ng does not know, and the nearest it does: Hong Kong and Macao speak Cantonese."""


class Voice(NamedTuple):
    """A voice, and the tags of the languages it speaks with their priorities, the lower the better."""

    identifier: str
    languages: tuple[tuple[int, str], ...]


def find_voice(tag: str, default: str, voices: Sequence[Voice]) -> str:
    """The identifier of the voice for a tag (`en`, `de-AT`, `zh-CN`); an empty tag means `default`.

    A tag without a region takes the default's, if that is of the same language. Otherwise the tag's last parts are
    dropped until a voice has it (RFC 4647, 3.4). Raises `UserError` where none has.
    """
    wanted = canonical(tag) or canonical(default)
    if canonical(default).split("-")[0] == wanted:
        wanted = canonical(default)
    parts = wanted.split("-")
    while parts:
        name = "-".join(parts)
        name = OTHER_NAMES.get(name, name)
        having = [
            (priority, len(voice.identifier), voice.identifier)
            for voice in voices
            for priority, language in voice.languages
            if language == name
        ]
        if having:
            return min(having)[2]
        parts.pop()
    known = sorted({language for voice in voices for _, language in voice.languages})
    near = ", ".join(difflib.get_close_matches(wanted, known, n=3, cutoff=0))
    where = "a language of the data" if tag else "data.units.language"
    raise UserError(
        f"{where}: espeak-ng has no language {tag or default!r}, perhaps {near}; correct the tag, or set "
        "data.units.kind to characters"
    )


def canonical(tag: str) -> str:
    """Lower case, hyphens between the parts."""
    return tag.strip().replace("_", "-").lower()
