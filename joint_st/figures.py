"""Figures are written to files here, whatever scripts their texts are in."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure

from joint_st import storage

DOTS_PER_INCH = 150


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
