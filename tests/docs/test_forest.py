"""The figures of the pages: marks and bars where the values are, for the right arms."""

import sys
import xml.etree.ElementTree as ET

import pytest

from tests.tiny import CHECKOUT


@pytest.fixture
def docs(monkeypatch):
    monkeypatch.syspath_prepend(str(CHECKOUT / "docs"))
    for name in ("forest", "result_cells", "recorded_tables", "result_tables"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import forest
    import recorded_tables
    import result_tables

    return forest, result_tables, recorded_tables


def drawn(figure: str):
    """Return the figure's tree and what a horizontal position stands for, read off its ticks."""
    tree = ET.fromstring(figure).find("svg")
    ticks = [(float(text.get("x")), float(text.text)) for text in tree.findall("text[@class='tick']")]
    (x0, v0), (x1, v1) = ticks[0], ticks[-1]
    return tree, lambda x: v0 + (float(x) - x0) * (v1 - v0) / (x1 - x0)


def labels(tree) -> list[str]:
    return [text.text for text in tree.findall("text[@class='label']")]


def test_marks_and_bars_stand_at_their_values(docs):
    lines = [("a & b", {"one": (12.5, 10.0, 15.0), "two": (-3.0, -8.0, 2.0)}), ("c", {"one": (4.0, None, None)})]
    tree, value = drawn(docs[0].forest(lines, "errors, %"))
    assert labels(tree) == ["a & b", "c"]
    assert [text.text for text in tree.findall("text[@class='series']")] == ["one", "two"]
    marks = [round(value(circle.get("cx")), 1) for circle in tree.findall("circle")][1:]  # the first is the legend's
    assert marks == pytest.approx([12.5, 4.0], abs=0.1)
    (square,) = tree.findall("polygon")[1:]
    corners = [float(point.split(",")[0]) for point in square.get("points").split()]
    assert value(sum(corners) / len(corners)) == pytest.approx(-3.0, abs=0.1)
    bars = [bar for bar in tree.findall("line") if bar.get("y1") == bar.get("y2")]
    ends = [(value(bar.get("x1")), value(bar.get("x2"))) for bar in bars]
    assert ends == [pytest.approx((10, 15), abs=0.1), pytest.approx((-8, 2), abs=0.1)]
    zero = next(line for line in tree.findall("line") if line.get("stroke-width") == "1.5" and line not in bars)
    assert value(zero.get("x1")) == pytest.approx(0, abs=0.1)


def test_a_wide_interval_is_cut(docs):
    tree, value = drawn(docs[0].forest([("a", {"one": (50.0, -900.0, 60.0)}), ("b", {"one": (40.0, 35.0, 45.0)})], ""))
    bar = next(bar for bar in tree.findall("line") if bar.get("y1") == bar.get("y2"))
    assert 0 <= value(bar.get("x1")) <= 35


def test_consistency_is_compared_with_the_arm_that_differs_in_nothing_else(docs):
    changes = {name: {"change": change, "low": change - 0.05, "high": change + 0.05} for name, change in ARMS.items()}

    def row(name, conditioning, weight, **relative):
        overrides = {"losses.consistency.weight": weight, "model.unit_conditioning": conditioning}
        to = {other: {f"{head}all": changes[key] for head in ("", "streaming_")} for other, key in relative.items()}
        return {"name": name, "overrides": overrides, "relative_to": to}

    rows = [
        row("base", "none", 0.01, without="base", without_add="wrong"),
        row("without", "none", 0.0, without_add="wrong"),
        row("add", "add", 0.01, without="wrong", without_add="add"),
        row("without_add", "add", 0.0, without="wrong"),
    ]
    lines = docs[1]._consistency(rows)
    assert [name for name, _ in lines] == ["add", "base"]
    assert lines[0][1]["full context"] == pytest.approx((30.0, 25.0, 35.0))
    assert lines[1][1]["streaming"] == pytest.approx((10.0, 5.0, 15.0))


ARMS = {"base": -0.1, "add": -0.3, "wrong": -0.9}


def test_arms_are_drawn_by_their_errors_in_full_context(docs):
    def row(name, head, wer):
        keys = {"test": "read", "decoder": "greedy", "subset": "all"}
        return {"name": name, "head": head, "wer": wer, "wer_low": wer - 0.02, "wer_high": wer + 0.02, **keys}

    rows = [
        row("audio_only", "full_context", 0.7),
        row("audio_only", "streaming", 0.8),
        row("text", "full_context", 0.6),
    ]
    tree, value = drawn(docs[2]._figure(rows))
    assert labels(tree) == ["text", "audio_only"]
    assert [value(circle.get("cx")) for circle in tree.findall("circle")[1:]] == pytest.approx([60, 70], abs=0.2)
