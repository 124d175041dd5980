"""Registries of kinds: each kind of a thing is a file in one folder, and can be listed without being imported."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Kind = TypeVar("Kind")


class Kinds:
    """The kinds of a thing by name. The file `NAME.py` of a folder registers the kind `NAME` when it is imported.

    A kind that a test or a user's own file registers counts like those of the folder.
    """

    def __init__(self, package: str) -> None:
        self._package = package
        self._registered: dict[str, Any] = {}

    def register(self, name: str) -> Callable[[Kind], Kind]:
        """Return a decorator that makes what it decorates the kind `name`."""

        def add(kind: Kind) -> Kind:
            self._registered[name] = kind
            return kind

        return add

    def forget(self, name: str) -> None:
        """Remove a kind again; for tests."""
        del self._registered[name]

    def names(self) -> list[str]:
        """Return the names of all kinds in alphabetical order; imports none of them."""
        folder = Path(__file__).parent.joinpath(*self._package.split(".")[1:])
        files = {file.stem for file in folder.glob("*.py") if not file.stem.startswith("_")}
        return sorted(files | set(self._registered))

    def __getitem__(self, name: str) -> Any:
        """Return the kind `name`. Raises `ValueError` where there is none."""
        if name not in self._registered:
            if name not in self.names():
                raise ValueError(f"{name!r}: not one of {', '.join(self.names())}")
            importlib.import_module(f"{self._package}.{name}")
        return self._registered[name]


ALIGNMENTS = Kinds("joint_st.ops.matching.alignments")
"""How frames of speech are matched with frames of text; `joint_st.ops.matching.base` says what an alignment
declares."""
