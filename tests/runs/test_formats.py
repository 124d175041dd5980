"""Runs of earlier formats: those with a migration are read, all others refused by name.

`format_N` holds a run in format N, written when that was the newest: `python -m tests.runs.test_formats FOLDER` made
it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from joint_st.cli import main
from joint_st.config import Config, LmConfig, file, is_language_model, load, override, save
from joint_st.data.corpora import build_if_absent
from joint_st.data.normalizers import normalizer
from joint_st.data.vocabulary import Vocabulary
from joint_st.errors import UserError
from joint_st.evaluation.report import by_key, read_utterances
from joint_st.heads.model import weight_shapes
from joint_st.reports.charts import training_charts
from joint_st.runs.checkpoints import named_leaves
from joint_st.runs.directory import RunDirectory, open_run
from joint_st.runs.trained import read_symbols, trained_checkpoints
from joint_st.sweeps.table import result_line
from joint_st.training.asr import columns, train_asr
from tests.tiny import tiny_config

HERE = Path(__file__).parent
FORMAT_1, READ = HERE / "format_1", tuple(HERE / f"format_{number}" for number in range(2, file.FORMAT + 1))
ARRAYS = "arrays.json"
"""Shapes of the weights in its checkpoint, by name."""


def make(folder: Path) -> None:
    """Trains a tiny run in `folder`, its corpus in `corpora` next to it; of the weights, only names and shapes stay."""
    with contextlib.chdir(folder.parent):
        build_if_absent("spoken_grammar/tiny", "corpora")
        smaller = {
            "model.width": 8,
            "model.feed_forward": 1,
            "model.audio_layers": 0,
            "data.units.kind": "characters",
            "data.text_batch_size": 4,
            "data.test.test.split": "test[:3]",
            "losses.reconstruction.full_context": 0.25,
            "losses.consistency.weight": 0.125,
            "training.steps": 4,
            "training.keep_latest": 1,
            "training.checkpoint_every": 4,
            "training.evaluate_every": 4,
        }
        train_asr(tiny_config(Path("corpora"), smaller), Path(folder.name))
    run = RunDirectory(folder)
    with trained_checkpoints(run) as checkpoints:
        shapes = checkpoints.shapes(4, "average")
    lines = (f'"{name}": {list(shape)}' for name, shape in shapes.items())
    (folder / ARRAYS).write_text("{\n" + ",\n".join(lines) + "\n}\n")
    shutil.rmtree(run.checkpoints)  # half a megabyte
    for errors in run.evaluations.glob("*.errors.json"):
        errors.unlink()


@pytest.fixture(params=READ, ids=lambda folder: folder.name)
def stored(request, tmp_path) -> Path:
    """A copy of a stored run: reading one may write evaluations into it."""
    return shutil.copytree(request.param, tmp_path / "run")


def leaves_of(read, path: str = "") -> dict:
    """Values by dotted path, of what JSON holds."""
    if not isinstance(read, dict):
        return {path: read}
    return {name: value for key in read for name, value in leaves_of(read[key], f"{path}.{key}").items()}


def test_the_config_of_a_stored_run_means_what_it_meant(stored):
    config = load(stored)
    assert (config.model.width, config.losses.consistency.weight, config.data.test["test"].split) == (
        8,
        0.125,
        "test[:3]",
    )
    save(config, stored / "again.json")
    before, now = (leaves_of(json.loads((stored / name).read_text())) for name in ("config.json", "again.json"))
    number = before.pop(".format")
    assert number in range(2, file.FORMAT + 1) and now.pop(".format") == file.FORMAT
    if number == 2:  # the name alone meant the only version that there was
        assert before.pop(".data.normalizer") == "english" and now[".data.normalizer"] == "english v1"
        assert str(normalizer(config.data.normalizer)) == "english v1"
    assert {path: now.get(path) for path in before} == before and len(before) > 80
    (stored / "checkpoints" / "3").mkdir(parents=True, exist_ok=True)
    open_run(stored, config)  # a run that may go on


def test_the_inventories_and_the_weights_of_a_stored_run_are_those_of_its_model(stored):
    config, run = load(stored), RunDirectory(stored)
    symbols = read_symbols(config, run)
    assert symbols.labels.encode("a bad ace").tolist() == [3, 2, 4, 3, 6, 2, 3, 5, 7]
    assert symbols.units.symbols[2:5] == (" ", "a", "b") and symbols.languages[:3] == ("", "en-GB", "en-GB-x-rp")
    vocabulary = Vocabulary.load(run.root)
    assert vocabulary.subset_of("the") == "heard"
    arrays = {name: list(x.shape) for name, x in named_leaves(weight_shapes(config, symbols.sizes)).items()}
    assert arrays == json.loads((stored / ARRAYS).read_text()) and len(arrays) > 50


def test_the_metrics_and_evaluations_of_a_stored_run_are_read(stored):
    charts = {chart["title"]: chart for chart in training_charts(stored / "metrics.csv", columns(load(stored)))}
    assert [step for step, _ in charts["Norm of the gradient"]["series"][0]["points"]] == [2, 4]
    keys = [("test", head, "greedy") for head in ("streaming", "full_context")]
    found = by_key(read_utterances(RunDirectory(stored).evaluation(4, ["test"]).with_suffix(".jsonl")))
    assert found.keys() == set(keys)
    for utterances in found.values():
        assert len(utterances) == 3 and sum(len(one.reference.split()) for one in utterances) == 21
    [table] = (stored / "evaluations").glob("step_4_test.json")
    assert result_line(table).startswith("test streaming WER 100.0 % (heard 100.0, text_only 100.0), test full_context")


def test_a_config_without_a_number_that_is_no_run_names_the_newest_normaliser(stored):
    """A person who writes JSON or Python, and gives a name alone, means the newest version."""
    config = json.loads((stored / "config.json").read_text())
    del config["format"]
    config["data"]["normalizer"] = "english"
    (stored / "mine.json").write_text(json.dumps(config))
    assert load(stored / "mine.json").data.normalizer == "english v2" == Config(data=config["data"]).data.normalizer
    assert override(load(stored / "mine.json"), {"data.normalizer": "basic v1"}).data.normalizer == "basic v1"


def test_a_run_of_format_1_is_refused_with_the_version_that_reads_it(tmp_path, capsys):
    run = shutil.copytree(FORMAT_1, tmp_path / "run")
    expected = (
        f"{run}/config.json: a run of format 1, which joint_st 0.1.0 reads, and this version does not: use that version, "
        "or train again"
    )
    for path in (run, run / "config.json"):
        with pytest.raises(UserError) as caught:
            load(path)
        assert str(caught.value) == expected
    for command in (["evaluate", str(run)], ["train", str(run), "--workdir", str(tmp_path / "new")]):
        assert main(command) == 2
        assert capsys.readouterr().err == f"joint-st: error: {expected}\n"
    # Given as a config of no run, it is told what has another name.
    shutil.copy(run / "config.json", tmp_path / "mine.json")
    assert main(["train", str(tmp_path / "mine.json")]) == 2
    assert "mine.json: model.heard_units: is now model.unit_conditioning (added is add, only is replace) (and " in (
        capsys.readouterr().err
    )


def test_a_run_of_a_later_format_is_refused(stored):
    config = json.loads((stored / "config.json").read_text())
    for number, shown in ((file.FORMAT + 1, str(file.FORMAT + 1)), ("two", "two")):
        (stored / "config.json").write_text(json.dumps(config | {"format": number}))
        with pytest.raises(UserError) as caught:
            load(stored)
        assert str(caught.value) == (
            f"{stored}/config.json: a run of format {shown}, and this version reads {file.FORMAT}; use a newer joint_st"
        )


def test_migrations_follow_each_other(stored, monkeypatch):
    """The test acts as if width had been called size in the newest format, and were called breadth in the next."""

    def rename(old, new):
        return lambda read: {**read, "model": {new if k == old else k: v for k, v in read["model"].items()}}

    expected, newest = load(stored), file.FORMAT
    monkeypatch.setattr(file, "FORMAT", newest + 2)
    of_test = {newest: rename("size", "breadth"), newest + 1: rename("breadth", "width")}
    monkeypatch.setattr(file, "MIGRATIONS", of_test)
    text = (stored / "config.json").read_text().replace('"english"', '"english v1"')
    own = json.loads(text)["format"]
    for number, name in ((newest, "size"), (newest + 1, "breadth"), (newest + 2, "width")):
        changed = text.replace(f'"format": {own}', f'"format": {number}').replace('"width"', f'"{name}"')
        (stored / "config.json").write_text(changed)
        assert load(stored) == expected
    with pytest.raises(UserError, match="a run of format 1, which joint_st 0.1.0 reads"):
        load(FORMAT_1)
    # What is written is of the newest format.
    save(override(expected, {"seed": 3}), stored / "config.json")
    assert json.loads((stored / "config.json").read_text())["format"] == newest + 2 and load(stored).seed == 3


def test_a_language_model_has_a_format_too(tmp_path):
    config = LmConfig(data={"train": [{"kind": "text", "path": "x.txt"}]})
    save(config, tmp_path / "config.json")
    assert json.loads((tmp_path / "config.json").read_text())["format"] == file.FORMAT
    assert is_language_model(tmp_path) and load(tmp_path, LmConfig) == config
    (tmp_path / "config.json").write_text(config.model_dump_json())
    with pytest.raises(UserError, match="a run of format 1"):
        load(tmp_path, LmConfig)


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    make(Path(sys.argv[1]).absolute())
