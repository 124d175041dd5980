"""Errors of word boundaries against the true times, and the table that shows them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from rich import box
from rich.table import Table

from joint_st.data.scripts import tokens_of
from joint_st.passes import PASSES
from joint_st.tables import escape
from joint_st.word_times.spans import Aligned, Failed, Span, words_of_units

UNITS = "units"
"""Name of the head that recognises text units, in addition to `streaming` and `full_context`."""


def signed_boundary_errors(words: Sequence[Span], true: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the signed errors of words' beginnings and ends in seconds, float64 [words, 2]; positive where they are
    late.

    true: seconds at which every word of the text begins and ends, NaN where that is unknown, as are then the errors;
    some of these words may be missing in `words`.
    """
    found = np.array([(span.start, span.end) for span in words]).reshape(-1, 2)
    return found - np.stack(true, axis=1)[[span.word for span in words]]


def make_rows(split: str, results: Iterable[Aligned | Failed]) -> list[dict]:
    """Return a row for the head that was aligned and, where there are text units, one for the head that recognises
    them. Where no utterance could be aligned, one row with an empty `head` has their number as `failed`.

    `start_ms` and `end_ms` are mean absolute errors of words' beginnings and ends, `boundary_ms` is that of both, and
    `late_ms` the mean signed error; they are None where no true times are known. `confidence` is a mean over words.
    """
    results = list(results)
    aligned = [result for result in results if isinstance(result, Aligned)]
    found = defaultdict(list)
    for one in aligned:
        found[one.head].append((one, one.words))
    for one in aligned:
        if one.units is not None and one.head in PASSES:
            found[UNITS].append((one, words_of_units([token.text for token in tokens_of(one.text)], one.units)))
    if results and not aligned:
        found[""] = []
    return [
        {
            "split": split,
            "head": head,
            "utterances": len(some),
            "failed": len(results) - len(some),
            "words": sum(len(words) for _, words in some),
            "confidence": _mean([span.confidence for _, words in some for span in words]),
            **_milliseconds([signed_boundary_errors(words, one.true) for one, words in some if one.true is not None]),
        }
        for head, some in found.items()
    ]


def _milliseconds(errors: list[np.ndarray]) -> dict:
    late = 1000 * np.concatenate([np.zeros((0, 2)), *errors])
    off = np.abs(late)
    return {
        "start_ms": _mean(off[:, 0]),
        "end_ms": _mean(off[:, 1]),
        "boundary_ms": _mean(off),
        "late_ms": _mean(late),
    }


def _mean(numbers) -> float | None:
    known = np.asarray(numbers, np.float64)
    known = known[~np.isnan(known)]
    return float(np.mean(known)) if known.size else None


def make_times_table(rows: Sequence[dict], title: str) -> Table:
    """Return the rows as a table for `rich.print`."""
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    table.add_column("split", overflow="fold")
    table.add_column("head", no_wrap=True)
    for name in ("utts", "failed", "words", "conf.", "start ms", "end ms", "both ms", "late ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        counts = (str(row[name]) for name in ("utterances", "failed", "words"))
        confidence = "-" if row["confidence"] is None else f"{row['confidence']:.3f}"
        errors = (row[name] for name in ("start_ms", "end_ms", "boundary_ms", "late_ms"))
        table.add_row(
            escape(row["split"]), row["head"], *counts, confidence, *("-" if x is None else f"{x:.0f}" for x in errors)
        )
    return table
