"""What the shared layers read out of speech, of the units recognised in it, and of the units that were said.

Text teaches the layers that it shares with speech. Whether that is what a recogniser lacks shows in three word error
rates. If the layers read the units that were said well, but the recognised ones badly, the model hears too little; if they
read even those that were said badly, it spells too little. Where the boundary between words is a unit, which has no sound,
two more rates say what it costs that this unit is recognised badly, and what it costs that the others are. Words that only the
text has are the ones to look at: the layers may have learnt all words that speech has as well, and few others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from rich import box
from rich.table import Table

from joint_st.data.dataset import Dataset
from joint_st.data.text_units import BOUNDARY
from joint_st.decoding.decoders import Greedy
from joint_st.distributed.mesh import fetch
from joint_st.evaluation.report import percent
from joint_st.evaluation.wer import ALL, align_words, count_errors, total
from joint_st.heads.model import model_structure
from joint_st.models.encoder import Encoded
from joint_st.models.functional import merge
from joint_st.models.text_encoder import most_frames, repetitions
from joint_st.runs.trained import Trained
from joint_st.tables import escape

MULTIPLE = 32
"""The padded number of units is a multiple of this."""


class Heard(NamedTuple):
    """What was recognised in an utterance."""

    index: int
    """Number of the utterance in its data set."""
    said: list[int]
    """Text units of its transcript."""
    units: list[int]
    """Text units that CTC recognises greedily."""
    labels: dict[str, np.ndarray]
    """Labels that the heads emit, by pass, int32 [L]."""


def greedy_labels(model, encoded: Encoded, passes: Sequence[str], mesh) -> tuple[jax.Array, ...]:
    """Return what frames emit by greedy search, for the heads of some passes, as `Greedy` does."""
    heads = [model.head(name) for name in passes]
    emissions = [head.emissions(getattr(encoded, name)) for head, name in zip(heads, passes)]
    return Greedy().on_device(heads, emissions, encoded.mask, mesh, None)


def read_units(trained: Trained, rows: Sequence[Sequence[int]]) -> dict[str, list[np.ndarray]]:
    """Return the labels that the heads emit for text of some units, by pass, int32 [L].

    Units last as long as the config repeats them on average. Heads that do not learn to read text are left out.
    """
    config, mesh, size = trained.config, trained.mesh, trained.config.evaluation.batch_size
    structure, passes = model_structure(config, trained.symbols.sizes), config.text_heads
    width = -(-max([1, *map(len, rows)]) // MULTIPLE) * MULTIPLE

    @jax.jit
    def read(weights, units, lengths):
        model = merge(structure, weights)
        repeated = repetitions(config.text, lengths, width)
        x, mask, _ = model.encode_text(units, repeated, most_frames(config.text, width))
        return greedy_labels(model, model.shared_of_text(x, mask), passes, mesh)

    found: dict[str, list[np.ndarray]] = {name: [] for name in passes}
    for first in range(0, len(rows), size):
        some = rows[first : first + size]
        units, lengths = np.zeros((size, width), np.int32), np.zeros(size, np.int32)
        for k, row in enumerate(some):
            units[k, : len(row)], lengths[k] = row, len(row)
        for name, emitted in zip(passes, fetch(read(trained.weights, units, lengths))):
            found[name] += Greedy().on_host(emitted)[: len(some)]
    return found


READ = {
    "speech": "speech",
    "recognised": "its units as recognised, as text",
    "recognised_but_boundaries": "as recognised, boundaries as said",
    "said_but_boundaries": "as said, boundaries as recognised",
    "said": "its units as said, as text",
}
"""What is read, by its name in files."""


class Reading(NamedTuple):
    """Word error rates of what is read out of one kind of input."""

    what: str
    """One of `READ`."""
    rates: dict[str, float]
    """Word errors for each word of the reference, by pass."""
    subsets: dict[str, dict[str, float]]
    """The same of each subset of the words, by pass."""


def compare_readings(trained: Trained, dataset: Dataset, heard: Sequence[Heard]) -> list[Reading]:
    """Return the word error rates of speech, of its units as recognised, and of its units as said; where boundaries between
    words are units, those of both mixtures too."""
    references = [dataset.normalizer(dataset.text(one.index)) for one in heard]

    def reading(what: str, found: dict[str, Iterable[np.ndarray]]) -> Reading:
        rates, subsets = {}, {}
        for name, rows in found.items():
            texts = [dataset.normalizer(trained.tokenizer.decode(labels)) for labels in rows]
            counted = [count_errors(*pair, trained.vocabulary.subset_of) for pair in zip(references, texts)]
            kinds = sorted({kind for one in counted for kind in one})
            by_kind = {kind: total(one[kind] for one in counted if kind in one).wer for kind in kinds}
            rates[name] = by_kind.pop(ALL)
            subsets[name] = by_kind
        return Reading(what, rates, subsets)

    rows = {"recognised": [one.units for one in heard], "said": [one.said for one in heard]}
    if BOUNDARY in trained.units.symbols:
        boundary = trained.units.symbols.index(BOUNDARY)
        rows["recognised_but_boundaries"] = [with_boundaries(one.units, one.said, boundary) for one in heard]
        rows["said_but_boundaries"] = [with_boundaries(one.said, one.units, boundary) for one in heard]
    read = {"speech": {name: [one.labels[name] for one in heard] for name in trained.config.text_heads}}
    together = read_units(trained, [row for own in rows.values() for row in own])  # in one program
    for n, what in enumerate(rows):
        first, last = n * len(heard), (n + 1) * len(heard)
        read[what] = {name: found[first:last] for name, found in together.items()}
    return [reading(what, read[what]) for what in READ if what in read]


def with_boundaries(units: Sequence[int], other: Sequence[int], boundary: int) -> list[int]:
    """Return `units` with the boundaries between words of `other` in place of their own.

    Both are aligned with as few substitutions, deletions and insertions as possible.
    """
    found = []
    for op in align_words(list(units), list(other)):
        if op.reference not in (None, boundary):
            found.append(op.reference)
        if op.hypothesis == boundary:
            found.append(boundary)
    return found


def readings_table(readings: Sequence[Reading], title: str) -> Table:
    """Return word error rates as a table for `rich.print`."""
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("what is read")
    for name in readings[0].rates:
        table.add_column(f"{name.replace('_', '-')} WER %", justify="right")
    for one in readings:
        table.add_row(READ[one.what], *map(percent, one.rates.values()))
        for kind in sorted({kind for by_kind in one.subsets.values() for kind in by_kind}):
            table.add_row(f"  {kind}", *(percent(by_kind.get(kind)) for by_kind in one.subsets.values()))
    return table
