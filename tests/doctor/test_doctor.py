"""The doctor: healthy and unhealthy set-ups of `benchmarks/doctor.py`, clocks of hosts, what it leaves alone."""

from __future__ import annotations

import json
import os
import socket
import threading
import time

import pytest

from benchmarks.doctor import CASES, examine, verdict
from joint_st.cli import main
from joint_st.distributed.process_spec import ProcessSpec
from joint_st.doctor import check, machine, run
from joint_st.doctor.check import Check, looked
from joint_st.errors import UserError
from joint_st.runs.directory import open_run
from tests.tiny import tiny_config

CHEAP = (
    "healthy: a run",
    "healthy: two slices",
    "healthy: texts whose audio is missing",
    "healthy: weights of a run in the home folder",
    "healthy: a run without what it has begun with",
    "audio of a telephone",
    "confusions that are not there",
    "audio half as long as stated",
    "text of a language that the normaliser does not know",
    "another run in the directory",
    "a clock that is an hour off",
)


@pytest.fixture
def no_devices(monkeypatch):
    """Start no process that looks at the devices, which takes seconds."""
    monkeypatch.setattr(machine, "devices", lambda spec: ([], machine.Devices(1, "cpu", "cpu", None)))


@pytest.mark.parametrize("case", [case for case in CASES if case.what in CHEAP], ids=lambda case: case.what)
def test_a_set_up_is_named(case, tmp_path, no_devices):
    status, _, checks = examine(case, tmp_path)
    assert verdict(case, status, checks) == ""


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_every_set_up_is_named(case, tmp_path):
    status, printed, checks = examine(case, tmp_path)
    assert verdict(case, status, checks) == "", printed


def test_the_machine_alone(capsys, no_devices):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok       joint_st") and lines[-1].endswith(" 0 problem")


def test_nothing_is_left_and_nothing_made(tmp_path, no_devices):
    (case,) = (case for case in CASES if case.what == "healthy: a config")
    examine(case, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checks.json", "corpus", "small.json"]
    assert not any(path.name.startswith(".") for path in tmp_path.rglob("*"))


def test_a_look_that_does_not_answer_is_a_problem_and_holds_up_nothing():
    ends = threading.Event()
    began = time.monotonic()
    (found,) = looked("disk", lambda: ends.wait(60), 0.2)
    ends.set()
    assert found.state == "problem" and "no answer for 0.2 s" in found.found and time.monotonic() - began < 10


def test_errors_are_told_with_what_to_do():
    def look():
        yield Check("ok", "first", "well")
        raise UserError("x.jsonl: no such file; correct the path")

    assert list(looked("data", look, 5)) == [
        Check("ok", "first", "well"),
        Check("problem", "data", "x.jsonl: no such file", "correct the path"),
    ]
    told = check.from_error("data", PermissionError(13, "Permission denied", "/x"))
    assert (told.found, bool(told.do)) == ("/x: Permission denied", True)


def test_a_table_obeys_no_name():
    (line, do) = Check("problem", "data", "a\x1b[2J\nb\u2028c", "x\ry").lines()
    assert line.endswith("a\\x1b[2J\\nb\\u2028c") and do.endswith("x\\ry")


def test_tpus_of_a_host_of_several_are_not_opened(monkeypatch):
    monkeypatch.setattr(machine, "accelerators", lambda: ["/dev/accel0", "/dev/accel1"])
    monkeypatch.setattr(machine.subprocess, "run", lambda *_, **__: pytest.fail("opened"))
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    (found,), devices = machine.devices(ProcessSpec("a:1", 4, 2))
    assert devices is None and "not opened: this is process 2 of 4" in found.found


@pytest.mark.parametrize(("ahead", "state"), [(0, "ok"), (120, "problem")])
def test_clocks_of_hosts_are_compared(monkeypatch, ahead, state):
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + ahead * (threading.current_thread().name == "other"))
    told = []
    second = threading.Thread(target=lambda: told.extend(machine.clocks(ProcessSpec(address, 2, 1), 20)), name="other")
    second.start()
    (found,) = machine.clocks(ProcessSpec(address, 2, 0), 20)
    second.join(30)
    assert found.state == state and told[0].state == "ok", (found, told)
    if ahead:
        assert "process 1 on" in found.found and "+120.0 s" in found.found


def test_json(tmp_path, no_devices):
    assert main(["doctor", "--json", str(tmp_path / "checks.json")]) == 0
    checks = json.loads((tmp_path / "checks.json").read_text())
    assert {tuple(sorted(check)) for check in checks} == {("do", "found", "name", "state")}
    assert os.listdir(tmp_path) == ["checks.json"]


def test_versions_are_compared_number_by_number():
    met = [
        machine._meets(*one) for one in (("3.1.0", "==3.1"), ("3.1", "==3.1.0"), ("3.1.4", "==3.1"), ("2.9", "<2.10"))
    ]
    assert (
        met == [True, True, False, True] and machine._meets("1.26.4", ">=1.26") and not machine._meets("1.25", ">=1.26")
    )


@pytest.mark.parametrize("rank_by, refused", [("auto", False), ("wer", False), ("cer", True)])
def test_a_run_that_was_ranked_by_another_rate_does_not_go_on(tmp_path, rank_by, refused):
    """Training refuses it too; whether the data are the same, it alone compares."""
    config = tiny_config(tmp_path, {"evaluation.rank_by": rank_by})
    here = open_run(tmp_path / "run", config)
    facts = here.checkpoints / "3/facts/metadata"
    facts.parent.mkdir(parents=True)
    facts.write_text('{"wer": 0.5, "ranked_by": "wer"}')
    if refused:
        with pytest.raises(UserError, match="^evaluation.rank_by: cer, and the checkpoints of .* are ranked by wer"):
            list(run.may_go_on(here, config))
        return
    [found] = run.may_go_on(here, config)
    told = f"{here.root}: goes on from step 3, if its data are those it was trained with, which training compares"
    assert found == Check("ok", "--workdir", told)
