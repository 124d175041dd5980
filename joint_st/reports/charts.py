"""Charts as data, which the page draws: a run's metrics and its layer analysis.

A chart is a dictionary: `title`, `unit` (of y), `x` (its name), `series` of `name` and `points` [[x, y], ...], and
`labels` where x counts named places rather than steps.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from joint_st.errors import UserError
from joint_st.json_files import DAMAGED
from joint_st.losses.base import Column

MOST_POINTS = 1000
"""Most points of a curve; if there are more, only every second, third, ... is drawn."""


def training_charts(metrics: Path, columns: Sequence[Column]) -> list[dict]:
    """Return the curves of a run's `metrics.csv`, without columns that hold no numbers and panels that hold no curves.

    Columns of one panel are drawn together, and a column without a panel alone; counts are not drawn.
    """
    if not metrics.is_file():
        return []
    try:
        rows = list(csv.DictReader(io.StringIO(metrics.read_bytes().decode(), newline="")))
        return _charts(rows, columns)
    except (csv.Error, ValueError, TypeError, KeyError, OverflowError) as error:
        told = " ".join(str(error).split())[:100]
        raise UserError(f"{metrics}: not the metrics of a run ({told}); {DAMAGED}, or move it away") from None


def _charts(rows: Sequence[dict], columns: Sequence[Column]) -> list[dict]:
    panels: dict[str, list[Column]] = {}
    for column in columns:
        if column.kind == "mean":
            panels.setdefault(column.panel or _said(column.name).capitalize(), []).append(column)
    charts = []
    for title, shown in panels.items():
        unit = shown[0].unit
        factor = 100 if unit == "%" else 1
        series = [{"name": _said(one.name), "points": _curve(rows, one.name, factor)} for one in shown]
        series = [one for one in series if one["points"]]
        if series:
            charts.append({"title": title, "unit": unit, "x": "step", "series": series})
    return charts


def _curve(rows: Sequence[dict], name: str, factor: float) -> list[list[float]]:
    points = [[int(row["step"]), factor * float(row[name])] for row in rows if row.get(name)]
    points = [[step, short(value)] for step, value in points if math.isfinite(value)]
    every = -(-len(points) // MOST_POINTS)
    # The last point is always drawn.
    return points[::-1][:: max(every, 1)][::-1]


def _said(column: str) -> str:
    name = column.removeprefix("dev_")
    for part in ("_wer", "_cer", "_ctc", "_reconstruction", "_norm"):
        name = name.removesuffix(part)
    return name.replace("_", " ")


def layer_charts(rows: Sequence[dict]) -> list[dict]:
    """Return curves over the layers, from the rows that `joint-st analyze` writes."""
    alignments = (("best", "best alignment"), ("frame_wise", "straight line"), ("random", "random alignment"))
    distances = [*alignments, ("wrong_text", "best, wrong text")]
    recalls = [
        (f"{direction}_recall_{k}", f"{said}, {where}")
        for direction, said in (("audio_to_text", "speech finds text"), ("text_to_audio", "text finds speech"))
        for k, where in ((1, "first"), (10, "among 10"))
    ]
    panels = (
        ("Distance of speech and text", "1: any two frames", 1, [(f"relative_{key}", said) for key, said in distances]),
        (f"Retrieval among {rows[0]['utterances']}", "%", 100, recalls),
        ("Error of word boundaries", "ms", 1, [(f"{key}_boundary_ms", said) for key, said in alignments]),
    )
    labels = [row["layer"] for row in rows]
    charts = []
    for title, unit, factor, names in panels:
        series = [
            {
                "name": said,
                "points": [[k, short(factor * row[key])] for k, row in enumerate(rows) if row[key] is not None],
            }
            for key, said in names
        ]
        series = [one for one in series if one["points"]]
        if series:
            charts.append({"title": title, "unit": unit, "x": "layer", "labels": labels, "series": series})
    return charts


def short(value: float) -> float:
    """Return a number with five significant digits."""
    return float(f"{value:.5g}")
