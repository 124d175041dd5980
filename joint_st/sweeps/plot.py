"""The rates of a sweep as a figure: against the one number that its arms override, or by arm."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from joint_st import storage
from joint_st.figures import BLUE, DOTS_PER_INCH, STYLE, VERMILION, any_script
from joint_st.passes import FULL_CONTEXT, STREAMING
from joint_st.sweeps.table import by_split, name_of, subsets_of, title_of, words_of

MARKS = {FULL_CONTEXT: (BLUE, "o"), STREAMING: (VERMILION, "s")}
"""Colour and marker of each head."""

LOGARITHMIC_FROM = 10.0
"""An axis is logarithmic where its largest value is this many times its smallest positive one."""


def draw(rows: Sequence[dict]) -> Figure:
    """Return a figure of the rows that `collect` returns: a row of panels for each split and decoder, a panel for each
    subset of the words, both heads in it, with 95 % intervals; black dots are single seeds.

    Where the arms differ in one field alone, and it holds a number in each, that is the horizontal axis; otherwise the
    arms are listed.
    """
    field = varying_number(rows)
    blocks = list(by_split(rows))
    kinds = [subsets_of(part) for part in blocks]
    columns, most = max(map(len, kinds)), max(map(len, blocks))
    height = 3.0 if field else 1.0 + 0.42 * most
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.4 * columns + 1.2 * (not field), height * len(blocks)), layout="constrained")
        grid = figure.subplots(len(blocks), columns, squeeze=False)
        for axes, part, names in zip(grid, blocks, kinds, strict=True):
            for ax in axes[len(names) :]:
                ax.axis("off")
            for ax, subset in zip(axes, names):
                if field:
                    _curve(ax, part, subset, field)
                else:
                    _arms(ax, part, subset, named=subset == names[0])
                ax.set_title(words_of(subset))
        titles = "\n".join(title_of(part) for part in blocks)
        figure.suptitle(titles, fontsize=7, x=0.01, ha="left", parse_math=False)
        # Above the axes, so that it covers no rate.
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=len(MARKS))
    return figure


def varying_number(rows: Sequence[dict]) -> str | None:
    """Return the dotted path of the only field in which the arms differ, where it holds a number in each."""
    values = {field: [row["overrides"][field] for row in rows] for field in rows[0]["overrides"]}
    varying = [field for field in values if any(value != values[field][0] for value in values[field])]
    if len(varying) != 1 or any(type(value) not in (int, float) for value in values[varying[0]]):
        return None
    return varying[0]


def save_plot(rows: Sequence[dict], path: Path) -> None:
    """Draw the rows into a file, always as PNG."""
    FigureCanvasAgg(figure := draw(rows))
    drawn = io.BytesIO()
    with any_script():
        figure.savefig(drawn, dpi=DOTS_PER_INCH, format="png")
    storage.write_output(path, drawn.getvalue())


def _curve(ax, rows, subset, field):
    rows = sorted(rows, key=lambda row: row["overrides"][field])
    x = np.array([row["overrides"][field] for row in rows], float)
    for head in MARKS:
        _series(ax, x, rows, head, subset, line="-")
    _scale(ax, x)
    ax.set_xlabel(field, parse_math=False)
    ax.set_ylabel("WER (%)")
    ax.set_ylim(bottom=0)
    ax.grid(axis="y")
    ax.set_axisbelow(True)


def _scale(ax, x):
    """Make the axis logarithmic where the numbers span a wide range, with a linear piece for 0."""
    positive = x[x > 0]
    if x.min() >= 0 and len(positive) > 1 and positive.max() / positive.min() >= LOGARITHMIC_FROM:
        if x.min() > 0:
            ax.set_xscale("log")
        else:
            ax.set_xscale("symlog", linthresh=positive.min(), linscale=0.5)
    ax.xaxis.set_major_locator(FixedLocator(x))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(x, [f"{value:g}" for value in x])


def _arms(ax, rows, subset, named):
    y = np.arange(len(rows), dtype=float)
    for head, shift in zip(MARKS, (-0.13, 0.13), strict=True):
        _series(ax, y + shift, rows, head, subset, line="", flat=True)
    ax.set_yticks(y, [row["name"] if named else "" for row in rows], parse_math=False)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlim(left=0)
    ax.set_xlabel("WER (%)")
    ax.grid(axis="x")
    ax.set_axisbelow(True)


def _series(ax, places, rows, head, subset, line, flat=False):
    """Draw the rates of a head at some places, with intervals and single seeds; `flat` puts rates on the x axis."""
    colour, marker = MARKS[head]
    name = name_of("wer", head, subset)
    there = [i for i, row in enumerate(rows) if row.get(name) is not None]
    if not there:
        return
    rates = np.array([[rows[i][name + end] for end in ("", "_low", "_high")] for i in there], float) * 100
    places = places[there]
    # A point estimate may lie outside its own interval. One without an interval (NaN) is drawn without a bar.
    reach = np.maximum([rates[:, 0] - rates[:, 1], rates[:, 2] - rates[:, 0]], 0)
    style = {"color": colour, "marker": marker, "linestyle": line, "capsize": 2.5, "label": head.replace("_", " ")}
    seeds = [(100 * rate, place) for place, i in zip(places, there) for rate in rows[i][f"{name}_by_seed"]]
    single, at = zip(*seeds)
    small = {"color": "black", "marker": ".", "linestyle": "", "markersize": 3, "zorder": 3}
    if flat:
        ax.errorbar(rates[:, 0], places, xerr=reach, **style)
        ax.plot(single, at, **small)
    else:
        ax.errorbar(places, rates[:, 0], yerr=reach, **style)
        ax.plot(at, single, **small)
