"""SIGINT raises KeyboardInterrupt also where Python would print and forget it; the first one ends a recording alone."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys

import pytest

from joint_st import interrupts
from joint_st.cli import main
from joint_st.decoding.transcribe import Said
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


@pytest.mark.parametrize("form", ["text", "json"])
def test_ctrl_c_ends_what_is_recorded_and_not_what_hears_it(tmp_path, monkeypatch, capfd, form):
    """A terminal sends SIGINT to the recorder and to the process that reads what it records."""
    (tmp_path / "config.json").write_text("{}")
    heard, times = [], 1

    def interrupted(heard_so_far):
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
        heard.append(heard_so_far)

    def listen(directory, source, **_):
        yield Said(0.32, "streaming", "one")
        interrupted(source.read())
        yield Said(0.64, "full_context", "one two")

    def lines(directory, source, **options):
        return (f'{{"text": "{said.text}"}}' for said in listen(directory, source))

    monkeypatch.setattr("joint_st.decoding.transcribe.listen", listen)
    monkeypatch.setattr("joint_st.word_times.transcripts.listen_to", lines)
    before = signal.getsignal(signal.SIGINT)
    for times, status, last in ((1, 0, "one two"), (2, 130, "one")):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"audio")))
        assert main(["transcribe", str(tmp_path), "-", "--stream", "--format", form]) == status
        printed, told = capfd.readouterr()
        assert last in printed.splitlines()[-1] and ("two" in printed) == (times == 1)
        assert told.count("interrupt again to stop at once") == 1
        assert signal.getsignal(signal.SIGINT) == before
    assert heard == [b"audio"]


def test_an_interrupt_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts.first_ends_input("a pipe"):
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
