"""Reliability diagrams: the share of correct words against confidence, before and after calibration."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from joint_st.evaluation.calibration import JudgedWords, expected_calibration_error, reliability
from joint_st.figures import BLUE, GREY, VERMILION

STATES = {"before": ("as they are", VERMILION, "s"), "after": ("calibrated", BLUE, "o")}
"""Label, colour and marker of each state."""

COLUMNS = 4


def reliability_figure(words: Mapping[tuple, JudgedWords]) -> Figure:
    """Draw a panel for each split, head and decoder: a point for each bin of as many words, which lies on the diagonal
    if the confidences are right.

    words: by (split, head, decoder, `before` or `after`).
    """
    panels = list(dict.fromkeys(key[:3] for key, own in words.items() if len(own.confidences)))
    columns = min(COLUMNS, max(len(panels), 1))
    rows = -(-max(len(panels), 1) // columns)
    style = {"font.size": 8, "axes.titlesize": 8, "axes.titlelocation": "left", "legend.frameon": False}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(2.7 * columns, 2.9 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax, panel in zip(axes, panels):
            _panel(ax, panel, words)
        for ax in axes[len(panels) :]:
            ax.axis("off")
    return figure


def _panel(ax, panel: tuple, words: Mapping[tuple, JudgedWords]) -> None:
    ax.plot([0, 100], [0, 100], color=GREY, linestyle=":", linewidth=1)
    for state, (label, colour, marker) in STATES.items():
        own = words.get((*panel, state))
        if own is None:
            continue
        points = 100 * np.array([bin[:2] for bin in reliability(own.confidences, own.correct)])
        error = 100 * expected_calibration_error(own.confidences, own.correct)
        style = {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.2}
        ax.plot(*points.T, label=f"{label}: ECE {error:.1f} %", **style)
    split, head, decoder = panel
    ax.set_title(f"{split}\n{head}, {decoder.partition(',')[0]}", parse_math=False)
    ax.set_xlim(0, 100)
    ax.set_ylim(0, 100)
    ax.set_aspect("equal")
    ax.set_xlabel("confidence (%)")
    ax.set_ylabel("words that are correct (%)")
    ax.legend(loc="upper left", fontsize=7)
