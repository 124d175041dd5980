"""Sections of the configuration that register themselves under a dotted name, such as `losses.consistency`.

A registered section becomes a field of its group in `Config` at once. A section that a test or a user's own file
registers works like those of the package: in config files, as `--losses.NAME.FIELD`, in sweeps and in the JSON of a
run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pydantic.fields import FieldInfo

from joint_st.config.sections.base import Section
from joint_st.kinds import Registry, taken

Registered = TypeVar("Registered", bound=type[Section])

_groups = Registry()
_bases: dict[str, type[Section]] = {}
"""The class that the sections of each group derive from."""
_sections = Registry()
"""The registered sections by dotted path."""
_holders: list[type[Section]] = []


def group(name: str, of: type[Section] = Section) -> Callable[[Registered], Registered]:
    """Declare the section class below this decorator as the group `name`, which others, which derive from `of`, join by
    `register`."""

    def declare(section: Registered) -> Registered:
        _groups.add(name, section)
        _bases[name] = of
        return section

    return declare


def register(path: str) -> Callable[[Registered], Registered]:
    """Add the section class below this decorator to a group: `@register("losses.consistency")`.

    All of its fields need defaults, since no config has to name it. Raises `ValueError` where there is no such group,
    where the name is taken, and where the class does not derive from what the group's sections have in common.
    """
    prefix, _, name = path.rpartition(".")

    def add(section: Registered) -> Registered:
        if prefix not in _groups:
            raise ValueError(f"{path}: there is no group {prefix!r}; there are {', '.join(_groups)}")
        parent, base = _groups[prefix], _bases[prefix]
        if not issubclass(section, base):
            raise ValueError(f"{path}: {section.__name__} should derive from {base.__name__}")
        fields: dict[str, FieldInfo] = section.__pydantic_fields__
        if required := [field for field, info in fields.items() if info.is_required()]:
            raise ValueError(f"{path}.{required[0]}: needs a default, since no config has to name it")
        if name in parent.model_fields and path not in _sections:
            raise taken(path, f"a field of {parent.__name__}")
        _sections.add(path, section, path)
        _add_field(parent, name, section)
        return section

    return add


def unregister(path: str) -> None:
    """Remove a section from its group again; for tests."""
    prefix, _, name = path.rpartition(".")
    parent = _groups[prefix]
    del _sections[path]
    parent.__pydantic_fields__.pop(name)
    parent.__annotations__.pop(name, None)
    _rebuild(parent)


def registered(prefix: str) -> dict[str, type[Section]]:
    """Return the sections of a group by name, in the order in which they were registered."""
    return {
        name: field.annotation
        for name, field in _groups[prefix].model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    }


def is_group(path: str) -> bool:
    """Return whether sections can be registered at a path."""
    return path in _groups


def follow(root: type[Section]) -> None:
    """Rebuild `root`, a config that holds groups (made by `Field(default_factory=GROUP)`), whenever a section is
    registered later."""
    _holders.append(root)


def _add_field(parent: type[Section], name: str, section: type[Section]) -> None:
    parent.__annotations__[name] = section
    parent.__pydantic_fields__[name] = FieldInfo(annotation=section, default_factory=section)
    _rebuild(parent)


def _rebuild(parent: type[Section]) -> None:
    for changed in (parent, *_holders):
        changed.model_rebuild(force=True)
