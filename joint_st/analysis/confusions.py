"""Counts which text units the auxiliary CTC of units (`losses.unit_ctc`) recognises as which others."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import rich
import tqdm
from rich import box
from rich.table import Table

from joint_st import storage
from joint_st.analysis.reading import Heard, compare_readings, greedy_labels, readings_table
from joint_st.config import Source
from joint_st.data.buckets import Buckets
from joint_st.data.confusions import Confusions
from joint_st.data.dataset import Dataset, open_paired
from joint_st.data.loader import batches, reading
from joint_st.data.plan import BatchPlan
from joint_st.data.text_units.units import PADDING
from joint_st.decoding.decoders import Greedy
from joint_st.decoding.long import in_one_window
from joint_st.distributed.mesh import fetch, keep_compiled, put_batch, rows_here, rows_shared
from joint_st.errors import UserError
from joint_st.evaluation.wer import INSERT, align_words
from joint_st.heads.model import model_structure
from joint_st.models.functional import merge
from joint_st.runs.trained import Trained, load_trained
from joint_st.tables import escape

log = logging.getLogger(__name__)

SHOWN = 15
"""Confusions in the printed table."""


def count_confusions(pairs: Iterable[tuple[Sequence[int], Sequence[int]]], symbols: tuple[str, ...]) -> Confusions:
    """Return the counts over pairs of the units that were said and those that were heard.

    Each pair is aligned with as few substitutions, deletions and insertions as possible.
    """
    heard, inserted = np.zeros((len(symbols),) * 2, np.int64), np.zeros(len(symbols), np.int64)
    for said, other in pairs:
        for op in align_words(list(said), list(other)):
            if op.kind == INSERT:
                inserted[op.hypothesis] += 1
            else:
                heard[op.reference, PADDING if op.hypothesis is None else op.hypothesis] += 1
    return Confusions(symbols, heard, inserted)


def recognise_units(trained: Trained, dataset: Dataset, name: str) -> Iterable[Heard]:
    """Yield what is recognised in each readable utterance with text units: units, and labels of the heads that learn to
    read text too. Longer utterances than a window (`Config.window_seconds`) are left out, with a warning."""
    config, mesh, passes = trained.config, trained.mesh, trained.config.text_heads
    structure = model_structure(config, trained.symbols.sizes)

    @jax.jit
    def best(weights, audio, lengths):
        model = merge(structure, weights)
        encoded = model(audio, lengths) if passes else model.encode_audio(audio, lengths)
        units = jnp.where(encoded.mask, jnp.argmax(encoded.units, axis=-1), PADDING)
        return units, greedy_labels(model, encoded, passes, mesh) if passes else ()

    seconds = config.window_seconds
    kept = in_one_window(config, dataset)
    if not kept.any():
        raise UserError(f"{name}: all utterances are longer than {seconds:g} s; cut them, or name another source")
    if not kept.all():
        log.warning("%s: left out %d of %d utterances, longer than %g s", name, (~kept).sum(), len(kept), seconds)
    buckets = Buckets.choose(
        dataset.lengths[kept],
        dataset.label_lengths[kept],
        dataset.unit_lengths[kept],
        count=config.data.buckets,
        multiple=config.model.features.samples_per_frame,
        batch_size=config.evaluation.batch_size,
    )
    plan = BatchPlan(dataset.lengths, buckets, shuffle=False, leave_longer=True)
    read = batches(
        dataset,
        plan,
        parts=rows_here(mesh),
        shared=rows_shared(mesh),
        **reading(config.data),
    )
    fields = ("audio", "audio_lengths", "units", "unit_lengths")
    for batch in tqdm.tqdm(read, name, plan.steps_per_epoch, unit="batch", leave=False, disable=None, delay=1):
        rows = put_batch({field: batch.arrays["paired"][field] for field in fields}, mesh)
        found = best(trained.weights, rows["audio"], rows["audio_lengths"])
        (frames, emitted), units, lengths = fetch((found, rows["units"], rows["unit_lengths"]))
        labels = {head: Greedy().on_host(own) for head, own in zip(passes, emitted)}
        for row in np.flatnonzero(lengths):
            own = {head: by_row[row] for head, by_row in labels.items()}
            said = units[row, : lengths[row]].tolist()
            yield Heard(int(batch.rows["paired"][row]), said, collapsed(frames[row]), own)


def collapsed(frames: np.ndarray) -> list[int]:
    """Return the units that CTC emits by the best unit of each frame, int [T]."""
    first = np.append(True, frames[1:] != frames[:-1])
    return frames[first & (frames != PADDING)].tolist()


def measure_confusions(
    workdir: Path, *, data: Mapping[str, Source] | None = None, checkpoint: str = "best", output: Path | None = None
) -> Confusions:
    """Count the confusions of a run's checkpoint on its dev set, or on a named source; print and write them. Of a model
    that learns from text, do the same for what it reads out of the units that were said and out of those recognised.

    The file is the run's `confusions.json`, unless `output` names another. Raises `UserError` for a run without text
    units or without `losses.unit_ctc`, where there are no utterances with text, and where several sources are given.
    """
    trained = load_trained(workdir, checkpoint)
    config = trained.config
    if trained.units is None or not config.losses.trains_units:
        raise UserError(
            f"{trained.run.config}: losses.unit_ctc.weight is 0: the model does not recognise text units; take a run "
            "that was trained with it"
        )
    if data:
        name, source = trained.split(data)
        sources = [source]
    else:
        name, sources = "dev", list(config.data.dev)
        if not sources:
            raise UserError(f"{trained.run.config}: data.dev is empty; give --data NAME=SOURCE")
    keep_compiled(config.training.compilation_cache)
    made_with = config.data, config.model.features, trained.normalizer, trained.tokenizer, trained.units
    dataset = open_paired(sources, *made_with, training=False)
    with jax.set_mesh(trained.mesh):
        heard = list(recognise_units(trained, dataset, name))
        found = count_confusions(((one.said, one.units) for one in heard), trained.units.symbols)
        if not found.units:
            raise UserError(f"{name}: none of its utterances can be read and has text units")
        readings = compare_readings(trained, dataset, heard) if config.text_heads else []
    path = output or trained.run.confusions
    made_by = {"run": config.name, "step": trained.step, "split": name, "utterances": len(heard)}
    content = found.to_json(
        made_by, {one.what: one.rates for one in readings}, {one.what: one.subsets for one in readings}
    )
    write = storage.write_output if output else storage.write_whole
    problem = storage.keep(lambda path: write(path, content), path)
    rich.print(make_table(found, f"text units of {name}, {len(heard)} utterances, step {trained.step}"))
    if readings:
        rich.print(readings_table(readings, f"what the shared layers read, greedily, {name}"))
    if problem:
        raise UserError(problem)
    print(f"counts in {path}; a config takes them as text.confusions")
    return found


def make_table(found: Confusions, title: str) -> Table:
    """Return the error rate of units and the most frequent confusions as a table for `rich.print`."""
    kinds = {"sub": found.substitutions, "del": found.deletions, "ins": found.insertions}
    rates = ", ".join(f"{name} {count / found.units:.1%}" for name, count in kinds.items())
    table = Table(
        title=escape(f"{title}\n{found.units} units, {found.error_rate:.1%} errors: {rates}"), title_justify="left"
    )
    table.box = box.SIMPLE_HEAD
    for column in ("said", "heard", "count", "% of said"):
        table.add_column(column, justify="left" if column in ("said", "heard") else "right")
    wrong = found.heard.copy()
    np.fill_diagonal(wrong[1:, 1:], 0)
    for place in np.argsort(-wrong, axis=None, kind="stable")[:SHOWN]:
        said, heard = np.unravel_index(place, wrong.shape)
        if not wrong[said, heard]:
            break
        names = found.symbols[said], "(nothing)" if heard == PADDING else found.symbols[heard]
        share = wrong[said, heard] / found.heard[said].sum()
        table.add_row(
            *(escape(repr(one) if one == " " else one) for one in names), str(wrong[said, heard]), f"{share:.1%}"
        )
    return table
