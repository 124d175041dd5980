"""Tables of a sweep's rows for the terminal."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from rich.console import Console

from joint_st.errors import UserError
from joint_st.sweeps.table import make_csv, make_markdown, make_tables, result_line
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


def test_rates_and_changes_without_an_interval_stand_alone():
    alone = rows([{}])[0]
    alone |= {f"{head}wer{end}": None for head in ("", "streaming_") for end in ("_low", "_high")}
    alone["relative_to"] = {"base": {"all": {"change": -0.125, "low": None, "high": None}}}
    text = make_markdown([alone])
    assert "Fewer than 20 utterances are too few for an interval" in text
    assert "| 10.0 | - | 11.0 |" in text and "| -12.5 | - |" in text
    console = Console(width=200, file=io.StringIO())
    for table in make_tables([alone]):
        console.print(table)
    assert re.search("fewer than 20 utterances .*full_context +10.0 +-", console.file.getvalue(), re.DOTALL)
    first = next(csv.DictReader(io.StringIO(make_csv([alone]))))
    assert (first["wer"], first["wer_low"], first["wer_relative_to_base_low"]) == ("0.1", "", "")


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
