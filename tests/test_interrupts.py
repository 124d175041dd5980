"""SIGINT raises KeyboardInterrupt also where Python would print and forget it."""

from __future__ import annotations

import signal
import subprocess
import sys

from tests.tiny import environment

IN_A_FINALIZER = """
import os, signal, time
from joint_st import interrupts

class Last:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass

interrupts.listen()
last = Last()
del last
print("after it", flush=True)
time.sleep(20)
print("too late")
"""


def test_an_interrupt_in_a_finalizer_comes_after_it():
    done = subprocess.run([sys.executable, "-c", IN_A_FINALIZER], capture_output=True, text=True, env=environment())
    assert done.returncode == -signal.SIGINT and done.stdout == "after it\n"
    assert "ignored" not in done.stderr and done.stderr.endswith("KeyboardInterrupt\n")
