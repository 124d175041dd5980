"""`launch/local.sh`: processes of one machine that live and end together."""

from __future__ import annotations

import signal
import time

import pytest


def test_every_process_gets_its_number_and_the_same_meeting_point(scripts):
    scripts.do.write_text('echo "output of $WORKER"\n')
    result = scripts.run("local.sh", "-n", 3, "--logs", "logs", "--", "joint-st", "train", "a b.py", "--workdir", "r")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "output of 0\n"
    port = scripts.calls("do.calls-0")[0].split("127.0.0.1:")[1].split()[0]
    assert 20_000 <= int(port) < 30_000
    for i in range(3):
        assert scripts.calls(f"do.calls-{i}") == [
            f"train a b.py --workdir r --coordinator 127.0.0.1:{port} --processes 3 --process {i}"
        ]
    for i in (1, 2):
        assert (scripts.folder / f"logs/process-{i}.log").read_text() == f"output of {i}\n"


def test_devices_of_the_cpu(scripts):
    scripts.do.write_text("echo devices $JAX_NUM_CPU_DEVICES\n")
    result = scripts.run("local.sh", "-n", 1, "--devices-per-process=4", "--", "joint-st", "train", "c.py")
    assert result.stdout == "devices 4\n"


def have_gpus(scripts, count: int) -> None:
    """Let the machine have some GPUs, as far as the scripts see."""
    nvidia_smi = scripts.folder / "bin" / "nvidia-smi"
    nvidia_smi.parent.mkdir()
    nvidia_smi.write_text("#!/bin/sh\n" + 'echo "GPU of a test"\n' * count)
    nvidia_smi.chmod(0o755)
    scripts.environment["PATH"] = f"{nvidia_smi.parent}:{scripts.environment['PATH']}"
    del scripts.environment["JAX_PLATFORMS"]
    scripts.environment.pop("CUDA_VISIBLE_DEVICES", None)


@pytest.mark.parametrize(("gpus", "options", "visible"), [(4, (), "2,3"), (4, ("--devices-per-process", 1), "1")])
def test_gpus_are_dealt_out(scripts, gpus, options, visible):
    have_gpus(scripts, gpus)
    scripts.do.write_text("echo $CUDA_VISIBLE_DEVICES\n")
    result = scripts.run("local.sh", "-n", 2, "--logs", "logs", *options, "--", "joint-st", "train", "c.py")
    assert result.returncode == 0, result.stderr
    assert (scripts.folder / "logs/process-1.log").read_text() == f"{visible}\n"
    refused = scripts.run("local.sh", "-n", gpus + 1, "--", "joint-st", "train", "c.py")
    assert refused.returncode == 2 and f"there are {gpus}" in refused.stderr


@pytest.mark.parametrize(
    ("listed", "options", "parts"),
    [
        ("4,5,6,7", (), ("4,5", "6,7")),
        ("7, 2,5", (), ("7", "2")),
        ("GPU-8f1c,GPU-03ab,GPU-77e0,GPU-1d2e", ("--devices-per-process", 1), ("GPU-8f1c", "GPU-03ab")),
        ("3,1,-1,0", (), ("3", "1")),
    ],
)
def test_only_the_gpus_that_are_given_to_it_are_dealt_out(scripts, listed, options, parts):
    """A queue gives each user of a shared machine some of its GPUs."""
    have_gpus(scripts, 8)
    scripts.environment["CUDA_VISIBLE_DEVICES"] = listed
    result = scripts.run("local.sh", "-n", 2, *options, "--dry-run", "--", "joint-st", "train", "c.py")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["env", f"CUDA_VISIBLE_DEVICES={part}"] for part in parts]
    refused = scripts.run("local.sh", "-n", 5, "--dry-run", "--", "joint-st", "train", "c.py")
    there = len(listed.partition(",-1")[0].split(","))
    assert refused.returncode == 2 and f"there are {there} in CUDA_VISIBLE_DEVICES" in refused.stderr


def test_no_gpu_is_visible(scripts):
    """The variable is set, and empty."""
    have_gpus(scripts, 8)
    scripts.environment["CUDA_VISIBLE_DEVICES"] = ""
    result = scripts.run("local.sh", "-n", 2, "--dry-run", "--", "joint-st", "train", "c.py")
    assert result.returncode == 0 and result.stdout.startswith("joint-st train c.py ")


def test_one_that_fails_ends_the_others_and_its_last_lines_are_shown(scripts):
    scripts.do.write_text(
        'if [ $WORKER = 1 ]; then seq 100; echo "no such file" >&2; sleep 0.3; exit 3; fi\n'
        'trap "echo $WORKER was ended; exit 143" TERM; sleep 300 & wait\n'
    )
    result = scripts.run("local.sh", "-n", 3, "--logs", "logs", "--", "joint-st", "train", "c.py")
    assert result.returncode == 3
    assert result.stdout == "0 was ended\n"
    assert "process 1 ended with status 3\n82\n" in result.stderr and "100\nno such file\n" in result.stderr
    assert "\n81\n" not in result.stderr


def test_one_that_does_not_end_is_killed(scripts):
    scripts.do.write_text('if [ $WORKER = 0 ]; then sleep 0.3; exit 5; fi\ntrap "" TERM; while :; do sleep 1; done\n')
    result = scripts.run("local.sh", "-n", 2, "--grace", 0.5, "--", "joint-st", "train", "c.py")
    assert result.returncode == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_all_and_each_may_take_its_time(scripts, number):
    scripts.do.write_text(
        f'trap "sleep 0.7; echo $WORKER saved; exit {128 + number}" {signal.Signals(number).name[3:]}\n'
        "touch ready-$WORKER; while :; do sleep 0.05; done\n"
    )
    process = scripts.start("local.sh", "-n", 2, "--grace", 0.1, "--logs", "logs", "--", "joint-st", "train", "c.py")
    scripts.wait_for("ready-*", 2)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, errors
    assert output == "0 saved\n"
    assert (scripts.folder / "logs/process-1.log").read_text() == "1 saved\n"


def test_no_second_training_on_the_same_run(scripts):
    scripts.do.write_text("touch ready-$WORKER; until [ -e go ]; do sleep 0.05; done\n")
    train = ("local.sh", "-n", 2, "--", "joint-st", "train", "c.py", "--workdir")
    process = scripts.start(*train, "one")
    scripts.wait_for("ready-*", 2)
    again = scripts.run(*train, scripts.folder / "one")
    assert again.returncode == 1 and "work on" in again.stderr and again.stderr.count("\n") == 1
    (scripts.folder / "go").touch()
    assert scripts.run(*train, "other").returncode == 0
    process.communicate(timeout=60)
    assert process.returncode == 0 and scripts.run(*train, "one").returncode == 0


def test_a_run_is_known_by_its_directory_however_that_is_written(scripts):
    scripts.do.write_text("touch ready-$WORKER; until [ -e go ]; do sleep 0.05; done\n")
    process = scripts.start("local.sh", "-n", 1, "--", "joint-st", "train", "c.py", "--workdir=one")
    scripts.wait_for("ready-*")
    again = scripts.run("local.sh", "-n", 1, "--", "joint-st", "train", "c.py", "--workdir", "one", "--seed", 3)
    (scripts.folder / "go").touch()
    process.communicate(timeout=60)
    assert again.returncode == 1 and f"work on {scripts.folder}/one;" in again.stderr


def test_a_lock_that_is_given_back_in_a_moment_is_waited_for(scripts):
    """Processes that a killed start has left behind may hold it for half a second or so."""
    scripts.do.write_text("touch ready-$WORKER; sleep 1\n")
    train = ("local.sh", "-n", 2, "--", "joint-st", "train", "c.py", "--workdir", "one")
    process = scripts.start(*train)
    scripts.wait_for("ready-*", 2)
    again = scripts.run(*train)
    assert again.returncode == 0, again.stderr
    process.communicate(timeout=60)


def test_the_second_signal_kills(scripts):
    scripts.do.write_text('trap "" TERM INT; touch ready-$WORKER; while :; do sleep 0.05; done\n')
    process = scripts.start("local.sh", "-n", 2, "--", "joint-st", "train", "c.py")
    scripts.wait_for("ready-*", 2)
    for _ in range(2):
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 137


def test_what_is_missing_is_told_in_one_line(scripts):
    result = scripts.run("local.sh", "--", "joint-st", "train", "c.py")
    assert result.returncode == 2
    assert result.stderr == "local.sh: error: missing -n (how many processes, as in -n 2); see --help\n"
    for arguments, words in (
        (("-n", 2), "-- COMMAND"),
        (("-n", "two", "--", "joint-st"), "-n two: a whole number"),
        (("-n",), "-n takes a value"),
        (("--nodes", 2, "--", "joint-st"), "--nodes: unknown option"),
        (("-n", 2, "--", "joint-tt"), "joint-tt is not installed"),
    ):
        result = scripts.run("local.sh", *arguments)
        assert result.returncode == 2 and words in result.stderr and result.stderr.count("\n") == 1
