"""The scripts of `launch/`, run with stand-ins for what they call (`stubs/`)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
STUBS = Path(__file__).parent / "stubs"


def git(folder, *arguments) -> str:
    """Return the output of a git command."""
    return subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True).stdout


class Scripts:
    """The scripts of a checkout, run with the stand-ins first on PATH; `do` is what the stand-in of joint-st does."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        self.checkout = checkout
        self.folder = folder
        self.do = folder / "do"
        self.do.write_text("exit 0\n")
        temporary = folder / "tmp"
        temporary.mkdir()
        self.environment = {
            **os.environ,
            "PATH": f"{STUBS}:{os.environ['PATH']}",
            "CLOUD": str(folder),
            "SLURM": str(folder),
            "DO": str(self.do),
            "TMPDIR": str(temporary),
            "JAX_PLATFORMS": "cpu",
        }

    def start(self, script: str, *arguments) -> subprocess.Popen:
        """Return the script as a process, in which SIGINT can be caught however the tests were started."""
        return subprocess.Popen(
            [str(self.checkout / "launch" / script), *map(str, arguments)],
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, script: str, *arguments, timeout: float = 100) -> subprocess.CompletedProcess:
        """Run the script to its end and return it."""
        process = self.start(script, *arguments)
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def calls(self, name: str = "calls") -> list[str]:
        """Return the calls that a stand-in recorded, one in each line."""
        file = self.folder / name
        return file.read_text().splitlines() if file.exists() else []

    def wait_for(self, pattern: str, count: int = 1, seconds: float = 60) -> None:
        """Returns once there are so many files of a pattern in the folder."""
        until = time.monotonic() + seconds
        while len(list(self.folder.glob(pattern))) < count:
            assert time.monotonic() < until, pattern
            time.sleep(0.02)
