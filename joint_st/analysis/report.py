"""Results of a layer analysis: a row for each layer, and the tables, scalars and figures that show them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich import box
from rich.console import Group
from rich.table import Table

from joint_st.analysis.measure import ALIGNMENTS, DISTANCES, SIDES
from joint_st.analysis.scores import DEPTHS, retrieve
from joint_st.tables import escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from joint_st.analysis.pairs import ExamplePair

DIRECTIONS = ("audio_to_text", "text_to_audio")


@dataclass(frozen=True)
class Measured:
    """Measurements of `N` pairs at `L` layers."""

    texts: Sequence[str]
    """Normalised texts, [N]."""
    frames: np.ndarray
    """Audio frames and text frames, int [N, 2]: `SIDES`."""
    feasible: np.ndarray
    """Whether all alignments exist, bool [N]; other pairs have no distances and no word times."""
    distances: np.ndarray
    """Mean distance over audio frames, [L, N, 4]: `DISTANCES`; NaN where there is no wrong text."""
    matched: np.ndarray
    """Share of text frames that the best alignment matches, [L, N]."""
    norms: np.ndarray
    """Mean norm over frames, [L, N, 2]: `SIDES`."""
    square_norms: np.ndarray
    """Mean over frames of the squared norm of what the cost compares, [L, N, 2]."""
    centres: np.ndarray
    """Mean over frames of what the cost compares, [L, N, 2, D]."""
    pooled: np.ndarray
    """Mean over frames of the embeddings, [L, N, 2, D]."""
    boundary_seconds: np.ndarray
    """Sum of the absolute errors of word boundaries, [L, N, 3]: `ALIGNMENTS`."""
    boundaries: np.ndarray
    """Number of starts and ends of words whose true times are known, int [N]."""

    def rows(self, names: Sequence[str]) -> list[dict]:
        """Return a row for each layer; unknown values are None.

        `relative_*` is a distance divided by the mean distance between any frame of speech and any frame of text of all
        utterances, so that unrelated frames have 1. This makes layers comparable: neither shrinking the embeddings nor
        a direction that all of them share makes it small.
        """
        frames = np.where(self.feasible[:, None], self.frames, 0)
        counts = np.where(self.feasible, self.boundaries, 0)
        rows = []
        for layer, name in enumerate(names):
            squares, centres = _mean(self.square_norms[layer], frames), _mean(self.centres[layer], frames)
            # E ‖a - t‖² of independent a and t.
            unrelated = max(squares.sum() - 2 * centres[0] @ centres[1], 1e-30)
            distances = dict(zip(DISTANCES, _mean(self.distances[layer], frames[:, :1])))
            audio, text = self.pooled[layer, :, 0], self.pooled[layer, :, 1]
            row = {"layer": name}
            row |= {kind: _number(distance) for kind, distance in distances.items()}
            row |= {f"relative_{kind}": _number(distance / unrelated) for kind, distance in distances.items()}
            row |= {f"{side}_norm": _number(norm) for side, norm in zip(SIDES, _mean(self.norms[layer], frames))}
            row["text_matched"] = _number(_mean(self.matched[layer], self.feasible))
            row["boundaries"] = int(counts.sum())
            for kind, seconds in zip(ALIGNMENTS, self.boundary_seconds[layer].T):
                error = 1000 * seconds[counts > 0].sum() / counts.sum() if counts.any() else math.nan
                row[f"{kind}_boundary_ms"] = _number(error)
            for direction, sides in zip(DIRECTIONS, ((audio, text), (text, audio))):
                found = retrieve(*sides, self.texts)
                row |= {f"{direction}_recall_{k}": found.recall[k] for k in DEPTHS}
                row[f"{direction}_reciprocal_rank"] = found.reciprocal_rank
            rows.append(row)
        return rows


@dataclass(frozen=True)
class LayerReport:
    """Measurements of the layers of one checkpoint on one split."""

    rows: list[dict]
    """A row for each layer, from the encoders' outputs up."""
    facts: dict
    """Facts that all rows share: the best alignment, the cost, the number of utterances, the recall by chance."""
    examples: list[ExamplePair]
    """Pairs that have a figure."""

    def scalars(self) -> dict[str, float]:
        """Return the numbers by name, for loggers: `layers/relative_best/streaming_1`."""
        return {
            f"layers/{name}/{row['layer'].replace(' ', '_')}": value
            for row in self.rows
            for name, value in row.items()
            if name not in ("layer", "boundaries") and value is not None
        }

    def figures(self) -> dict[str, Figure]:
        """Return the figures by name: `layers`, the curves, and `alignment_1`, `alignment_2`, ... of the examples."""
        from joint_st.analysis.figures import alignment_figure, curves

        figures = {"layers": curves(self.rows, self.facts)}
        for number, example in enumerate(self.examples, start=1):
            figures[f"alignment_{number}"] = alignment_figure(example)
        return figures

    def table(self) -> Group:
        """Return three tables for `rich.print`, at most 80 columns wide."""
        facts = self.facts
        left_out = f"{facts['infeasible']} without an alignment (no text, or too few frames for it) are left out"
        infeasible = f";\n{left_out}" if facts["infeasible"] else ""
        headings = dict(zip(DISTANCES, ("best", "frame-\nwise", "random", "wrong\ntext")))
        relative = headings | {"best": "relative\nbest"}
        distances = _table(
            f"distance per audio frame: {facts['cost']}; best alignment: {facts['alignment']}\n"
            f"{facts['utterances']} utterances{infeasible}; relative: to that of any two frames",
            self.rows,
            [(heading, kind, _short) for kind, heading in headings.items()]
            + [(heading, f"relative_{kind}", "{:.3f}".format) for kind, heading in relative.items()],
        )
        measures = {**{f"R@{k}": f"recall_{k}" for k in DEPTHS}, "MRR": "reciprocal_rank"}
        retrieval = _table(
            f"retrieval among {facts['utterances']} by cosine of mean-pooled embeddings\n"
            "(s→t: speech retrieves its text, t→s: text retrieves its speech)",
            self.rows,
            [
                (f"{short}\n{heading}", f"{direction}_{measure}", "{:.1%}".format)
                for direction, short in zip(DIRECTIONS, ("s→t", "t→s"))
                for heading, measure in measures.items()
            ],
        )
        rest = _table(
            f"mean norms; text frames matched;\nmean error of {self.rows[0]['boundaries']} word boundaries, ms",
            self.rows,
            [
                ("audio\nnorm", "audio_norm", _short),
                ("text\nnorm", "text_norm", _short),
                ("text\nmatched", "text_matched", "{:.1%}".format),
                ("words\nbest", "best_boundary_ms", "{:.0f}".format),
                ("frame-\nwise", "frame_wise_boundary_ms", "{:.0f}".format),
                ("random", "random_boundary_ms", "{:.0f}".format),
            ],
        )
        return Group(distances, retrieval, rest)


def _table(title: str, rows: Sequence[dict], columns: Sequence[tuple[str, str, Callable]]) -> Table:
    """Return a table with a row for each layer. columns: heading, key of a row, format of its number."""
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    table.add_column("layer", no_wrap=True)
    for heading, _, _ in columns:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(row["layer"], *("-" if row[key] is None else write(row[key]) for _, key, write in columns))
    return table


def _short(x: float) -> str:
    """Return a number with three significant figures, or all digits before the point."""
    return f"{x:.0f}" if abs(x) >= 99.95 else f"{x:#.3g}"


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted mean of values [N, ...] over the first axis, leaving out NaN; NaN if there are no values.

    weights: [N, ...] with as many axes as they differ in, or fewer.
    """
    weights = weights.reshape(weights.shape + (1,) * (values.ndim - weights.ndim)) * ~np.isnan(values)
    total = weights.sum(axis=0)
    return np.sum(np.nan_to_num(values).astype(np.float64) * weights, axis=0) / np.where(total > 0, total, np.nan)


def _number(x) -> float | None:
    return None if math.isnan(x) else float(x)
