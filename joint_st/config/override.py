"""Overriding fields of a config by dotted path, from the command line and from sweeps."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, TypeVar

import pydantic
from pydantic.fields import FieldInfo

from joint_st.config.annotations import element, given, holder, members
from joint_st.config.problems import explain, one_line, shown, unknown_key, wrong_kind
from joint_st.config.sections.base import Section
from joint_st.config.sections.data import Source
from joint_st.config.tree import is_section, join, kinds
from joint_st.errors import UserError
from joint_st.json_files import NOT_JSON

Root = TypeVar("Root", bound=Section)


def override(config: Root, changes: Mapping[str, Any]) -> Root:
    """Return the config with the value at each dotted path replaced.

    A path ends at a field (`model.width`), a section (`model`), an item of a tuple (`data.train.0`; the index
    after the last one appends) or of a dict (`data.test.dev`), or goes on into it (`data.train.0.path`). A
    value is of the field's type, or a string that is parsed by it: numbers, `true`, JSON for sections, dicts
    and tuples; items of a tuple may be separated by commas, and a source may be written as in `parse_source`.

    The whole config is validated once, at the end, so that changes that only fit together can be given together.
    Raises `UserError` with one line.
    """
    # Pydantic would warn of a section whose class has been replaced, because its file has been run again.
    root, tree = type(config), config.model_dump(mode="json", warnings=False)
    problems = []
    for path in sorted(changes, key=_order):
        try:
            tree = _replaced(tree, root, path.split("."), changes[path], "")
        except UserError as problem:
            problems.append(str(problem))
    if not problems:
        try:
            return root.model_validate(tree)
        except pydantic.ValidationError as error:
            problems = explain(error)
    raise UserError(one_line(problems))


def parse_source(spec: str) -> Source:
    """Parse a source written short: `KIND:...` (`tfds:NAME:SPLIT`, `text:FILE`), or the path of a manifest."""
    plain_data = Source.read(spec)
    try:
        return Source.registered[plain_data["kind"]].model_validate(plain_data)  # type: ignore[return-value]
    except pydantic.ValidationError as error:
        raise UserError(f"{spec}: {one_line(explain(error))}") from None


def _order(path: str) -> tuple[int, bool, str]:
    """Sort key: sections come before their fields, and the kind of a source before its other fields."""
    parts = path.split(".")
    return len(parts), parts[-1] != "kind", path


def _replaced(node: Any, annotation: Any, parts: list[str], value: Any, at: str) -> Any:
    """Return `node`, of type `annotation` and at the path `at`, with the value below it at `parts` replaced."""
    if not parts:
        return _parsed(value, annotation, at)
    part, rest = parts[0], parts[1:]
    here = join(at, part)
    tags, section, held = kinds(annotation), given(annotation), holder(annotation)
    if node is None:  # it has no value yet, and no default
        node = [] if held is list else {}
    elif not isinstance(node, held or dict) and (is_section(section) or held):
        what = "list" if held is list else "section"
        raise UserError(f"{at} = {shown(node)}: is no {what}, and {here} is a part of it; leave one of the two out")
    if tags:
        kind = node.get("kind")
        if part == "kind" and not rest:
            # Sections of different kinds have different fields, so another kind starts with its defaults.
            return node if kind == value else {"kind": value}
        section = tags.get(kind) if isinstance(kind, str) else None
        if section is None:
            raise UserError(wrong_kind(at, kind, annotation))
    if is_section(section):
        if part not in section.model_fields:
            raise UserError(one_line(unknown_key(".".join([here, *rest]), value, at, section)))
        field = section.model_fields[part]
        return {**node, part: _replaced(_held(node, part, field), field.annotation, rest, value, here)}
    if held is list:
        if not (part.isdecimal() and len(part) < 10 and int(part) <= len(node)):
            raise UserError(f"{here}: no such item; {at} has {len(node)}, counted from 0")
        item = node[int(part)] if int(part) < len(node) else None
        replaced = _replaced(item, element(section), rest, value, here)
        return [*node[: int(part)], replaced, *node[int(part) + 1 :]]
    if held is dict:
        return {**node, part: _replaced(node.get(part), element(section), rest, value, here)}
    raise UserError(f"{'.'.join([here, *rest])}: unknown key (= {shown(value)}); did you mean {at}?")


def _held(node: dict[str, Any], name: str, field: FieldInfo) -> Any:
    """Return the value of a field in the plain data of its section: its default where that does not name it, and None
    where it has no default."""
    if name in node or field.is_required():
        return node.get(name)
    return _plain(field.get_default(call_default_factory=True))


def _parsed(value: Any, annotation: Any, at: str) -> Any:
    """Return a value as plain data; strings are parsed where pydantic would not parse them."""
    if not isinstance(value, str):
        return _plain(value)
    text = value.strip()
    if type(None) in members(annotation) and text.lower() == "none":
        return None
    if kinds(annotation):
        return _from_json(text, at) if text.startswith("{") else given(annotation).read(text)
    if holder(annotation) is list:
        items = _from_json(text, at) if text.startswith("[") else filter(None, map(str.strip, text.split(",")))
        return [_parsed(item, element(annotation), at) for item in items]
    if holder(annotation) is dict or is_section(given(annotation)):
        return _from_json(text, at) if text.startswith("{") else value
    return value


def _from_json(text: str, at: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{at} = {shown(text)}: not JSON at character {error.pos}") from None
    except NOT_JSON as error:
        raise UserError(f"{at} = {shown(text)}: not JSON that can be read ({str(error)[:60]})") from None


def _plain(value: Any) -> Any:
    """Return a value with sections as dicts and paths as strings, at any depth."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Section):
        return value.model_dump(mode="json")
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
