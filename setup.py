"""Writes the commit into wheels, for `joint-st --version`. All else about the package is in pyproject.toml."""

import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithCommit(build_py):
    """Adds the file `joint_st/COMMIT`, where the sources are a git checkout."""

    def run(self):
        super().run()
        root = Path(__file__).resolve().parent
        if self.editable_mode or not (root / ".git").exists():
            return
        command = ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+changes"]
        try:
            commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            return
        Path(self.build_lib, "joint_st", "COMMIT").write_text(commit, encoding="ascii")


setup(cmdclass={"build_py": BuildWithCommit})
