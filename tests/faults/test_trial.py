"""The campaign's own parts: how an end is judged, what is counted and kept, and that no process is left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from benchmarks.fault_kinds.processes import Ended
from benchmarks.fault_kinds.trial import Outcome, Row, Trial
from tests.tiny import CHECKOUT

LINE = "joint-st: error: runs/a: no such directory\n"
TRACEBACK = 'Traceback (most recent call last):\n  File "a.py", line 1\nKeyError: 1\n'
INTERRUPTED = 'Traceback (most recent call last):\n  File "<frozen site>", line 616\nKeyboardInterrupt\n'


@pytest.mark.parametrize(
    "status, err, asked, outcome",
    [
        (0, "", False, Outcome.SURVIVED),
        (2, LINE, False, Outcome.REFUSED),
        (75, "step 1\n" + LINE, False, Outcome.REFUSED),
        (2, LINE + LINE, False, Outcome.TRACEBACK),  # in one line, not two
        (1, TRACEBACK, False, Outcome.TRACEBACK),
        (0, TRACEBACK, False, Outcome.TRACEBACK),
        (2, TRACEBACK + LINE, False, Outcome.TRACEBACK),
        (1, "", False, Outcome.TRACEBACK),
        (-signal.SIGSEGV, "", False, Outcome.TRACEBACK),
        (None, "", False, Outcome.LOST),
        (143, "", True, Outcome.SURVIVED),
        (1, INTERRUPTED, True, Outcome.SURVIVED),  # while Python itself began
        (1, INTERRUPTED.replace("<frozen site>", "/a/joint_st/cli/train.py"), True, Outcome.TRACEBACK),
        (-signal.SIGINT, "", True, Outcome.SURVIVED),
        (143, "", False, Outcome.TRACEBACK),
    ],
)
def test_how_a_process_has_ended(status, err, asked, outcome):
    assert Ended(status, "", err, 1.0).judge(asked=asked) is outcome


def test_a_try_that_fails_is_kept_and_counted(tmp_path, capsys):
    (tmp_path / "evidence").write_text("broken")
    trial = Trial(Row("one"), True, 0, tmp_path / "work", tmp_path / "kept", tmp_path / "shared")
    assert len(trial.scaled(30, ci=3)) == 30
    trial.count(Outcome.SURVIVED, "a")
    trial.count(Outcome.SILENT, "b/c", "said\nthis", tmp_path / "evidence")
    trial.count(Outcome.LOST, "d", "", b"bytes")
    record = trial.row.record()
    assert {name: record[name] for name in ("tried", *Outcome)} == {
        **{"tried": 3, "survived": 1, "refused": 0, "traceback": 0, "silent": 1, "lost": 1}
    }
    first, second = record["failures"]
    assert (tmp_path / "kept" / first["kept"]).read_text() == "broken"
    assert (tmp_path / "kept" / second["kept"]).read_bytes() == b"bytes"
    assert "silent: b/c: this" in capsys.readouterr().err
    json.dumps(record)


def test_what_is_made_for_all_is_made_once(tmp_path):
    (tmp_path / "shared").mkdir()
    trial = Trial(Row("one"), False, 0, tmp_path / "work", tmp_path / "kept", tmp_path / "shared")
    made = [trial.made("a", lambda place: place.write_text("x")) for _ in range(2)]
    assert made[0] == made[1] and made[0].read_text() == "x" and len(trial.scaled(30, ci=3)) == 3


def test_processes_that_are_left_behind_are_ended_and_named():
    """Also the children of a child that is gone."""
    program = """
import subprocess, sys
from benchmarks.fault_kinds.processes import adopt_orphans, end_descendants
adopt_orphans()
subprocess.run(["bash", "-c", "sleep 611 & sleep 0.01 &"])
assert end_descendants(0.5) == ["sleep 611"]
assert end_descendants(0.5) == []
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_faults_have_names_of_their_own_and_a_part_for_ci():
    command = [sys.executable, "-m", "benchmarks.faults", "--list"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    names = [line.removesuffix("  (ci)") for line in done.stdout.splitlines()]
    assert len(names) == len(set(names)) > 10, done.stderr
    assert sum(line.endswith("  (ci)") for line in done.stdout.splitlines()) > 5
