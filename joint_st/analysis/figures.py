"""Figures of a layer analysis: curves over the layers, and the alignment of one utterance.

Lines also differ in their markers, not in their colours alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from joint_st.analysis.pairs import ExamplePair
from joint_st.figures import BLUE, GREY, ORANGE, STYLE, VERMILION, any_script

KINDS = {
    "best": ("best alignment", BLUE, "o"),
    "frame_wise": ("frame-wise (straight line)", ORANGE, "s"),
    "random": ("random alignment", GREY, "^"),
    "wrong_text": ("best, wrong text", VERMILION, "D"),
}
"""Label, colour and marker of each alignment."""

MOST_NAMES = 9
"""Most layers that are named on an axis."""

MOST_PANELS = 4
"""Most layers that are shown of one utterance."""


def curves(rows: Sequence[dict], facts: dict) -> Figure:
    """Draw distances, retrieval and, where word times are known, boundary errors by layer, side by side."""
    timed = any(row["best_boundary_ms"] is not None for row in rows)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.4 * (2 + timed), 4.3), layout="constrained")
        axes, keys = figure.subplots(2, 2 + timed, height_ratios=(3.4, 1))
        _distances(axes[0], rows)
        _retrieval(axes[1], rows, facts["utterances"], facts["chance"])
        if timed:
            _boundaries(axes[2], rows)
        for ax, key in zip(axes, keys):
            _name_layers(ax, [row["layer"] for row in rows])
            # Below the axes, so that it covers no curve.
            key.axis("off")
            key.legend(*ax.get_legend_handles_labels(), loc="upper center", handlelength=2.4, borderaxespad=0)
    return figure


def _distances(ax, rows):
    for kind, (label, colour, marker) in KINDS.items():
        _line(ax, rows, f"relative_{kind}", label, colour, marker)
    ax.set_title("Distance of speech and text")
    ax.set_ylabel("distance per frame (1: any two frames)")
    _finish(ax)


def _retrieval(ax, rows, utterances, chance):
    for direction, label, colour, style in (
        ("audio_to_text", "speech finds text", BLUE, "-"),
        ("text_to_audio", "text finds speech", VERMILION, "--"),
    ):
        _line(ax, rows, f"{direction}_recall_1", f"{label}, first", colour, "o", style, scale=100)
        _line(ax, rows, f"{direction}_recall_10", f"{label}, in 10", colour, "^", style, scale=100, alpha=0.55)
    ax.axhline(100 * chance, color=GREY, linestyle=":", linewidth=1, label="chance, first")
    ax.set_title(f"Retrieval among {utterances}")
    ax.set_ylabel("recall (%)")
    _finish(ax, top=105)


def _boundaries(ax, rows):
    for kind, (label, colour, marker) in list(KINDS.items())[:3]:
        _line(ax, rows, f"{kind}_boundary_ms", label, colour, marker)
    ax.set_title("Word boundaries")
    ax.set_ylabel("mean error (ms)")
    _finish(ax)


def _line(ax, rows, key, label, colour, marker, style="-", scale=1.0, alpha=1.0):
    values = [np.nan if row[key] is None else scale * row[key] for row in rows]
    if not np.all(np.isnan(values)):
        ax.plot(values, color=colour, marker=marker, linestyle=style, label=label, alpha=alpha)


def _finish(ax, top=None):
    ax.set_ylim(0, top or 1.05 * max(ax.get_ylim()[1], 1e-6))
    ax.grid(axis="y")
    ax.set_axisbelow(True)


def _name_layers(ax, names):
    every = -(-len(names) // MOST_NAMES)
    shown = range(0, len(names), every)
    ax.set_xlim(-0.25, len(names) - 0.75)
    ax.set_xticks(list(shown), [names[i] for i in shown], rotation=30, ha="right", rotation_mode="anchor")


def alignment_figure(example: ExamplePair) -> Figure:
    """Draw the distances between one utterance's audio frames (seconds) and its text frames (units), and the best path.

    There is one panel for each layer, or for some if there are many. Where word times are known, each word is a box:
    the time in which it was spoken, and the units it is spelled with; a good path goes through every box.
    """
    layers = len(example.layers)
    panels = np.linspace(0, layers - 1, min(MOST_PANELS, layers)).round().astype(int)
    units = int(example.unit.max(initial=0)) + 1
    height = float(np.clip(0.105 * units + 1.3, 2.8, 8.0))
    with matplotlib.rc_context(STYLE | {"axes.spines.top": True, "axes.spines.right": True}):
        figure = Figure(figsize=(1.0 + 2.9 * len(panels), height), layout="constrained")
        axes = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
        for ax, layer in zip(axes, panels):
            _cost_map(ax, example, layer)
        _name_units(axes[0], example)
        axes[0].set_ylabel("text units")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        figure.suptitle(f"{example.id}: {example.text}", x=0.01, ha="left", fontsize=10, parse_math=False)
    return figure


def _cost_map(ax, example: ExamplePair, layer: int):
    costs = example.costs[layer].T
    frames, step = costs.shape[1], example.frame_seconds
    low, high = np.percentile(costs, [1, 99])
    # Dark means a small distance: a good alignment runs along a dark ridge.
    ax.imshow(
        costs,
        cmap="Greys_r",
        vmin=low,
        vmax=max(high, low + 1e-6),
        origin="lower",
        extent=(0, frames * step, 0, costs.shape[0]),
        aspect="auto",
        interpolation="nearest",
    )
    times = (np.arange(frames) + 0.5) * step
    ax.plot(times, example.positions[layer] + 0.5, color=ORANGE, linewidth=1.4, label="best alignment")
    spoken = example.spoken_times()
    for word, (first, last) in enumerate(example.word_spans() if spoken is not None else ()):
        start, end = spoken[word]
        label = None if word else "word, when it was spoken"
        box = Rectangle((start, first), end - start, last - first, fill=False, ec=BLUE, linewidth=1.3, label=label)
        ax.add_patch(box)
    ax.set_title(example.layers[layer])
    ax.set_xlabel("time (s)")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    if example.word_times is not None:
        _name_words(ax, example)


def _name_words(ax, example: ExamplePair):
    """Write the words on a second time axis above the panel, each in the middle of its time."""
    above = ax.secondary_xaxis("top")
    middles, words = example.spoken_times().mean(axis=1), example.spoken_words()
    slanted = {"rotation": 45, "ha": "left", "rotation_mode": "anchor"}
    above.set_xticks(middles, words, **slanted, fontsize=7, parse_math=False)
    above.tick_params(length=2, pad=1)


def _name_units(ax, example: ExamplePair):
    """Write each unit's symbol in the middle of its text frames."""
    units = np.unique(example.unit)
    middles = [np.mean(np.flatnonzero(example.unit == unit)) + 0.5 for unit in units]
    symbols = [example.symbols[unit].replace(" ", "␣") for unit in units]
    ax.set_yticks(middles, symbols, fontsize=6, parse_math=False)
    ax.tick_params(axis="y", length=1.5, pad=1)


def figure_to_image(figure: Figure) -> np.ndarray:
    """Return the figure as an image, uint8 [H, W, 3]."""
    canvas = FigureCanvasAgg(figure)
    with any_script():
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
