"""A copy of the scripts in a git checkout of its own, and stand-ins for what they call."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.launch.scripts import ROOT, Scripts, git


@pytest.fixture(scope="session")
def checkout(tmp_path_factory) -> Path:
    """A checkout with `launch/` and what installing reads, all committed. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "launch", folder / "launch")
    for name in ("pyproject.toml", "constraints.txt", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "all")
    return folder


@pytest.fixture(autouse=True)
def own_processes_end(no_process_outlives_the_test):
    """End processes of a script that outlive it if its test fails."""


@pytest.fixture
def scripts(checkout, tmp_path):
    """See `Scripts`. What still runs on a worker afterwards is killed."""
    folder = tmp_path / "work"
    folder.mkdir()
    yield Scripts(checkout, folder)
    for session in folder.glob("*/joint_st/job/session"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(session.read_text()), signal.SIGKILL)
