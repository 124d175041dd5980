"""Counts of the units that CTC recognises, by the best alignment with those said."""

from __future__ import annotations

import json

import numpy as np
import pytest

from joint_st.analysis.confusions import collapsed, count_confusions, make_table
from joint_st.cli import main
from joint_st.runs.trained import load_trained
from tests.tiny import tiny_config, untrained_run

SYMBOLS = ("<pad>", "<unk>", "a", "b", "c", "d")


def test_counts_are_those_of_the_best_alignment():
    """By hand: b heard as d, c missed, a b inserted; then nothing of two; then two of nothing."""
    found = count_confusions([([2, 3, 2, 4, 5, 2, 5], [2, 5, 2, 5, 2, 5, 3]), ([3, 3], []), ([], [4, 4])], SYMBOLS)
    expected = np.zeros((6, 6), int)
    expected[2, 2], expected[3, 5], expected[4, 0], expected[5, 5], expected[3, 0] = 3, 1, 1, 2, 2
    np.testing.assert_array_equal(found.heard, expected)
    assert found.inserted.tolist() == [0, 0, 0, 1, 2, 0]
    assert (found.units, found.substitutions, found.deletions, found.insertions) == (9, 1, 3, 3)
    table = make_table(found, "of two")
    assert "9 units, 77.8% errors: sub 11.1%, del 33.3%, ins 33.3%" in table.title
    assert list(table.columns[0].cells)[:2] == ["b", "b"] and list(table.columns[1].cells)[0] == "(nothing)"


def test_ctc_emits_a_unit_once_until_it_changes_or_a_blank_comes():
    assert collapsed(np.array([0, 2, 2, 0, 2, 3, 3, 0, 0])) == [2, 2, 3]
    assert collapsed(np.zeros(3, int)) == []


@pytest.mark.slow
def test_a_run_counts_its_dev_set(corpora, tmp_path, capsys):
    joint = {"data.units.kind": "characters", "losses.unit_ctc.weight": 0.3}
    run = untrained_run(tiny_config(corpora, joint), tmp_path / "run")
    assert main(["confusions", str(run)]) == 0
    assert "counts in" in capsys.readouterr().out
    content = json.loads((run / "confusions.json").read_text())
    trained = load_trained(run)
    assert content["units"] == list(trained.units.symbols) and content["made_by"]["split"] == "dev"
    said = sum(sum(row.values()) for row in content["heard_as"].values()) + sum(content["missed"].values())
    assert said > 0
    plain = untrained_run(tiny_config(corpora, {"data.units.kind": "characters"}), tmp_path / "plain")
    assert main(["confusions", str(plain)]) == 2
    assert "losses.unit_ctc.weight is 0" in capsys.readouterr().err
