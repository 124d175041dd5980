"""`launch/sky.yaml`: its fields, what its commands do, and how SkyPilot reads it if that is installed."""

from __future__ import annotations

import os
import subprocess

import pytest
import yaml

from tests.launch.scripts import ROOT

FILE = ROOT / "launch" / "sky.yaml"


@pytest.fixture(scope="module")
def task() -> dict:
    return yaml.safe_load(FILE.read_text())


def test_fields(task):
    assert set(task) == {"name", "workdir", "resources", "envs", "setup", "run"}
    assert task["workdir"] == "." and task["envs"] == {"COMMAND": None}  # sky refuses a variable without a value
    resources = task["resources"]
    assert resources["infra"] == "gcp" and resources["use_spot"] is True
    assert resources["accelerators"] == "tpu-v5litepod-16"
    assert resources["accelerator_args"] == {"runtime_version": "v2-alpha-tpuv5-lite"}
    assert resources["job_recovery"]["recover_on_exit_codes"] == [75, 143]


def test_the_command_runs_with_the_installed_joint_st_first(task, tmp_path):
    joint_st = tmp_path / ".venv" / "bin" / "joint-st"
    joint_st.parent.mkdir(parents=True)
    joint_st.write_text('#!/bin/sh\nprintf "%s|" "$@"; exit 143\n')
    joint_st.chmod(0o755)
    result = subprocess.run(
        ["bash", "-c", task["run"]],
        cwd=tmp_path,
        env={**os.environ, "COMMAND": "joint-st train 'my config.py' --workdir gs://bucket/run"},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (143, "train|my config.py|--workdir|gs://bucket/run|")
    assert (ROOT / task["setup"].split()[1]).exists()


def test_skypilot_reads_it(task):
    sky = pytest.importorskip("sky")
    read = sky.Task.from_yaml_config(dict(task), env_overrides=[("COMMAND", "joint-st train c.py")])
    (resources,) = read.resources
    assert resources.use_spot and resources.accelerators == {"tpu-v5litepod-16": 1}
    assert resources.job_recovery == task["resources"]["job_recovery"]
    assert read.envs == {"COMMAND": "joint-st train c.py"}
    with pytest.raises(ValueError, match="COMMAND"):
        sky.Task.from_yaml(str(FILE))
