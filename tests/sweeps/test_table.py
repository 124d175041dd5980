"""Tables of a sweep's rows for the terminal."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from joint_st.errors import UserError
from joint_st.sweeps.table import make_tables, result_line
from tests.sweeps.test_plot import rows

RATE = {"split": "test", "head": "streaming", "decoder": "greedy", "subset": "all", "wer": 0.5}


def test_the_rates_of_a_table_in_one_line(tmp_path):
    table = tmp_path / "table.json"
    table.write_text(json.dumps([RATE, RATE | {"subset": "heard", "wer": None}]))
    assert result_line(table) == "test streaming WER 50.0 % (heard -)"


@pytest.mark.parametrize(
    "content", ["[{", "{}", "[1]", "[{}]", *(json.dumps([RATE | one]) for one in ({"wer": "x"}, {"subset": "heard"}))]
)
def test_a_damaged_table_is_told_in_one_line(tmp_path, content):
    table = tmp_path / "table.json"
    table.write_text(content)
    with pytest.raises(UserError, match="^[^\n]*table.json: .*; it is damaged, or another program wrote it"):
        result_line(table)


def test_names_with_marks_of_markup_are_printed_as_they_are():
    odd = [
        row | {"name": "arm [b]", "split": "test [/x]", "decoder": "beam 16, word 3-gram lm[b].arpa"}
        for row in rows([{}])
    ]
    odd[0] |= {"relative_to": {"[/base]": {"all": {"change": -0.125, "low": -0.25, "high": 0.5}}}}
    console = Console(width=200, file=io.StringIO())
    for table in make_tables(odd[:1]):
        console.print(table)
    text = " ".join(console.file.getvalue().split())
    assert "WER %, test [/x], 9 utterances" in text and "decoder beam 16, word 3-gram lm[b].arpa, normalizer" in text
    assert "WER relative to [/base], change in %" in text and "-12.5 -25.0..+50.0" in text and "arm [b]" in text
