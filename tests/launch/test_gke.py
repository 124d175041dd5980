"""`launch/gke.sh` against a stand-in for xpk."""

from __future__ import annotations

import pytest

from tests.launch.scripts import git

TRAIN = ("--", "joint-st", "train", "my config.py", "--workdir", "gs://bucket/run")
CREATE = ("gke.sh", "--cluster", "speech", "--name", "one", "--type", "v5litepod-16", *TRAIN)


def created(scripts) -> list[str]:
    return [call for call in scripts.calls() if call.startswith("workload create")]


def test_creates_a_workload_with_the_checkout_and_execs_the_command(scripts):
    # xpk signals the shell that runs the command: what it execs gets SIGTERM, a child of it would not.
    result = scripts.run(*CREATE)
    assert result.returncode == 0, result.stderr
    (call,) = created(scripts)
    image = scripts.folder / "image"
    files = {str(path.relative_to(image)) for path in image.rglob("*") if path.is_file()}
    assert files == set(git(scripts.checkout, "ls-files").splitlines())
    assert (image / "launch/install.sh").read_text() == (scripts.checkout / "launch/install.sh").read_text()
    # Another launch of the same commit has a folder of its own, and none of them stays.
    scripts.run(*CREATE)
    folders = [call.split("--script-dir ")[1].split()[0] for call in created(scripts)]
    assert len(set(folders)) == 2 and not list((scripts.folder / "tmp").iterdir())
    assert call.endswith(
        "--command bash launch/install.sh tpu && PATH=$PWD/.venv/bin:$PATH && "
        "exec joint-st train 'my config.py' --workdir gs://bucket/run"
    )


@pytest.mark.parametrize("status", ["QUEUED", "RUNNING"])
def test_one_that_waits_or_runs_is_left_as_it_is(scripts, status):
    (scripts.folder / status).write_text("Jobset Name   Created Time\none   2026-01-01T00:00:00Z\n")
    result = scripts.run(*CREATE)
    assert result.returncode == 0 and f"one is there already ({status.lower()})" in result.stderr
    assert created(scripts) == []


def test_another_name_does_not_count(scripts):
    (scripts.folder / "RUNNING").write_text("Jobset Name   Created Time\none-more   2026-01-01T00:00:00Z\n")
    assert scripts.run(*CREATE).returncode == 0
    assert len(created(scripts)) == 1


def test_what_is_missing_is_told_in_one_line(scripts):
    result = scripts.run("gke.sh", "--zone", "europe-west4-b")
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    for option in ("--cluster (", "--name (", "--type (", "-- COMMAND ("):
        assert option in result.stderr
    (scripts.folder / "RUNNING").write_text("")
    result = scripts.run(*CREATE[:-6], "--slices", "0", *TRAIN)
    assert result.returncode == 2 and "--slices 0: a whole number" in result.stderr
