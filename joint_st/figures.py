"""The style of all figures, and how they are written to files, whatever scripts their texts are in.

Figures are made without pyplot, so that no global list keeps them and no display is needed.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure

from joint_st import storage

DOTS_PER_INCH = 150

BLUE, ORANGE, VERMILION, GREEN, GREY = "#0072B2", "#E69F00", "#D55E00", "#009E73", "#767676"
"""Colours of Okabe and Ito, which colour-blind people can tell apart."""

STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.grid": False,
    "grid.color": "#e4e4e4",
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.facecolor": "white",
    "svg.fonttype": "none",
}


@contextlib.contextmanager
def any_script() -> Iterator[None]:
    """Draw letters that the font lacks as boxes, without a warning for each; a context."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from")
        warnings.filterwarnings("ignore", r"Matplotlib currently does not support .* natively")
        yield


def save_figure(figure: Figure, path: Path) -> None:
    """Write the figure in the format of the path's suffix; a reader sees the old file or the whole new one."""
    drawn = io.BytesIO()
    with any_script():
        figure.savefig(drawn, dpi=DOTS_PER_INCH, format=path.suffix[1:])
    storage.write_whole(path, drawn.getvalue())
