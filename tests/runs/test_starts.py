"""A run says which code trained it, and on what devices."""

from __future__ import annotations

import datetime
import json
from importlib.metadata import version

import joint_st
from joint_st.cli import main
from joint_st.config import load
from joint_st.runs.directory import RunDirectory
from joint_st.runs.starts import read_starts, record_start
from joint_st.versions import version_lines


def test_each_start_is_a_line(tmp_path):
    run = RunDirectory(tmp_path)
    assert read_starts(run) == []
    record_start(run, 0, "8 × TPU v5e: fsdp 8", "TPU v5e", 2, 800)
    run.starts.write_text(run.starts.read_text() + '{"step": 3}\n{"at": "cut')
    assert [start.step for start in read_starts(run)] == [0]
    run.starts.write_text(run.starts.read_text() + "\n")
    record_start(run, 500, "1 × cpu", "AMD EPYC, 2 threads", 1, 900)
    first, second = read_starts(run)
    assert (first.devices, first.device, first.processes) == ("8 × TPU v5e: fsdp 8", "TPU v5e", 2)
    assert (first.steps, second.steps) == (800, 900)
    assert (second.step, second.devices, second.device) == (500, "1 × cpu", "AMD EPYC, 2 threads")
    assert f"joint-st {first.joint_st}, {first.commit}" == version_lines()[0]
    assert first.packages["jax"] == version("jax")
    assert datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(first.at) < datetime.timedelta(
        minutes=1
    )


def test_training_records_its_start_once(trained, capsys):
    """A run that has nothing left to train starts nothing."""
    [start] = read_starts(RunDirectory(trained))
    assert (
        start.step == 0
        and start.steps == load(trained / "config.json").training.steps
        and start.processes == 1
        and start.devices == "1 × cpu"
    )
    assert start.joint_st == joint_st.__version__
    assert set(json.loads((trained / "starts.jsonl").read_text())) == set(start._fields)
    assert main(["train", str(trained), "--workdir", str(trained)]) == 0
    assert read_starts(RunDirectory(trained)) == [start]
