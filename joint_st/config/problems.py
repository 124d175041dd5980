"""Explains in one line what is wrong with a config."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections import Counter
from typing import Any

import pydantic
from pydantic_core import ErrorDetails

from joint_st import storage
from joint_st.config.annotations import element, given
from joint_st.config.language_model import LmConfig
from joint_st.config.registry import is_group
from joint_st.config.schema import Config
from joint_st.config.sections.base import Section
from joint_st.config.tree import is_section, join, kinds, paths, sections

ROOTS = (Config, LmConfig)
"""The classes of whole configs."""


def explain(error: pydantic.ValidationError) -> list[str]:
    """Return a line for each problem, each with its dotted path from the root of the config."""
    root, prefix = _root(error.title)
    errors = error.errors(include_url=False)
    # Pydantic also finds a tuple too short when one of its items is wrong.
    wrong_items = {item["loc"][: len(item["loc"]) - k] for item in errors for k in range(1, len(item["loc"]) + 1)}
    unknown = {item["loc"][:-1] for item in errors if item["type"] == "extra_forbidden"}
    meant = {
        nearest(str(item["loc"][-1]), missing)
        for item in errors
        if item["type"] == "extra_forbidden"
        and (missing := [str(other["loc"][-1]) for other in errors if _is_missing(other, item["loc"][:-1])])
    }
    kept = [
        item
        for item in errors
        if not (item["type"] == "too_short" and item["loc"] in wrong_items)
        # A key that is present under a misspelt name is not missing.
        and not (item["type"] == "missing" and item["loc"][:-1] in unknown and str(item["loc"][-1]) in meant)
    ]
    kept.sort(key=lambda item: item["type"] != "extra_forbidden")
    return [line for item in kept for line in _lines(item, root, prefix)]


def _is_missing(error: ErrorDetails, within: tuple[str | int, ...]) -> bool:
    return error["type"] == "missing" and error["loc"][:-1] == within


def one_line(problems: list[str]) -> str:
    """Return the first problem, and how many more there are."""
    first = " ".join(problems[0].split())
    return first if len(problems) == 1 else f"{first} (and {len(problems) - 1} more)"


def unknown_key(path: str, value: Any, at: str, section: type[Section]) -> list[str]:
    """Return lines for a dotted path that the schema does not have below `section`, which is at the path `at`.

    There is one line, or several where a section has several fields with new names.
    """
    # Imported here so that `python -m joint_st.config.renamed` does not find itself imported already.
    from joint_st.config.renamed import refusals

    if lines := refusals(path, value):
        return lines
    siblings = [join(at, name) for name in section.model_fields]
    # Fields elsewhere are suggested only where a section has one place; the fields of a source depend on its kind.
    of_root = next((paths(root) for root in ROOTS if (at, section) in sections(root)), [])
    near = nearest(path, siblings + [known for known in of_root if known not in siblings])
    hint = f"did you mean {near}?" if near else f"{at or 'a config'} has {', '.join(section.model_fields)}"
    if not near and is_group(at):
        hint += (
            "; a section that a Python file of your own defines is known to commands that are given the file: "
            "joint-st --with FILE COMMAND"
        )
    return [f"{path}: unknown key (= {shown(value)}); {hint}"]


def wrong_kind(at: str, kind: str | None, annotation: Any) -> str:
    """Return a line for a source at the path `at` whose kind is missing or unknown."""
    *others, last = (repr(known) for known in kinds(annotation))
    should = f"{', '.join(others)} or {last}" if others else last
    problem = f"{join(at, 'kind')}: missing;" if kind is None else f"{join(at, 'kind')} = {shown(kind)}:"
    return f"{problem} should be {should}"


def nearest(path: str, known: list[str]) -> str | None:
    """Return the known path whose last name is similar; of several, the one whose sections are similar.

    A name in another section must be more similar. Where the path's own section is unknown too, the other section must
    be similar as well, unless no other section has that name.
    """

    def alike(a: str, b: str) -> float:
        return difflib.SequenceMatcher(None, a, b).ratio()

    parent, _, name = path.rpartition(".")
    places = [candidate.rpartition(".")[::2] for candidate in known]
    is_known = not parent or parent in known or any(place == parent for place, _ in places)
    names = Counter(last for _, last in places)
    scores = {}
    for candidate, (place, last) in zip(known, places):
        likeness = alike(name, last)
        if likeness < (0.6 if place == parent else 0.8):
            continue
        if not is_known and not (last == name and names[name] == 1) and alike(*_differing(parent, place)) < 0.6:
            continue
        scores[candidate] = likeness + 0.5 * alike(parent, place)
    return max(scores, key=scores.__getitem__) if scores else None


def _differing(path: str, other: str) -> tuple[str, str]:
    """Return two paths without the sections that both begin with."""
    one, two = path.split("."), other.split(".")
    shared = len(os.path.commonprefix([one, two]))
    return ".".join(one[shared:]), ".".join(two[shared:])


def shown(value: Any) -> str:
    """Return a value as short text; strings are shown as one would type them."""
    if isinstance(value, str):
        text = value if value and re.fullmatch(r"[^\s'\"]+", value) else repr(value)
    elif isinstance(value, Section):
        text = value.model_dump_json()
    else:
        try:
            text = json.dumps(value)
        except TypeError:
            text = repr(value)
    text = storage.printable(text)
    return text if len(text) <= 80 else text[:77] + "..."


def _root(title: str) -> tuple[type[Section], str]:
    """Return the section that pydantic names, and its path in a config; "" where it has several places."""
    found: type[Section] = Config
    todo: list[type[Section]] = [Section]
    while todo:
        section = todo.pop()
        todo.extend(section.__subclasses__())
        if section.__name__ == title:
            found = section
    for prefix, section in (place for root in ROOTS for place in sections(root)):
        if section is found:
            return found, prefix
    return found, found.__name__


def _lines(error: ErrorDetails, root: type[Section], prefix: str) -> list[str]:
    path, section = _dotted(error["loc"], root, prefix)
    if error["type"] == "extra_forbidden":
        return unknown_key(path, error["input"], path.rpartition(".")[0], section)
    return [_line(error, path, root)]


def _line(error: ErrorDetails, path: str, root: type[Section]) -> str:
    value, context = error["input"], error.get("ctx", {})
    match error["type"]:
        case "clash":
            return f"{join(path, context['path'])}: {context['message']}"
        case "missing":
            return f"{path}: missing"
        case "union_tag_not_found":
            return wrong_kind(path, None, _type_at(error["loc"], root))
        case "union_tag_invalid":
            return wrong_kind(path, context["tag"], _type_at(error["loc"], root))
        case "json_invalid":
            return f"not JSON: {context['error']}"
    message = re.sub(r"^(Input|String|Tuple) | after validation, not 0$|, unable to .*$", "", error["msg"])
    return f"{path} = {shown(value)}: {message}"


def _type_at(location: tuple[str | int, ...], annotation: Any) -> Any:
    """Return the type at a location that leads to a source."""
    for part in location:
        annotation = given(annotation)
        annotation = annotation.model_fields[part].annotation if is_section(annotation) else element(annotation)
    return annotation


def _dotted(location: tuple[str | int, ...], root: type[Section], prefix: str) -> tuple[str, type[Section]]:
    """Return the dotted path of pydantic's location, without the kinds of sources in it, and the last section."""
    path, section = prefix, root
    annotation: Any = root
    for part in location:
        if part in kinds(annotation):
            annotation = kinds(annotation)[part]
            section = annotation
            continue
        path = join(path, part)
        annotation = given(annotation)
        if is_section(annotation):
            section = annotation
            field = annotation.model_fields.get(part)
            annotation = field.annotation if field else None
        else:
            annotation = element(annotation)
    return path, section
