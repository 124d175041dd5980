"""The table of a sweep says which runs were trained otherwise than their arms say."""

from __future__ import annotations

import json

import pytest

from joint_st.runs.directory import read_facts
from joint_st.runs.starts import other_schedules, record_start
from joint_st.sweeps import load_sweep
from joint_st.sweeps.remarks import remarks
from joint_st.sweeps.run_sweep import run_sweep
from joint_st.sweeps.runner import train_command
from tests.sweeps import fake_training
from tests.sweeps.conftest import write_sweep


def start(run, step: int, steps: int) -> None:
    record_start(run, step, "1 × cpu", "a CPU", 1, steps)


@pytest.fixture
def finished(tmp_path):
    """A function that returns the finished runs of the body of a sweep's `runs()`."""

    def make(runs: str):
        jobs = load_sweep(write_sweep(tmp_path, runs), tmp_path / "out").jobs
        for job in jobs:
            if not job.directory.has_checkpoint:
                fake_training.main(*train_command(job)[4:])
        return jobs

    return make


def test_runs_that_went_on_under_another_number_of_steps(finished, tmp_path, capsys):
    a, b = finished("yield Run('a')\nyield Run('b')")
    for run in (a.directory, b.directory):
        start(run, 0, 4)
    assert list(remarks([a, b])) == []
    a.directory.starts.unlink()
    for step, steps in ((0, 2), (2, 3), (3, 4)):
        start(a.directory, step, steps)
    line = "trained in part under another training.steps, so that their learning rate fell otherwise: a/seed_0 (2, 3)"
    assert list(remarks([a, b])) == [line]
    assert run_sweep(tmp_path / "few.py", workdir=tmp_path / "out", collect_only=True) == 0
    assert f"{line}\n" in capsys.readouterr().err


def test_steps_that_were_taken_back_count_for_nothing(finished):
    run = finished("yield Run('a')")[0].directory
    assert other_schedules(run, 4) == []
    start(run, 0, 0)  # as earlier versions wrote it
    start(run, 1, 3)
    start(run, 1, 4)
    assert other_schedules(run, 4) == []
    start(run, 3, 8)
    assert other_schedules(run, 4) == [8]
    start(run, 1, 4)
    assert other_schedules(run, 4) == []


def test_runs_whose_checkpoints_were_chosen_among_others(finished):
    runs = "for arm in ('a', 'b'):\n    yield Run(arm, {{'data.dev': 'tfds:grammar:all'{}}})"
    finished(runs.format(""))
    jobs = finished(runs.format(", 'training.evaluate_every': 2"))
    assert [job.directory.has_checkpoint for job in jobs] == [True, True]
    every = f"(every {fake_training.load(jobs[0].directory.config).training.evaluate_every} steps)"
    expected = (
        f"their best checkpoint was chosen under another training.evaluate_every: a/seed_0 {every}, b/seed_0 {every}"
    )
    assert list(remarks(jobs)) == [expected]


def test_runs_that_began_from_different_weights_of_one_run(finished):
    init = "{'training.init': {'run': '/runs/other'}}"
    jobs = finished(
        f"yield Run('a', {init})\nyield Run('b', {init})\nyield Run('c', {init})\n"
        "yield Run('d', {'training.init': {'run': '/runs/other', 'checkpoint': '9'}})\nyield Run('none')"
    )
    for job, step in zip(jobs[:4], (3, 8, 3, 9), strict=True):
        facts = job.directory.checkpoints / "4" / "facts" / "metadata"
        there = read_facts(facts.parents[1]) | {"init": {"run": "/runs/other", "step": step}}
        facts.write_text(json.dumps(there))
    assert list(remarks([jobs[0], *jobs[2:]])) == []
    assert list(remarks(jobs)) == [
        "training.init.run /runs/other: different weights were taken from it, step 3 of /runs/other by a/seed_0, c/seed_0; "
        "step 8 of /runs/other by b/seed_0"
    ]
