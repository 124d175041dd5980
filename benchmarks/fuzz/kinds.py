"""All kinds of files that are read."""

from __future__ import annotations

import importlib.util

from benchmarks.fuzz import audio, runs, texts
from benchmarks.fuzz.kind import Kind

_ALL = (*audio.KINDS, *texts.KINDS, *runs.KINDS)

KINDS = tuple(kind for kind in _ALL if all(map(importlib.util.find_spec, kind.readers)))
"""All kinds whose readers there are, in the order in which they are tried."""


def kind(name: str) -> Kind:
    """Return the kind of a name."""
    return next(one for one in KINDS if one.name == name)
