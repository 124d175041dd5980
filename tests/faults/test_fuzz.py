"""Inputs of the campaign: the readers whose lines are counted are there under their names."""

from __future__ import annotations

import pytest

from benchmarks.fuzz.drive import reader_lines
from benchmarks.fuzz.kinds import KINDS


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_each_reader_of_a_kind_has_lines_to_count(kind):
    lines = dict(reader_lines(kind))
    assert len(lines) == len(kind.readers) and all(lines.values())
