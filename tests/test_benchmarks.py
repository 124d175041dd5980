"""The scripts in `benchmarks/` run too long to be tested, but what they import from the package has to be there."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

from tests.tiny import CHECKOUT

SCRIPTS = sorted((CHECKOUT / "benchmarks").rglob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(CHECKOUT / "benchmarks")))
def test_all_that_a_script_imports_exists(script: Path):
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "joint_st":
            module = importlib.import_module(node.module)
            for name in node.names:
                if not hasattr(module, name.name):
                    importlib.import_module(f"{node.module}.{name.name}")
