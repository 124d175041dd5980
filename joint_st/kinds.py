"""Registries of kinds: each kind of a thing is a file in one folder, and can be listed without being imported."""

from __future__ import annotations

import functools
import importlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from joint_st.errors import UserError

Kind = TypeVar("Kind")


class Registry(dict[str, Any]):
    """Classes and functions by name. Each name is given once; a file of the user's that is run again replaces what it
    registered before."""

    def __init__(self) -> None:
        super().__init__()
        self._files: dict[str, str] = {}

    def add(self, name: str, thing: Any, path: str = "") -> None:
        """Add a class or a function. Raises `ValueError` that calls it `path`, or by its name, where another one has the
        name."""
        module = sys.modules.get(getattr(thing, "__module__", ""))
        file = os.path.realpath(getattr(module, "__file__", None) or "") if module else ""
        if name in self:
            before, place = self[name], self._files.get(name, "")
            # A file of the user's is another module each time that it is run.
            if not file or file != place or thing.__module__ == before.__module__:
                raise taken(path or name, f"{getattr(before, '__name__', before)} of {place or before.__module__}")
        self[name], self._files[name] = thing, file


def taken(name: str, by: str) -> ValueError:
    """Return an error about a name that something else has."""
    return ValueError(f"{name} is taken already, by {by}; choose another name")


class Kinds:
    """The kinds of a thing by name. The file `NAME.py` of a folder registers the kind `NAME` when it is imported.

    A kind that a test or a user's own file registers counts like those of the folder.
    """

    def __init__(self, package: str = "", thing: str = "", section: str = "", decorator: str = "") -> None:
        """Make the registry of the kinds in a package, or of kinds without a package.

        thing, section, decorator: for kinds that have a section of the configuration, what a kind is called, the path of
        its section, with `{}` for the name, and the decorator that registers it; for errors.
        """
        self._package, self._missing = package, (thing, section, decorator)
        self._registered = Registry()

    def register(self, name: str) -> Callable[[Kind], Kind]:
        """Return a decorator that makes what it decorates the kind `name`, and raises `ValueError` where another one has
        the name."""

        def add(kind: Kind) -> Kind:
            own = f"{self._package}.{name}"
            if name in self._files and kind.__module__ != own:
                raise taken(name, own)
            self._registered.add(name, kind)
            return kind

        return add

    def forget(self, name: str) -> None:
        """Remove a kind again; for tests."""
        del self._registered[name]

    @functools.cached_property
    def _files(self) -> frozenset[str]:
        """Names of the kinds that are files of the folder."""
        folder = Path(__file__).parent.joinpath(*self._package.split(".")[1:])
        files = folder.glob("*.py") if self._package else ()
        # Other files of the folder hold what its kinds share.
        return frozenset(
            file.stem for file in files if re.search(rf'^@[\w.]+\("{file.stem}"\)$', file.read_text("utf-8"), re.M)
        )

    def names(self) -> list[str]:
        """Return the names of all kinds in alphabetical order; imports none of them."""
        return sorted(self._files | set(self._registered))

    def __getitem__(self, name: str) -> Any:
        """Return the kind `name`. Raises `UserError` where there is none; `ValueError` for kinds without sections."""
        if name not in self._registered:
            if name not in self._files:
                raise self._none(name)
            importlib.import_module(f"{self._package}.{name}")
        return self._registered[name]

    def _none(self, name: str) -> Exception:
        thing, section, decorator = self._missing
        there = ", ".join(self.names())
        if not thing:
            return ValueError(f"{name!r}: not one of {there}")
        return UserError(
            f'{section.format(name)}: no {thing} is registered for this section; register its class by @{decorator}("{name}"); '
            f"those registered are {there}"
        )


ALIGNMENTS = Kinds("joint_st.ops.matching.alignments")
"""How frames of speech are matched with frames of text; `joint_st.ops.matching.base` says what an alignment
declares."""
