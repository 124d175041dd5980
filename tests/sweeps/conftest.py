"""Fixtures of sweeps whose runs a stand-in trains at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from joint_st.sweeps import load_sweep
from joint_st.sweeps.run_sweep import print_table
from joint_st.sweeps.runner import train_command
from tests.sweeps import fake_training

BASE = """
from joint_st.config import Config, DataConfig, EvaluationConfig, TfdsSource, TrainingConfig

def config():
    source = TfdsSource(name="grammar", split="all")
    return Config(
        data=DataConfig(train=(source,), test={"test": source}),
        training=TrainingConfig(steps=4),
        evaluation=EvaluationConfig(bootstrap_samples=200),
    )
"""

FAKE = Path(__file__).with_name("fake_training.py")


def fake_command(job) -> list[str]:
    """Trains a job with the stand-in."""
    return [sys.executable, str(FAKE), *train_command(job)[4:]]


def write_sweep(folder: Path, runs: str, more: str = "") -> Path:
    """Return a sweep file with the body of its `runs()`, and the base config next to it."""
    (folder / "base.py").write_text(BASE)
    file = folder / "few.py"
    body = "\n".join(f"    {line}" for line in runs.splitlines())
    file.write_text(
        f'"""A few runs.\n\nMore about them."""\nfrom joint_st.sweeps import Run\nBASE = "base.py"\n{more}\n'
        f"def runs():\n{body}\n"
    )
    return file


RUNS = """\
for seed in range(3):
    yield Run("plain", {"optimizer.beta1": 0.3}, seed)
    yield Run("better", {"optimizer.beta1": 0.15}, seed)
yield Run("best", {"optimizer.beta1": 0.05}, 2)
yield Run("never")"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep of which all but one run are finished."""
    folder = tmp_path_factory.mktemp("swept")
    sweep = load_sweep(write_sweep(folder, RUNS, 'REFERENCES = ("plain", "better")'), folder / "out")
    for job in sweep.jobs[:-1]:
        fake_training.main(*train_command(job)[4:])
    return sweep


@pytest.fixture(scope="module")
def rows(swept):
    file = swept.directory / "tables" / "rows.json"
    print_table(swept, [], file, None)
    return {row["name"]: row for row in json.loads(file.read_text())}


@pytest.fixture(scope="session")
def fake():
    """The command of the stand-in."""
    return fake_command


@pytest.fixture(autouse=True)
def own_processes_end(no_process_outlives_the_test):
    """End the runs of a sweep that was killed, and stand-ins that still wait because a test has failed."""
