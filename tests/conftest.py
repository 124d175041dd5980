"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def recorded() -> Path:
    """The folder of recorded speech; tests that need it are skipped where there is none."""
    root = os.environ.get("JOINT_ST_DATA")
    if root:
        if not Path(root).is_dir():
            pytest.fail(f"JOINT_ST_DATA is {root}, which is no folder")
        return Path(root).resolve()
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not beside.is_dir():
        pytest.skip("no recorded speech: set JOINT_ST_DATA to its folder")
    return beside
