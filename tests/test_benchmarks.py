"""The scripts in `benchmarks/` run too long to be tested, but what they import from the package has to be there, and what
they share has to count well."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import numpy as np
import pytest

from benchmarks.side_by_side import WARM_UPS, compared, take_turns
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


def test_programs_take_turns():
    calls: list[str] = []
    seconds = take_turns({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=3, at_least=0)
    assert "".join(calls) == "a" * WARM_UPS + "b" * WARM_UPS + "ab" + "ba" + "ab"
    assert all(one.shape == (3,) and (one > 0).all() for one in seconds.values())


def test_a_ratio_is_that_of_the_medians_with_the_middle_of_the_rounds():
    ours = np.array([1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]) / 1000
    found = compared(ours, np.arange(1, 12) / 1000)
    assert (found["ours_ms"], found["theirs_ms"], found["ratio"], found["rounds"]) == (1, 6, 6, 11)
    assert (found["ratio_low"], found["ratio_high"]) == (1.5, 10)  # the third round's ratio is 1.5
