"""Tables of a sweep's rows for the terminal."""

from __future__ import annotations

import io

from rich.console import Console

from joint_st.sweeps.table import make_tables
from tests.sweeps.test_plot import rows


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
