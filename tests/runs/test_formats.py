"""Runs of earlier formats: those with a migration are read, all others refused by name.

`format_N` holds a run as it was when format N was the newest: `python -m tests.runs.test_formats FOLDER` made it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from joint_st.cli import main
from joint_st.config import LmConfig, file, is_language_model, load, override, save
from joint_st.errors import UserError
from joint_st.evaluation.compare import compare_runs
from joint_st.runs.checkpoints import named_leaves
from joint_st.runs.directory import RunDirectory, open_run
from joint_st.runs.trained import load_trained
from tests.tiny import saved_arrays, tiny_config

HERE = Path(__file__).parent
FORMAT_1, FORMAT_2 = HERE / "format_1", HERE / "format_2"

# Orbax is told no shardings when it reads arrays for comparison.
pytestmark = pytest.mark.filterwarnings("ignore:Sharding info not provided")


def make(folder: Path) -> None:
    """Trains a run of a few kilobytes in `folder`, its corpus in `corpora` beside it."""
    from joint_st.data.corpora import build_if_absent
    from joint_st.training.asr import train_asr

    with contextlib.chdir(folder.parent):
        build_if_absent("spoken_grammar/tiny", "corpora")
        smaller = {
            "model.width": 4,
            "model.heads": 1,
            "model.feed_forward": 1,
            "model.features.mels": 4,
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


@pytest.fixture
def stored(tmp_path) -> Path:
    """A copy of the stored run: reading one may write evaluations into it."""
    return shutil.copytree(FORMAT_2, tmp_path / "run")


def leaves_of(read, path: str = "") -> dict:
    """Values by dotted path, of what JSON holds."""
    if not isinstance(read, dict):
        return {path: read}
    return {name: value for key in read for name, value in leaves_of(read[key], f"{path}.{key}").items()}


def test_the_config_of_a_stored_run_means_what_it_meant(stored):
    config = load(stored)
    assert (config.model.width, config.losses.consistency.weight, config.data.test["test"].split) == (
        4,
        0.125,
        "test[:3]",
    )
    save(config, stored / "again.json")
    before, now = (leaves_of(json.loads((stored / name).read_text())) for name in ("config.json", "again.json"))
    assert before.pop(".format") == 2 and now.pop(".format") == file.FORMAT
    assert {path: now.get(path) for path in before} == before and len(before) > 80
    open_run(stored, config)  # a run that may go on


def test_the_model_of_a_stored_run_is_read(stored):
    model = load_trained(stored, "best")
    assert model.step == 4 and RunDirectory(stored).best_steps() == [4]
    assert model.symbols.sizes.labels == 29 and model.symbols.units.symbols[2:4] == (" ", "'")
    weights, arrays = named_leaves(model.weights), saved_arrays(stored, 4)
    assert len(weights) > 30
    for name, x in weights.items():
        np.testing.assert_array_equal(np.asarray(x), arrays[f"average.{name}"])


def test_the_evaluations_of_a_stored_run_are_read(stored, capsys):
    before = sorted(path.name for path in (stored / "evaluations").iterdir())
    rows = compare_runs(stored, stored)
    assert {row["utterances"] for row in rows} == {3} and len(rows) >= 2
    assert sorted(path.name for path in (stored / "evaluations").iterdir()) == before


def test_a_run_of_format_1_is_refused_with_the_version_that_reads_it(tmp_path, capsys):
    run = shutil.copytree(FORMAT_1, tmp_path / "run")
    expected = (
        f"{run}/config.json: a run of format 1, which joint_st 0.1.0 reads, and this version does not: use that version, "
        "or train anew"
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
    for number, shown in ((3, "3"), ("two", "two")):
        (stored / "config.json").write_text(json.dumps(config | {"format": number}))
        with pytest.raises(UserError) as caught:
            load(stored)
        assert str(caught.value) == (
            f"{stored}/config.json: a run of format {shown}, and this version reads {file.FORMAT}; use a newer joint_st"
        )


def test_migrations_follow_each_other(stored, monkeypatch):
    """As if width had been called size in format 2, and breadth in format 3."""

    def rename(old, new):
        return lambda read: {**read, "model": {new if k == old else k: v for k, v in read["model"].items()}}

    expected = load(stored)
    monkeypatch.setattr(file, "FORMAT", 4)
    monkeypatch.setattr(file, "MIGRATIONS", {2: rename("size", "breadth"), 3: rename("breadth", "width")})
    text = (stored / "config.json").read_text()
    for number, name in ((2, "size"), (3, "breadth"), (4, "width")):
        changed = text.replace('"format": 2', f'"format": {number}').replace('"width"', f'"{name}"')
        (stored / "config.json").write_text(changed)
        assert load(stored) == expected
    with pytest.raises(UserError, match="a run of format 1, which joint_st 0.1.0 reads"):
        load(FORMAT_1)
    # What is written is of the newest format.
    save(override(expected, {"seed": 3}), stored / "config.json")
    assert json.loads((stored / "config.json").read_text())["format"] == 4 and load(stored).seed == 3


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
