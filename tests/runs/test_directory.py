"""A run goes on only with the config it started with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from joint_st.config import Config, DataConfig, TfdsSource, load, override
from joint_st.errors import UserError
from joint_st.runs.checkpoints import Checkpoints
from joint_st.runs.directory import RunDirectory, existing_run, open_run

CONFIG = Config(data=DataConfig(train=(TfdsSource(name="grammar", split="train"),)))


@pytest.fixture
def begun(tmp_path):
    """A run with a checkpoint."""
    run = open_run(tmp_path, CONFIG)
    (run.checkpoints / "100").mkdir(parents=True)
    return run


def test_a_new_run_stores_its_config(tmp_path):
    run = open_run(tmp_path / "runs" / "one", CONFIG)
    assert load(run.config) == load(run.root) == CONFIG
    assert existing_run(run.root) == run
    assert run.checkpoints.parent == run.metrics.parent == tmp_path / "runs" / "one"


def test_checkpoints_on_a_disk_that_is_away_are_not_taken_for_none(tmp_path):
    disk, run = tmp_path / "disk", open_run(tmp_path / "run", CONFIG)
    (disk / "run" / "100").mkdir(parents=True)
    run.checkpoints.symlink_to(disk / "run")
    run.metrics.write_text("step,loss\n")
    disk.rename(tmp_path / "away")
    with pytest.raises(UserError) as caught:
        open_run(run.root, override(CONFIG, {"seed": 1}))
    assert str(caught.value) == (
        f"{run.checkpoints}: a link to {disk}/run, which is not there; mount it, or name another --workdir"
    )
    assert run.metrics.read_text() == "step,loss\n" and load(run.config) == CONFIG
    (tmp_path / "away").rename(disk)
    assert open_run(run.root, CONFIG).checkpoint_steps == [100]


@pytest.mark.parametrize("content", ['{"model_type": "whisper"}', "[1]", "not JSON"])
def test_the_folder_of_another_program_is_left_as_it_is(tmp_path, content):
    (tmp_path / "tokenizer").mkdir()
    for file in ("config.json", "tokenizer/tokenizer.json"):
        (tmp_path / file).write_text(content)
    with pytest.raises(UserError) as caught:
        open_run(tmp_path, CONFIG)
    assert str(caught.value) == f"{tmp_path}/config.json: not the config of a run; name another --workdir"
    assert {path.read_text() for path in tmp_path.rglob("*.json")} == {content}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"training.steps": 2_000, "training.log_every": 1, "training.loggers": "wandb"},
        {"data.test.x": "a.jsonl"},
        {"evaluation.batch_size": 8, "parallel.data": 1, "data.strict": True, "data.read_threads": 2},
    ],
)
def test_some_fields_may_change(begun, changes):
    run = open_run(begun.root, override(CONFIG, changes))
    assert run == begun and load(run.config) == CONFIG  # until the training goes on, since it may still be refused


@pytest.mark.parametrize(
    "changes, difference",
    [
        ({"model.width": 256}, "model.width: 144 in {file}, 256 now"),
        ({"data.train.0.split": "test"}, "data.train.0.split: train in {file}, test now"),
        ({"data.dev.0": "a.jsonl"}, "data.dev: [] in {file}, absent now (and 4 more); a.jsonl: no such file"),
        ({"seed": 1, "model.remat": True}, "seed: 0 in {file}, 1 now (and 1 more)"),
        ({"training.accumulation": 2}, "training.accumulation: 1 in {file}, 2 now"),
    ],
)
def test_any_other_change_is_refused(begun, changes, difference):
    with pytest.raises(UserError) as caught:
        open_run(begun.root, override(CONFIG, changes))
    assert str(caught.value) == (
        difference.format(file=begun.config) + "; go on with the run's own value, or name another --workdir"
    )
    assert load(begun.config) == CONFIG


def test_a_file_that_does_not_exist_is_named_with_the_difference(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # long paths are cut in the middle
    for name in ("old", "new"):
        Path(f"{name}.jsonl").touch()
    old, new, gone = (f"{name}.jsonl" for name in ("old", "new", "gone"))
    config = override(CONFIG, {"data.train": old})
    run = open_run(tmp_path / "run", config)
    (run.checkpoints / "100").mkdir(parents=True)
    do = "go on with the run's own value, or name another --workdir"
    for path, remark in ((new, ""), (gone, f" {gone}: no such file;")):
        with pytest.raises(UserError) as caught:
            open_run(run.root, override(config, {"data.train.0.path": path}))
        assert str(caught.value) == f"data.train.0.path: {old} in {run.config}, {path} now;{remark} {do}"


def test_a_run_without_a_checkpoint_begins_anew(tmp_path):
    run = open_run(tmp_path, CONFIG)
    run.tokenizer.mkdir()
    run.metrics.write_text("step\n")
    (run.checkpoints / "100.orbax-checkpoint-tmp").mkdir(parents=True)
    changed = override(CONFIG, {"model.width": 256})
    assert load(open_run(tmp_path, changed).config) == changed
    assert not run.tokenizer.exists() and not run.metrics.exists()


@pytest.mark.parametrize(
    "last_row, left, refused",
    [
        (500, "", None),  # it ended while the dev set was evaluated, before the first checkpoint
        (510, "checkpoints/500.orbax-checkpoint-tmp", None),  # or while that was saved
        (510, "", "metrics.csv"),
        (10, "evaluations/step_500_test.json", "evaluations"),
    ],
)
def test_a_run_whose_checkpoints_were_removed_is_left_as_it_is(tmp_path, last_row, left, refused):
    run = open_run(tmp_path, CONFIG)
    run.metrics.write_text("step,loss\n" + "".join(f"{step},1.5\n" for step in range(10, last_row + 1, 10)))
    run.calibration.write_text("{}")
    (run.root / left).mkdir(parents=True, exist_ok=True)
    if not refused:
        open_run(tmp_path, CONFIG)
        assert not run.metrics.exists() and not run.calibration.exists()
        return
    with pytest.raises(UserError) as caught:
        open_run(tmp_path, override(CONFIG, {"seed": 1}))
    assert str(caught.value) == (
        f"{run.checkpoints}: has no checkpoint, and {tmp_path / refused} is there: starting again would replace what was "
        f"trained; put the checkpoints back, remove {tmp_path}, or name another --workdir"
    )
    assert run.metrics.exists() and run.calibration.read_text() == "{}" and load(run.config) == CONFIG


def test_checkpoints_without_a_config_go_on_with_none(begun):
    begun.config.unlink()
    with pytest.raises(UserError, match=f"{begun.config}: missing, and {begun.checkpoints} has some; copy it too"):
        open_run(begun.root, CONFIG)


def test_directories_that_are_no_run(tmp_path):
    (tmp_path / "file").touch()
    for path, problem in (
        (tmp_path, "no run (no config.json in it)"),
        (tmp_path / "absent", "no such directory"),
    ):
        with pytest.raises(UserError) as caught:
            existing_run(path)
        assert str(caught.value) == f"{path}: {problem}"
    with pytest.raises(UserError, match="a file, where the directory of a run should be"):
        open_run(tmp_path / "file", CONFIG)


def test_the_best_checkpoint_is_the_one_that_is_evaluated(trained, tmp_path):
    """Read from the files of a real run as Orbax reads them; by hand where WERs tie or there are none."""
    with Checkpoints(trained / "checkpoints", read_only=True) as checkpoints:
        assert RunDirectory(trained).best_steps() == [checkpoints.best()]
        assert RunDirectory(trained).checkpoint_steps[-1] == checkpoints.latest()
    for wers, best in (
        ({1: 0.5, 2: 0.4, 3: 0.4, 4: None}, [2, 3]),
        ({1: None, 2: None}, [2]),
        ({}, []),
    ):
        run = RunDirectory(tmp_path / str(len(wers)))
        for step, wer in wers.items():
            (run.checkpoints / str(step) / "facts").mkdir(parents=True)
            (run.checkpoints / str(step) / "facts" / "metadata").write_text(json.dumps({"wer": wer}))
        assert run.best_steps() == best


@pytest.mark.parametrize(
    "facts, problem",
    [
        ({"wer": "x"}, "wer is no number"),
        ({"wer": [0.3]}, "wer is no number"),
        ({"ranked_by": ["wer"], "wer": 0.3}, "ranked_by is no name of a metric"),
        ({"ranked_by": "cer", "cer": {}}, "cer is no number"),
    ],
)
def test_facts_of_odd_types_are_told(tmp_path, facts, problem):
    run = RunDirectory(tmp_path)
    for step, own in ((1, {"wer": 0.5}), (2, facts)):
        (run.checkpoints / str(step) / "facts").mkdir(parents=True)
        (run.checkpoints / str(step) / "facts" / "metadata").write_text(json.dumps(own))
    with pytest.raises(UserError) as caught:
        run.best_steps()
    assert str(caught.value) == f"{run.checkpoints}/2/facts/metadata: damaged: {problem}"
