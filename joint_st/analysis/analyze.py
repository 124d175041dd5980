"""The layer analysis of a run's checkpoint on held-out pairs: a table, JSON and figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import jax
import rich

from joint_st import storage
from joint_st.analysis.layers import LayerAnalysis
from joint_st.analysis.report import LayerReport
from joint_st.config import Source, load
from joint_st.data.dataset import Dataset, open_paired
from joint_st.distributed.mesh import keep_compiled
from joint_st.errors import UserError
from joint_st.evaluation.origin import SUFFIX, Origin
from joint_st.evaluation.report import as_json, keep_all, raise_first, write_output_rows, write_rows
from joint_st.figures import save_figure
from joint_st.runs.directory import RunDirectory, existing_run
from joint_st.runs.trained import Trained, load_trained


def refuse_without_text(run: RunDirectory) -> None:
    """Raise `UserError` for a run that has no text units."""
    if load(run.config).data.units.kind == "none":
        raise UserError(
            f"{run.config}: data.units.kind is none: the model reads no text, so there is nothing to compare its "
            "speech with; analyze a run trained with text units"
        )


UTTERANCES = 200
"""Largest number of utterances of an analysis, if no other is given; `joint-st report` shows an analysis of as many."""


def analyze_layers(
    trained: Trained, data: Mapping[str, Source] | None = None, *, utterances: int = UTTERANCES
) -> LayerReport:
    """Analyze the layers of a trained model on a named source, the first test split of its config by default.

    At most `utterances` are taken, evenly spread over the split. Raises `UserError` for a model that has no text units,
    and where there is no split or more than one is given.
    """
    refuse_without_text(trained.run)
    split, source = trained.split(data)
    return _analyze(trained, open_pairs(trained, source), split, utterances)


def open_pairs(trained: Trained, source: Source) -> Dataset:
    """Open the utterances of a source with their text units; no audio is decoded."""
    config = trained.config
    made_with = (config.data, config.model.features, trained.normalizer, trained.tokenizer, trained.units)
    return open_paired([source], *made_with, training=False)


def _analyze(trained: Trained, dataset: Dataset, split: str, utterances: int) -> LayerReport:
    config = trained.config
    keep_compiled(config.training.compilation_cache)
    with jax.set_mesh(trained.mesh):
        analysis = LayerAnalysis(
            config, dataset, trained.mesh, trained.symbols.sizes, utterances=utterances, name=split
        )
        return analysis(trained.weights)


def analysis_origin(trained: Trained, split: str, source: Source, dataset: Dataset) -> Origin:
    """Return the origin that an analysis of a checkpoint on a source, opened as a dataset, has."""
    what = (trained.run, trained.step, str(trained.normalizer), {split: source})
    origin = Origin.of(*what, {}, 0.0, trained.look_ahead_ms)
    return dataclasses.replace(origin, texts=dataset.fingerprint_of_texts)


def analyze_run(
    workdir: Path,
    *,
    data: Mapping[str, Source] | None = None,
    checkpoint: str = "best",
    utterances: int = UTTERANCES,
    json_file: Path | None = None,
) -> list[dict]:
    """Analyze the layers of the run in `workdir` on a named source, its first test split by default.

    Prints the tables and returns the rows, one for each layer. They and the figures are also written into the run's
    `analysis`, and the rows where asked. At most `utterances` are taken, evenly spread over the split.

    Raises `UserError` for a run that has no text units, and where there is no split or more than one is given.
    """
    refuse_without_text(existing_run(workdir))
    trained = load_trained(workdir, checkpoint)
    rows, problems = analyze_and_keep(trained, *trained.split(data), utterances=utterances, json_file=json_file)
    raise_first(problems)
    return rows


def analyze_and_keep(
    trained: Trained, split: str, source: Source, *, utterances: int = UTTERANCES, json_file: Path | None = None
) -> tuple[list[dict], list[str]]:
    """Analyze the layers of a trained model as `analyze_run` does; return the rows, and a line about each file that could
    not be written."""
    run, dataset = trained.run, open_pairs(trained, source)
    report = _analyze(trained, dataset, split, utterances)
    shared = {"split": split, "step": trained.step, "normalizer": str(trained.normalizer), **report.facts}
    rows = [{"layer": row["layer"], **shared, **row} for row in report.rows]
    table = run.analysis(trained.step, split, None if utterances == UTTERANCES else utterances)
    folder, own = table.parent, table.stem
    origin = analysis_origin(trained, split, source, dataset)
    # Files asked for come first, and all of them before the table is printed: nothing is lost with the terminal.
    files = [(json_file, lambda path: write_output_rows(rows, path))] if json_file else []
    files.append((table, lambda path: write_rows(rows, path)))
    files.append((table.with_suffix(SUFFIX), lambda path: storage.write_whole(path, origin.content(as_json(rows)))))
    for name, figure in report.figures().items():
        files.append((folder / f"{own}_{name}.png", lambda path, figure=figure: save_figure(figure, path)))
    problems = keep_all(files)
    rich.print(report.table())
    if not problems:  # which say where they are instead
        print(f"figures in {folder}: {own}_*.png")
    return rows, problems
