"""Counts of confusions in a file, and the probabilities that follow from them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from joint_st.config import TextConfig
from joint_st.data.confusions import Confusions, confusion_rates, read_confusions
from joint_st.errors import UserError

SYMBOLS = ("<pad>", "<unk>", " ", "p", "b")
HEARD = np.zeros((5, 5), int)
HEARD[3] = [1, 0, 0, 6, 3]
HEARD[4] = [5, 0, 0, 5, 0]
COUNTS = Confusions(SYMBOLS, HEARD, np.array([0, 0, 2, 0, 2]))


@pytest.mark.parametrize(
    ("scale", "p", "b"),
    [
        (1.0, [0.1, 0.6, 0.3], [0.5, 0.5, 0]),
        (0.5, [0.05, 0.8, 0.15], [0.25, 0.25, 0.5]),
        (4.0, [0.25, 0, 0.75], [0.5, 0.5, 0]),
    ],
)
def test_rates_are_counts_times_a_factor(scale, p, b):
    rates = confusion_rates(COUNTS, scale)
    heard = np.diff(rates.heard, axis=1, prepend=0)
    np.testing.assert_allclose(heard[3, [0, 3, 4]], p, atol=1e-6)
    np.testing.assert_allclose(heard[4, [0, 3, 4]], b, atol=1e-6)
    np.testing.assert_array_equal(heard[:3], np.eye(5)[:3])
    np.testing.assert_allclose(np.diff(rates.inserted, prepend=0), [0, 0, 0.5, 0, 0.5])
    assert rates.insertion_rate == pytest.approx(scale * 4 / 20)
    assert (rates.heard[:, -1] == 1).all()


def test_a_file_holds_the_counts(tmp_path):
    path = tmp_path / "confusions.json"
    path.write_text(COUNTS.to_json({"run": "a"}, {"speech": {"full_context": 0.5}}))
    found = read_confusions(path, SYMBOLS)
    np.testing.assert_array_equal(found.heard, COUNTS.heard)
    np.testing.assert_array_equal(found.inserted, COUNTS.inserted)
    assert found.digest == COUNTS.digest
    content = json.loads(path.read_text())
    assert content["heard_as"] == {"p": {"p": 6, "b": 3}, "b": {"p": 5}} and content["missed"] == {"p": 1, "b": 5}
    assert "times 2: 40.0% substituted, 30.0% missed, 20.0% inserted" in found.describe(2.0)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, r"text.confusions: .*a.json: no such file; `joint-st confusions RUN` writes such a file"),
        ("{", r"text.confusions: .*a.json: not JSON .*; `joint-st confusions RUN` writes such a file"),
        ({"units": ["a"]}, r"a.json: heard_as: Field required; `joint-st"),
        ({"heard_as": {"p": {"q": 1}}}, r"'q' is counted, and is none of the units"),
        ({"missed": {"p": -1}}, r"missed.p: Input should be greater than or equal to 0"),
        (
            {"units": [*SYMBOLS, "t"]},
            r"it counts 6 text units, not the 5 of this run \('t' is in one of the two alone\)",
        ),
        (
            {"units": [*SYMBOLS[:3], "b", "p"]},
            r"\(they are in another order\); measure it with a run on the same texts",
        ),
        ({"heard_as": {}, "missed": {}}, r"it counts no unit at all"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line(tmp_path, content, line):
    path = tmp_path / "a.json"
    if isinstance(content, dict):
        whole = json.loads(COUNTS.to_json())
        path.write_text(json.dumps(content if content == {"units": ["a"]} else whole | content))
    elif content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=line):
        read_confusions(path, SYMBOLS)


def test_units_are_confused_in_one_way_alone():
    with pytest.raises(ValueError, match="both confuse units; set it to 0"):
        TextConfig(confusions="a.json", substituted_share=0.1)
