"""Modules that a Python file of the user's imports from its own folder."""

from __future__ import annotations

import contextlib
import os
import sys
import types
from collections.abc import Iterator

_imported: dict[str, dict[str, types.ModuleType]] = {}
"""The modules that files have imported from their own folders, by folder and name."""


@contextlib.contextmanager
def importable(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Let a file import the modules of its folder, as Python lets a script; a context.

    Modules of the same names that files of other folders have imported give way meanwhile, so that each file finds its
    own.
    """
    place = os.path.realpath(folder)
    others = {name for other, modules in _imported.items() if other != place for name in modules}
    own = _imported.setdefault(place, {})
    away = {name: sys.modules.pop(name) for name in others & sys.modules.keys() if _has(place, name)}
    sys.modules.update({name: own[name] for name in own.keys() & away.keys()})
    known = set(sys.modules)
    sys.path.insert(0, place)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(place)
        new = {name: sys.modules[name] for name in sys.modules.keys() - known}
        own |= {name: module for name, module in new.items() if _is_from(place, name, module)}
        sys.modules.update(away)


def _has(place: str, name: str) -> bool:
    """Return whether a folder has a module or a package by that name."""
    path = os.path.join(place, name.partition(".")[0])
    return os.path.isfile(f"{path}.py") or os.path.isdir(path)


def _is_from(place: str, name: str, module: types.ModuleType) -> bool:
    """Return whether a module comes from a folder, which may also hold a clone of this package."""
    package = name.partition(".")[0]
    path = os.path.join(place, package)
    files = [getattr(module, "__file__", None) or "", *getattr(module, "__path__", ())]
    return package != __name__.partition(".")[0] and any(
        f"{file}{os.sep}".startswith((f"{path}.", f"{path}{os.sep}")) for file in files
    )
