"""Checks that tests leave no process behind."""

from __future__ import annotations

import subprocess
import sys
import time

from tests import processes

PARENT = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
"""


def test_also_what_outlives_the_process_that_started_it_is_ended():
    before = set(processes.left())
    subprocess.run([sys.executable, "-c", PARENT], check=True)
    assert len(set(processes.left()) - before) == 1
    processes.end_all()
    until = time.monotonic() + 10
    while set(processes.left()):
        assert time.monotonic() < until
        time.sleep(0.02)
