"""Walks the schema and a config by dotted path."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from joint_st.config.annotations import element, given, plain
from joint_st.config.schema import Config
from joint_st.config.sections.base import ByKind, Section

UNSET = object()
"""The default of a field that must be given."""


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A field that holds a plain value."""

    path: str
    value: Any
    default: Any
    annotation: Any
    help: str


def is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def is_tag(annotation: Any) -> bool:
    """Return whether a type has a single value, which tells sections apart and is not a setting."""
    return get_origin(plain(annotation)) is Literal and len(get_args(plain(annotation))) == 1


def kinds(annotation: Any) -> dict[str, type[Section]]:
    """Return the sections of a group by their `kind`; empty for other types."""
    annotation = given(annotation)
    return dict(annotation.registered) if is_section(annotation) and _is_group(annotation) else {}


def _is_group(section: type[Section]) -> bool:
    return issubclass(section, ByKind) and section.is_group()


def sections(root: type[Section] = Config, prefix: str = "") -> Iterator[tuple[str, type[Section]]]:
    """Yield (dotted path, section) of every section that is a field of another one, the root first."""
    yield prefix, root
    for name, field in root.model_fields.items():
        annotation = plain(field.annotation)
        if is_section(annotation) and not _is_group(annotation):
            yield from sections(annotation, join(prefix, name))


def paths(root: type[Section] = Config) -> list[str]:
    """Return the dotted paths of the fields and sections that every config has."""
    return [join(prefix, name) for prefix, section in sections(root) for name in section.model_fields]


def leaves(section: Section, prefix: str = "") -> Iterator[Leaf]:
    """Yield every plain value of a config; a source in a tuple or a dict has its index or name in its path."""
    for name, field in type(section).model_fields.items():
        path = join(prefix, name)
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from leaves(value, path)
        elif value and isinstance(value, (tuple, list, dict)) and kinds(element(field.annotation)):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            for key, item in items:
                yield from leaves(item, join(path, key))
        else:
            # `kind` has a default only to make it optional in Python; it tells sources apart and is not a setting.
            unset = field.is_required() or is_tag(field.annotation)
            default = UNSET if unset else field.get_default(call_default_factory=True)
            yield Leaf(path, value, default, field.annotation, field.description or "")


def join(prefix: str, name: Any) -> str:
    return f"{prefix}.{name}" if prefix else str(name)
