"""`launch/slurm.sh` and the batch script it submits, against stand-ins for Slurm's commands."""

from __future__ import annotations

import pytest

TRAIN = ("--", "joint-st", "train", "a b.py")
SUBMIT = ("slurm.sh", "--name", "one", "--nodes", 2, *TRAIN)


def test_submits_once(scripts):
    assert scripts.run(*SUBMIT).stdout == "Submitted batch job 7\n"
    (scripts.folder / "jobs").write_text("7 PENDING\n")
    again = scripts.run(*SUBMIT)
    assert again.returncode == 0 and "one is there already: job 7 PENDING" in again.stderr
    assert [call.split()[0] for call in scripts.calls()] == ["squeue", "sbatch", "squeue"]
    assert scripts.calls()[0] == "squeue --me --name one --noheader --format %i %T"


@pytest.mark.parametrize(
    ("do", "state", "status", "requeued"),
    [
        ("exit 0", "RUNNING", 0, False),
        ("exit 3", "RUNNING", 3, False),
        ("exit 143", "RUNNING", 143, True),  # saved before the time limit
        ("kill -TERM $$", "RUNNING", 143, True),
        ("exit 143", "COMPLETING", 143, False),  # by scancel
    ],
)
def test_the_job_is_queued_again_where_its_tasks_were_ended(scripts, do, state, status, requeued):
    scripts.environment["SLURM_JOB_ID"] = "7"
    (scripts.folder / "jobs").write_text(f"{state}\n")
    scripts.do.write_text(do + "\n")
    result = scripts.run("slurm_job.sh", *TRAIN[1:])
    assert result.returncode == status
    assert scripts.calls("do.calls-0") == ["train a b.py"]
    assert scripts.calls()[0] == "srun --wait=120 joint-st train a b.py"
    assert ("scontrol requeue 7" in scripts.calls()) == requeued


def test_the_job_is_queued_again_where_the_controller_does_not_answer_at_first(scripts):
    scripts.environment["SLURM_JOB_ID"] = "7"
    (scripts.folder / "jobs").write_text("RUNNING\n")
    (scripts.folder / "failures").write_text("once\n")
    scripts.do.write_text("exit 143\n")
    assert scripts.run("slurm_job.sh", *TRAIN[1:]).returncode == 143
    assert [call.split()[0] for call in scripts.calls()] == ["srun", "squeue", "squeue", "scontrol"]
    assert scripts.calls()[-1] == "scontrol requeue 7"


def test_what_is_missing_is_told_in_one_line(scripts):
    result = scripts.run("slurm.sh")
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    for option in ("--name (", "--nodes (", "-- COMMAND ("):
        assert option in result.stderr
    result = scripts.run("slurm.sh", "--name", "one", "--nodes", "two", *TRAIN)
    assert result.returncode == 2 and "--nodes two: a whole number" in result.stderr
