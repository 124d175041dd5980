"""A config as text: its values, and what every field means."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from joint_st.config.annotations import element, holder, members, plain
from joint_st.config.language_model import LmConfig
from joint_st.config.schema import Config
from joint_st.config.sections.base import OneOf, Section
from joint_st.config.tree import UNSET, is_section, is_tag, join, kinds, leaves, sections


def show(config: Section) -> str:
    """Return `dotted.path = value` for every field, aligned; a value that is not the default is marked with the
    default."""
    rows = list(leaves(config))
    width = max(len(row.path) for row in rows)
    lines = []
    for row in rows:
        line = f"{row.path:<{width}} = {_json(row.value)}"
        if row.default is not UNSET and row.default != row.value:
            line = f"{line}   # default {_json(row.default)}"
        lines.append(line)
    return "\n".join(lines)


def describe(config: Config | LmConfig) -> str:
    """Return every field with its flag, its type, its value in this config and its meaning."""
    lines = []
    for prefix, section in sections(type(config)):
        if prefix:
            lines += ["", _paragraph(section, prefix)]
        for name, field in settings(section):
            value = _at(config, prefix)
            lines.append(f"  --{join(prefix, name)} {type_of(field)}   = {_json(getattr(value, name))}")
            lines += textwrap.wrap(field.description or "", 100, initial_indent=" " * 6, subsequent_indent=" " * 6)
    lines += [
        "",
        "A source is written tfds:NAME:SPLIT, text:FILE, as the path of a manifest, or as JSON; other sections of",
    ]
    lines += ["several kinds as KIND or as JSON. Fields are overridden singly, as in --data.train.0.path FILE."]
    for name, of_group in groups(type(config)).items():
        lines.append(f"  {name}:")
        for kind, section in of_group.items():
            names = ", ".join(name for name in section.model_fields if name != "kind")
            lines.append(f"    {kind}: {names}".rstrip(": "))
    return "\n".join(lines)


def settings(section: type[Section]) -> Iterator[tuple[str, FieldInfo]]:
    """Yield the name and the field of every setting of a section; subsections are not settings, sources and the like
    are."""
    for name, field in section.model_fields.items():
        if not is_tag(field.annotation) and (kinds(field.annotation) or not is_section(plain(field.annotation))):
            yield name, field


def type_of(field: FieldInfo) -> str:
    """Return the type of a field, or the names that it may hold."""
    names = [name for one in field.metadata if isinstance(one, OneOf) for name in one.kinds.names()]
    return "|".join(names) or type_name(field.annotation)


def groups(root: type[Section]) -> dict[str, dict[str, type[Section]]]:
    """Return the kinds of each group that a field below `root` has as its type, by the group's readable name."""
    found = {}
    for _, section in sections(root):
        for field in section.model_fields.values():
            for annotation in (field.annotation, element(field.annotation)):
                if kinds(annotation):
                    found[type_name(annotation)] = kinds(annotation)
    return found


def type_name(annotation: Any) -> str:
    """Return the type of a field as its flag's help names it."""
    names = []
    for member in members(annotation):
        if kinds(member):
            names.append(member.__name__.removesuffix("Config").upper())
        elif is_section(member):
            names.append("JSON")
        elif get_origin(member) is Literal:
            names.append("|".join(map(str, get_args(member))))
        elif holder(member) is list:
            names.append(f"{type_name(element(member))},...")
        elif holder(member) is dict:
            names.append(f"{{NAME: {type_name(element(member))}}}")
        else:
            known = {bool: "true|false", int: "INTEGER", float: "NUMBER", str: "TEXT", type(None): "none"}
            names.append(known.get(member, str(member)))
    return "|".join(names)


def _paragraph(section: type[Section], prefix: str) -> str:
    text = " ".join((section.__doc__ or "").split())
    return textwrap.fill(f"{prefix}: {text}", 100, subsequent_indent="  ")


def _at(config: Section, prefix: str) -> Any:
    value: Any = config
    for part in prefix.split(".") if prefix else ():
        value = getattr(value, part)
    return value


def _json(value: Any) -> str:
    return json.dumps(value, default=lambda section: section.model_dump(mode="json"))
