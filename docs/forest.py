"""Figures of values with their intervals, a line for each: SVG that stands in a page itself and takes its colours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Interval = tuple[float, float | None, float | None]
"""A value and its interval, in percent; None where there is none."""

WIDTH, LABELS, RIGHT = 760, 250, 20
LINE, TOP, BOTTOM = 24, 30, 40
COLOURS = ("#1b7fc4", "#e0700d", "#2a9d5c", "#b5529b")
"""Of the series, told apart by shape too: they can be seen on white and on black, and by the colour-blind."""
SHAPES = ("circle", "square", "diamond", "triangle")
STEPS = (1, 2, 5, 10, 20, 50, 100)
MOST_TICKS = 9


def forest(lines: Sequence[tuple[str, Mapping[str, Interval]]], axis: str) -> str:
    """Return a figure with a line for each label, and on it a mark and a bar for each of its series.

    lines: label and, by the name of the series, the value and its interval. axis: what is drawn, written below.
    Bars are cut where they leave the range of all values, widened by half.
    """
    series = list(dict.fromkeys(name for _, values in lines for name in values))
    points = [value for _, values in lines for value, _, _ in values.values()]
    ends = [end for _, values in lines for _, *interval in values.values() for end in interval if end is not None]
    room = 0.5 * (max(points) - min(points) or 1)
    low, high, step = _range(max(min(points + ends), min(points) - room), min(max(points + ends), max(points) + room))
    height = TOP + LINE * len(lines) + BOTTOM

    def x(value: float) -> float:
        return LABELS + (min(max(value, low), high) - low) / (high - low) * (WIDTH - LABELS - RIGHT)

    parts = [_legend(series)]
    bottom = TOP + LINE * len(lines)
    for tick in range(low, high + 1, step):
        strong = ' stroke-width="1.5"' if tick == 0 else ' stroke-opacity="0.2"'
        parts.append(
            f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP}" y2="{bottom}" stroke="currentColor"{strong}/>'
        )
        parts.append(_text(x(tick), bottom + 15, f"{tick}", "middle", "tick"))
    parts.append(_text((LABELS + WIDTH - RIGHT) / 2, bottom + 33, axis, "middle"))
    for place, (label, values) in enumerate(lines):
        middle = TOP + LINE * (place + 0.5)
        if place % 2:
            band = f'y="{middle - LINE / 2:g}" width="{WIDTH}" height="{LINE}" fill-opacity="0.05"'
            parts.append(f'<rect x="0" {band}/>')
        parts.append(_text(LABELS - 10, middle + 4, label, "end", "label"))
        for name, (value, least, most) in values.items():
            number = series.index(name)
            y = middle + (number - (len(series) - 1) / 2) * (LINE - 6) / len(series)
            if least is not None and most is not None:
                parts.append(
                    f'<line x1="{x(least):.1f}" x2="{x(most):.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{COLOURS[number]}" stroke-width="1.5"/>'
                )
            parts.append(_mark(number, x(value), y))
    inside = "\n".join(parts)
    return (
        f'<div class="forest">\n<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(axis)}" '
        f'font-size="12" fill="currentColor">\n{inside}\n</svg>\n</div>'
    )


def _range(low: float, high: float) -> tuple[int, int, int]:
    """Return a range that holds both ends, and the step of its ticks."""
    step = next(step for step in STEPS if (high - low) / step <= MOST_TICKS or step == STEPS[-1])
    return math.floor(low / step) * step, math.ceil(high / step) * step, step


def _legend(series: Sequence[str]) -> str:
    lengths = [30 + 6.2 * len(name) for name in series]
    parts, x = [], (WIDTH - sum(lengths)) / 2
    for number, name in enumerate(series):
        parts += [_mark(number, x, 11), _text(x + 9, 15, name, "start", "series")]
        x += lengths[number]
    return "\n".join(parts)


def _mark(number: int, x: float, y: float) -> str:
    colour, shape = COLOURS[number], SHAPES[number]
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>'
    corners = {
        "square": ((-3, -3), (3, -3), (3, 3), (-3, 3)),
        "diamond": ((0, -4), (4, 0), (0, 4), (-4, 0)),
        "triangle": ((0, -4), (4, 3), (-4, 3)),
    }[shape]
    return f'<polygon points="{" ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)}" fill="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "axis") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(text)}</text>'
