"""`launch/worker.sh`: a command of a TPU's worker that outlives the connection."""

from __future__ import annotations

import subprocess
import time

import pytest


@pytest.fixture
def worker(scripts):
    """`worker(verb, ...)`: runs a verb of worker.sh with a home of its own."""
    home = scripts.folder / "home"
    home.mkdir()
    scripts.environment |= {"HOME": str(home), "HOSTNAME": "one"}
    yield lambda *arguments: scripts.run("worker.sh", *arguments)
    scripts.run("worker.sh", "stop", 0)


def test_the_command_goes_on_without_who_started_it_and_is_not_started_twice(scripts, worker):
    scripts.do.write_text("echo began; until [ -e $CLOUD/go ]; do sleep 0.05; done; echo ends; exit 3\n")
    assert worker("start", "joint-st", "train", "a b.py").stdout == "one: started\n"
    assert worker("start", "joint-st", "train", "a b.py").stdout == "one: runs already\n"
    other = worker("start", "joint-st", "train", "c.py")
    assert other.returncode == 4 and "joint-st train a\\ b.py" in other.stderr
    assert worker("report").stdout == "one: runs\n"
    (scripts.folder / "go").touch()
    followed = worker("follow")
    assert (followed.returncode, followed.stdout) == (3, "began\nends\n")
    assert worker("report").stdout == "one: ended with status 3\nbegan\nends\n"
    assert scripts.calls("do.calls-0") == ["train a b.py"]


def test_stop_lets_it_save_and_says_that_it_was_asked_to(scripts, worker):
    scripts.do.write_text(
        'trap "echo saved; exit 143" TERM; echo began; touch $CLOUD/ready\nwhile :; do sleep 0.05; done\n'
    )
    worker("start", "joint-st", "train")
    scripts.wait_for("ready")
    assert worker("stop", 10).stdout == "one: stopped\n"
    followed = worker("follow")
    assert (followed.returncode, followed.stdout.split()) == (143, ["began", "saved"])
    assert worker("stop", 10).stdout == "one: nothing runs\n"


def test_what_does_not_stop_is_killed_with_its_children(scripts, worker):
    scripts.do.write_text('trap "" TERM; (while :; do date > $CLOUD/lives; sleep 0.05; done) & wait\n')
    worker("start", "joint-st", "train")
    scripts.wait_for("lives")
    assert worker("stop", 0.3).stdout == "one: stopped\n"
    (scripts.folder / "lives").unlink()
    time.sleep(0.5)
    assert not (scripts.folder / "lives").exists()
    assert worker("report").stdout == "one: ended with status 137\n"


@pytest.mark.parametrize("number", ["KILL", "TERM"])
def test_what_was_ended_from_outside_is_told_from_what_failed(scripts, worker, number):
    # A restart of the machine sends SIGTERM to every process, and kills what is left.
    scripts.do.write_text('trap "exit 143" TERM; touch $CLOUD/ready; while :; do sleep 0.05; done\n')
    worker("start", "joint-st", "train")
    scripts.wait_for("ready")
    session = (scripts.folder / "home/joint_st/job/session").read_text().strip()
    subprocess.run(["kill", f"-{number}", "--", f"-{session}"], check=True)
    assert worker("follow").returncode == 75
    assert worker("report").stdout == "one: ended from outside\n"
    (scripts.folder / "ready").unlink()
    assert worker("start", "joint-st", "train").stdout == "one: started\n"
    scripts.wait_for("ready")


def test_what_a_command_has_left_is_ended_before_it_starts_again(scripts, worker):
    # Of the two that outlive it, one heeds SIGTERM; the other has to be killed.
    scripts.do.write_text(
        "[ $RUN = 1 ] || exit 0\nsleep 300 &\n(trap '' TERM; touch $CLOUD/deaf; sleep 300 & wait; wait) &\n"
        "until [ -e $CLOUD/deaf ]; do sleep 0.05; done; exit 3\n"
    )
    assert worker("start", "joint-st", "train").stdout == "one: started\n"
    assert worker("follow").returncode == 3
    assert worker("start", "joint-st", "train").stdout == "one: ends what the command before has left\none: started\n"
    assert worker("follow").returncode == 0
    assert scripts.calls("do.calls-0") == ["train", "train"]


def test_a_start_ends_where_what_holds_the_command_is_killed_at_once(scripts, worker):
    """It could not note the command's number, as where all of the session is killed right after it has begun."""
    scripts.do.write_text("exit 0\n")
    (scripts.folder / "home" / "joint_st" / "job" / "pid.new").mkdir(parents=True)
    assert worker("start", "joint-st", "train").stdout == "one: started\n"
    assert worker("follow").returncode == 75


def test_the_status_of_a_command_that_ends_before_it_is_waited_for_is_kept(scripts, worker):
    """A slow `mv`, which runs between the command's start and the wait for its end, stands for a busy machine."""
    programs = scripts.folder / "programs"
    programs.mkdir()
    slow = programs / "mv"
    slow.write_text('#!/bin/sh\nsleep 0.5\nPATH=${PATH#*:} exec mv "$@"\n')
    slow.chmod(0o755)
    scripts.environment["PATH"] = f"{programs}:{scripts.environment['PATH']}"
    scripts.do.write_text("exit 7\n")
    worker("start", "joint-st", "train")
    assert worker("follow").returncode == 7
    assert worker("report").stdout == "one: ended with status 7\n"
