"""The figure of a sweep: what is drawn where."""

from __future__ import annotations

import numpy as np
import pytest

from joint_st.sweeps.plot import draw, save_plot, varying_number

WEIGHTS = (0.1, 0.0, 0.001)


def rows(overrides) -> list[dict]:
    """Rows of three arms with these overrides, two subsets of words and two splits; the first row of each has no
    words that come from text only."""
    found = []
    for split in ("test", "more"):
        for i, override in enumerate(overrides):
            row = {"name": f"arm_{i}", "split": split, "decoder": "greedy", "normalizer": "none", "seeds": [0, 1]}
            row |= {"utterances": 9, "words": 90, "words_text_only": 30, "overrides": override, "relative_to": {}}
            for j, name in enumerate(("wer", "streaming_wer", "wer_text_only", "streaming_wer_text_only")):
                wer = (i + 1) / 10 + j / 100
                row |= {name: wer, f"{name}_low": wer - 0.02, f"{name}_high": wer + 0.03}
                row[f"{name}_by_seed"] = [wer - 0.01, wer + 0.01]
            if i == 0:
                row |= {"wer_text_only": None, "wer_text_only_by_seed": None}
            found.append(row)
    return found


def lines(ax) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(x, y, segments of the intervals) by head."""
    return {
        bars.get_label(): (*bars.lines[0].get_data(), np.array(bars.lines[2][0].get_segments()))
        for bars in ax.containers
    }


def test_rates_against_the_one_number_that_varies():
    figure = draw(rows([{"weight": weight} for weight in WEIGHTS]))
    assert len(figure.axes) == 4
    for ax, first in zip(figure.axes, (0, 2, 0, 2)):
        x, y, bars = lines(ax)["streaming"]
        assert list(x) == sorted(WEIGHTS)
        expected = 100 * np.array([0.21, 0.31, 0.11]) + first
        np.testing.assert_allclose(y, expected)
        np.testing.assert_allclose(bars[:, :, 1], np.stack([expected - 2, expected + 3], axis=1))
        assert (ax.get_xscale(), ax.get_xlabel()) == ("symlog", "weight")
        assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "0.001", "0.1"]
    # The arm without such words is left out, and its seeds too.
    text_only = figure.axes[1]
    np.testing.assert_allclose(lines(text_only)["full context"][0], [0, 0.001])
    seeds = [line for line in text_only.get_lines() if line.get_marker() == "."]
    np.testing.assert_allclose(seeds[0].get_ydata(), [23 - 2, 23, 33 - 2, 33], atol=1e-9)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["all words", "text only"] * 2


def test_a_rate_without_an_interval_is_drawn_without_a_bar():
    found = rows([{"weight": weight} for weight in WEIGHTS])
    found[1] |= {"wer_low": None, "wer_high": None}
    bars = next(one for one in draw(found).axes[0].containers if one.get_label() == "full context")
    np.testing.assert_allclose(bars.lines[0].get_ydata(), [20, 30, 10])
    drawn = [one for one in bars.lines[2][0].get_segments() if len(one)]
    np.testing.assert_allclose(np.array(drawn)[:, :, 1], [[28, 33], [8, 13]])


@pytest.mark.parametrize("weights, scale", [((1, 2, 5), "linear"), ((-1, 0, 10), "linear"), ((0.1, 1, 2), "log")])
def test_the_axis_is_logarithmic_where_numbers_spread(weights, scale):
    assert draw(rows([{"weight": weight} for weight in weights])).axes[0].get_xscale() == scale


@pytest.mark.parametrize(
    "overrides, field",
    [
        ([{"a": 1, "b": 7}, {"a": 2, "b": 7}, {"a": 3.5, "b": 7}], "a"),
        ([{"a": 1}, {"a": None}, {"a": 3}], None),
        ([{"a": 1}, {"a": 2}, {"a": True}], None),
        ([{"a": "x"}, {"a": "y"}, {"a": "z"}], None),
        ([{"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 2, "b": 2}], None),
        ([{}, {}, {}], None),
    ],
)
def test_otherwise_arms_are_listed(overrides, field):
    found = rows(overrides)
    assert varying_number(found) == field
    if field is None:
        ax = draw(found).axes[0]
        x, y, bars = lines(ax)["full context"]
        np.testing.assert_allclose(x, [10, 20, 30])
        np.testing.assert_allclose(np.diff(y), 1)
        np.testing.assert_allclose(bars[:, :, 0], np.stack([x - 2, x + 3], axis=1))
        assert [tick.get_text() for tick in ax.get_yticklabels()] == ["arm_0", "arm_1", "arm_2"]


@pytest.mark.parametrize("overrides", [[{}, {}, {}], [{"data.test.a$b_{$c": weight} for weight in WEIGHTS]])
def test_dollars_in_names_are_no_formulas(overrides, tmp_path):
    found = [row | {"name": f"{row['name']} $x_{{$", "split": "a$b_{$c"} for row in rows(overrides)]
    (tmp_path / "link.png").symlink_to("plot.png")
    save_plot(found, tmp_path / "link.png")
    assert (tmp_path / "plot.png").read_bytes()[1:4] == b"PNG"
    assert "a$b_{$c, 9 utterances" in draw(found).get_suptitle()
