"""`launch/local.sh` with the real `joint-st`, whose step compiles at once: two processes work on one run."""

from __future__ import annotations

import signal
import sys

import pytest

from joint_st import storage
from joint_st.config import save
from joint_st.runs import checksums
from joint_st.runs.directory import COMPLETE
from tests.launch.scripts import ROOT
from tests.tiny import tiny_config

pytestmark = pytest.mark.slow


@pytest.fixture
def train(scripts, corpora, tmp_path) -> list:
    """The arguments of local.sh that train a run on two processes of two devices each."""
    scripts.environment["PYTHONPATH"] = str(ROOT)
    changes = {
        "data.text": (),
        "data.dev": (),
        "data.test": {},
        "data.batch_size": 8,
        "training.steps": 100_000,
        "training.checkpoint_every": 100_000,
        "training.log_every": 8,
    }
    save(tiny_config(corpora, changes), tmp_path / "config.json")
    command = [sys.executable, "-m", "tests.distributed.small_step", "train", tmp_path / "config.json"]
    options = ["-n", 2, "--devices-per-process", 2, "--logs", tmp_path / "logs"]
    return ["local.sh", *options, "--", *command, "--workdir", tmp_path / "run"]


def test_two_processes_train_one_run_and_save_at_sigterm(scripts, train, tmp_path):
    process = scripts.start(*train)
    scripts.wait_for("../run/metrics.csv", seconds=200)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=200)
    others = (tmp_path / "logs" / "process-1.log").read_text()
    assert process.returncode == 143, errors + others
    assert "4 × cpu" in errors and "SIGTERM: saved step" in errors
    step = errors.split("SIGTERM: saved step ")[1].split()[0]
    checkpoint = tmp_path / "run" / "checkpoints" / step
    assert checkpoint.is_dir()
    # Each process has summed up what it wrote; together that is all but what Orbax writes at last.
    recorded = checksums.read(checkpoint)
    assert recorded == dict(storage.checksums(checkpoint, recorded)) and not list(checkpoint.glob("checksums.p*"))
    left = {file for file, _ in storage.checksums(checkpoint)} - recorded.keys() - {checksums.FILE}
    assert {file.rpartition("/")[2] for file in left} == {"_CHECKPOINT_METADATA", COMPLETE}
    assert any(name.startswith("state/ocdbt.process_1/d/") for name in recorded)
