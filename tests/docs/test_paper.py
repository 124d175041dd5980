"""The page that leads from papers to the code names modules, classes and functions that are there."""

from __future__ import annotations

import importlib
import re

import pytest

from tests.tiny import CHECKOUT

PAGE = (CHECKOUT / "docs" / "paper.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(joint_st(?:\.\w+)+)`", PAGE)))


def find(name: str):
    """A module, or what its dotted name leads to in one."""
    parts = name.split(".")
    for k in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:k]))
        except ModuleNotFoundError as error:
            if not name.startswith(str(error.name)):
                raise
            continue
        for part in parts[k:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("name", NAMED)
def test_what_the_page_names_is_there(name):
    assert find(name) is not None


def test_the_page_names_the_heart_of_the_paper():
    assert len(NAMED) > 40
    assert {"joint_st.ops.matching.alignments.skip.skip_path", "joint_st.losses.consistency.ConsistencyLoss"} <= set(
        NAMED
    )


def test_what_is_not_there_is_found_out():
    with pytest.raises(AttributeError):
        find("joint_st.ops.ctc.no_such_function")
