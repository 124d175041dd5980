"""Progress of runs, found from directories with known times."""

from __future__ import annotations

import io
import os
import shutil
import time
from pathlib import Path

import pytest
from rich.console import Console

from joint_st.config import save
from joint_st.errors import UserError
from joint_st.sweeps import load_sweep, status
from joint_st.sweeps.locks import lock
from joint_st.sweeps.run_sweep import run_sweep
from joint_st.sweeps.runner import train_command
from joint_st.sweeps.status import (
    Numbers,
    Progress,
    check_conflicts,
    duration,
    progress,
    read_numbers,
    show_status,
    state_in_words,
)
from joint_st.training.asr import COLUMNS
from joint_st.training.loggers import CsvLogger
from tests.sweeps import fake_training
from tests.sweeps.conftest import write_sweep

NOW = time.time()


@pytest.fixture
def job(tmp_path):
    """A job of 1000 steps that nobody trains yet."""
    (job,) = load_sweep(write_sweep(tmp_path, "yield Run('a', {'training.steps': 1000})"), tmp_path / "out").jobs
    return job


@pytest.fixture
def locked(job):
    descriptor = lock(job.lock)
    yield
    os.close(descriptor)


@pytest.fixture(autouse=True)
def _now():
    """Take the time again for each test, because the module may have been imported long before."""
    global NOW
    NOW = time.time()


def set_time(path, seconds: float) -> None:
    """Set the time of the last write, relative to now."""
    os.utime(path, (NOW + seconds, NOW + seconds))


def begin(job, at: float) -> None:
    """Write the files that a training has before its first step."""
    job.directory.root.mkdir(parents=True)
    save(job.config, job.directory.config)
    set_time(job.directory.config, at - 30)
    log(job, [])
    set_time(job.directory.metrics, at)


def log(job, steps, resume_at: int = 0) -> None:
    logger = CsvLogger(job.directory.metrics, tuple(column.name for column in COLUMNS), resume_at=resume_at)
    for step in steps:
        logger.log(step, {"loss": 1.5, "audio_seconds_per_second": step + 0.25})
        if step % 100 == 0:
            logger.log(step, {"dev_streaming_wer": 0.9, "dev_full_context_wer": step / 1000})
    logger.close()


def save_step(job, step: int, at: float) -> None:
    fake_training.checkpoint(job.directory, step, 0.5)
    set_time(job.directory.checkpoints / str(step), at)
    set_time(job.directory.checkpoints, at)


def test_a_run_from_its_first_sign_to_its_last(job, locked):
    assert progress(job) == Progress("a/seed_0", "starting", 0, 1000)
    begin(job, at=-200)
    set_time(job.directory.root, -200)
    assert progress(job) == Progress("a/seed_0", "starting", 0, 1000)
    # 250 steps in 100 s: 300 s for the other 750. The step of the last checkpoint is older.
    log(job, range(10, 251, 10))
    save_step(job, 200, -120)
    set_time(job.directory.root, -200)
    set_time(job.directory.metrics, -100)
    found = progress(job)
    assert found.seconds_left == pytest.approx(300)
    assert found == Progress("a/seed_0", "running", 250, 1000, 250.25, 0.2, found.seconds_left)
    save_step(job, 1000, -10)
    assert progress(job) == Progress("a/seed_0", "evaluating", 1000, 1000, None, 0.2)


def test_the_pace_is_that_since_it_went_on(job, locked):
    begin(job, at=-5000)
    log(job, range(10, 641, 10))
    save_step(job, 600, -3000)
    # Started again, it compiles: the numbers are still those of before.
    set_time(job.directory.metrics, -2990)
    set_time(job.directory.config, -140)
    set_time(job.directory.root, -140)
    assert progress(job) == Progress("a/seed_0", "starting", 600, 1000, None, 0.6)
    log(job, [610, 620], resume_at=600)
    set_time(job.directory.root, -100)
    set_time(job.directory.metrics, -90)
    assert progress(job).step == 620
    assert progress(job).seconds_left == pytest.approx(10 / 20 * 380)


def test_runs_that_nobody_is_seen_to_train(job):
    assert progress(job).state == "to do"
    begin(job, at=-3000)
    log(job, [10, 20, 30])
    set_time(job.directory.metrics, -2000)
    save_step(job, 20, -2500)
    set_time(job.directory.checkpoints, -2500)
    # It goes on from the step saved.
    assert progress(job) == Progress("a/seed_0", "stopped", 20, 1000)
    job.failure.write_text("no memory\n")
    assert progress(job).state == "failed"
    job.submission.touch()
    set_time(job.submission, -1000)
    assert progress(job).state == "submitted"
    set_time(job.directory.config, -950)
    set_time(job.directory.metrics, -900)
    assert progress(job).state == "silent"
    set_time(job.directory.metrics, -400)
    assert (progress(job).state, progress(job).step) == ("running", 30)


def test_a_run_whose_checkpoints_were_removed_is_not_trained_again(job, fake):
    fake_training.main(*train_command(job)[4:])
    assert progress(job).state == "finished"
    shutil.rmtree(job.directory.checkpoints)
    assert progress(job).state == state_in_words(job) == "no checkpoints"
    with pytest.raises(UserError, match="^a/seed_0: .*/checkpoints: has no checkpoint, and .*/evaluations is there: "):
        check_conflicts((job,))


def test_numbers_of_a_long_file_and_of_one_being_written(job, monkeypatch):
    assert read_numbers(job.directory.metrics) == Numbers()
    job.directory.root.mkdir(parents=True)
    log(job, range(10, 3001, 10))
    whole = read_numbers(job.directory.metrics)
    assert whole == Numbers(3000, 3000.25, 3.0)
    with open(job.directory.metrics, "a") as file:
        file.write("3010,1.0,2")
    assert read_numbers(job.directory.metrics) == whole
    for size in range(600, 640):  # the cut falls within one line or another
        monkeypatch.setattr(status, "_LAST_BYTES", size)
        assert read_numbers(job.directory.metrics) == whole


def test_the_table_is_printed_once_where_it_is_no_terminal(tmp_path, fake, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a short path, in one line
    file = write_sweep(tmp_path, "yield Run('fails')\nyield Run('a')\nyield Run('b', {'training.steps': 9})")
    run_sweep(file, workdir="out", only=["fails", "a"], command=fake)
    capsys.readouterr()
    assert run_sweep(file, workdir="out", status=True) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert " ".join(lines[0]) == "out: 1 failed, 1 finished, 1 to do"
    assert lines[1] == ["run", "state", "step"]
    assert lines[3:] == [
        ["fails/seed_0", "failed", "0/4"],
        ["a/seed_0", "finished", "4/4"],
        ["b/seed_0", "to", "do", "0/9"],
    ]


@pytest.mark.parametrize("interrupted", [False, True])
def test_on_a_terminal_it_follows_until_all_is_finished_or_ctrl_c(tmp_path, fake, monkeypatch, interrupted):
    file, out = write_sweep(tmp_path, "yield Run('a')\nyield Run('b')"), Path(os.path.relpath(tmp_path / "out"))
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if interrupted and len(slept) == 2:
            raise KeyboardInterrupt
        monkeypatch.undo()
        run_sweep(file, workdir=out, only=["a", "b"][len(slept) - 1 : len(slept)], command=fake)
        monkeypatch.setattr(status.time, "sleep", sleep)

    monkeypatch.setattr(status.time, "sleep", sleep)
    found, screen = load_sweep(file, out), io.StringIO()
    show_status(found, found.jobs, Console(file=screen, force_terminal=True, width=200))
    assert len(slept) == 2
    titles = [line.split("out: ")[1] for line in screen.getvalue().split("\n") if "out: " in line]
    expected = ["2 to do", "1 finished, 1 to do"] + ["2 finished"] * (not interrupted)
    assert list(dict.fromkeys(title.strip().split("\x1b")[0].strip() for title in titles)) == expected


def test_durations():
    assert [duration(s) for s in (0, 59.4, 60, 3599, 3660, 36_000)] == [
        "0 s",
        "59 s",
        "1 min",
        "1 h 00 min",
        "1 h 01 min",
        "10 h 00 min",
    ]
