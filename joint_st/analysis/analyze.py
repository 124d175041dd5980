"""The layer analysis of a run's checkpoint on held-out pairs: a table, JSON and figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jax
import rich

from joint_st.analysis.figures import save_figure
from joint_st.analysis.layers import LayerAnalysis
from joint_st.config import Source, load
from joint_st.data.dataset import open_paired
from joint_st.distributed.mesh import keep_compiled
from joint_st.errors import UserError
from joint_st.evaluation.report import write_rows
from joint_st.runs.directory import existing_run
from joint_st.runs.trained import load_trained


def analyze_run(
    workdir: Path,
    *,
    data: Mapping[str, Source] | None = None,
    checkpoint: str = "best",
    utterances: int = 200,
    json_file: Path | None = None,
) -> list[dict]:
    """Analyze the layers of the run in `workdir` on a named source, its first test split by default.

    Prints the tables and returns the rows, one for each layer. They and the figures are also written into the run's
    `analysis`, and the rows where asked. At most `utterances` are taken, evenly spread over the split.

    Raises `UserError` for a run that has no text units, and where there is no split or more than one is given.
    """
    run = existing_run(workdir)
    if load(run.config).data.units.kind == "none":
        raise UserError(
            f"{run.config}: data.units.kind is none: the model reads no text, so there is nothing to compare its "
            "speech with; analyze a run trained with text units"
        )
    trained = load_trained(workdir, checkpoint)
    config = trained.config
    keep_compiled(config.training.compilation_cache)
    split, source = trained.split(data)
    made_with = (config.data, config.model.features, trained.normalizer, trained.tokenizer, trained.units)
    dataset = open_paired([source], *made_with, training=False)
    with jax.set_mesh(trained.mesh):
        analysis = LayerAnalysis(
            config, dataset, trained.mesh, trained.symbols.sizes, utterances=utterances, name=split
        )
        report = analysis(trained.weights)
    shared = {"split": split, "step": trained.step, "normalizer": str(trained.normalizer), **report.facts}
    rows = [{"layer": row["layer"], **shared, **row} for row in report.rows]
    rich.print(report.table())
    folder, own = run.root / "analysis", f"step_{trained.step}_{split}".replace("/", "_")
    # Files asked for come first: the run's own directory may be one that cannot be written.
    for path in filter(None, (json_file, folder / f"{own}.json")):
        write_rows(rows, path)
    for name, figure in report.figures().items():
        save_figure(figure, folder / f"{own}_{name}.png")
    print(f"figures in {folder}: {own}_*.png")
    return rows
