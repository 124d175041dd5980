"""Promises of the seams, checked in the syntax trees: no kind of head is named outside `heads/`, no loss outside
`losses/`.

The sections of the config that register the kinds, the table of old keys, and tests may name them.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

import joint_st
from joint_st.config import HeadsConfig, registered
from joint_st.data.batch import FIELDS
from joint_st.passes import PASSES

PACKAGE = Path(joint_st.__file__).parent


ROOMS = (
    *("ops", "config", "distributed", "models", "data", "heads", "losses", "runs", "lm", "decoding", "word_times"),
    *("evaluation", "analysis", "training", "compile_check", "reports", "sweeps", "doctor", "cli"),
)
"""The folders of the package; each may import those before it."""


@functools.cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def modules(*without: str) -> Iterator[tuple[str, ast.Module]]:
    """Yield the package's modules by path, but for those below some folders and files."""
    for file in sorted(PACKAGE.rglob("*.py")):
        path = file.relative_to(PACKAGE).as_posix()
        if not path.startswith(without):
            yield path, parsed(file)


def words(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Lines and texts of the names, attributes, modules imported, and strings that are no docstring."""
    docstrings = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str() as text) if id(node) not in docstrings:
                yield node.lineno, text
            case ast.Name(id=text) | ast.Attribute(attr=text):
                yield node.lineno, text
            case ast.ImportFrom(module=str() as module):
                yield node.lineno, module
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
                yield from ((node.lineno, alias.name) for alias in node.names)
            case ast.Import():
                yield from ((node.lineno, alias.name) for alias in node.names)


def classes(folder: str) -> set[str]:
    """Return the classes that the modules of a folder register as kinds."""
    return {
        node.name
        for path, tree in modules()
        if path.startswith(folder)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and any(isinstance(one, ast.Call) for one in node.decorator_list)
    }


def found(forbidden: set[str], *without: str) -> list[str]:
    return [
        f"{path}:{line}: {text}" for path, tree in modules(*without) for line, text in words(tree) if text in forbidden
    ]


def test_no_kind_of_head_is_named_outside_heads():
    """By its class, its module or its name; losses have names of their own, which may be the same."""
    kinds = set(registered("heads"))
    forbidden = classes("heads/") | {f"joint_st.heads.{kind}" for kind in kinds}
    assert "CtcHead" in forbidden
    assert found(forbidden, "heads/") == []
    assert found(kinds, "heads/", "losses/", "config/sections/heads.py", "config/sections/losses.py") == []


@pytest.mark.parametrize("form", ["{}", "losses.{}"])
def test_no_loss_is_named_outside_losses(form):
    """By its class, its module or its section."""
    names = set(registered("losses"))
    forbidden = {form.format(name) for name in names} | {f"joint_st.losses.{name}" for name in names}
    forbidden |= classes("losses/")
    assert "CtcLoss" in forbidden
    sections = "config/sections/heads.py", "config/sections/losses.py", "config/renamed.py"
    assert found(forbidden, "losses/", "heads/", *sections) == []


def test_the_passes_of_the_encoder_are_named_in_one_place():
    """The exceptions have the same names: layers of the encoder, and fields of losses."""
    without = "passes.py", "models/encoder.py", "config/sections/losses.py"
    strings = [
        f"{path}:{node.lineno}"
        for path, tree in modules(*without)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in PASSES
    ]
    assert strings == [] and set(PASSES) <= set(HeadsConfig.model_fields)


def test_the_fields_of_a_batch_are_listed_in_one_place():
    """Elsewhere at most four of them are listed: those that a function reads."""
    names = {name for part in FIELDS.values() for name in part}
    listed = []
    for path, tree in modules("data/batch.py"):
        for node in ast.walk(tree):
            keys = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", [])
            values = [key.value for key in keys if isinstance(key, ast.Constant)]
            if len(names.intersection(value for value in values if isinstance(value, str))) > 4:
                listed.append(f"{path}:{node.lineno}")
    assert listed == []


def test_imports_run_one_way():
    """A module imports only rooms that come before its own in `ROOMS`, even inside functions."""
    assert {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()} == set(ROOMS)
    upward = []
    for path, tree in modules():
        room = path.partition("/")[0]
        later = ROOMS[ROOMS.index(room) + 1 :] if room in ROOMS else ()
        for line, text in words(tree):
            parts = text.split(".")
            if parts[0] == "joint_st" and len(parts) > 1 and parts[1] in later:
                upward.append(f"{path}:{line}: {text}")
    assert upward == []
