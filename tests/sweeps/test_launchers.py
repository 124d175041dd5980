"""Runs through launch scripts: their arguments, what counts as submitted, and that nothing is submitted twice."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import joint_st.config.file
from joint_st.cli import main
from joint_st.errors import UserError
from joint_st.sweeps import load_sweep
from joint_st.sweeps.launchers import find_launcher, last_line, submission
from joint_st.sweeps.locks import is_locked
from joint_st.sweeps.runner import train_command
from joint_st.sweeps.status import look, state_in_words
from tests.sweeps.conftest import FAKE, write_sweep
from tests.sweeps.test_runner import signals_as_in_a_terminal, starts, wait_for  # noqa: F401
from tests.tiny import environment

WAITS = """#!/bin/bash
# Runs the command until it ends.
until [ "$1" = -- ]; do echo "option $1"; shift; done
shift
child=
trap 'kill -TERM $child' TERM
"$@" & child=$!
wait $child; wait $child
"""

QUEUES = """#!/bin/bash
# Submits the command to a queue, a file, as slowly as asked.
[ "$1" != --slow ] || { touch begun; until [ -e go ]; do sleep 0.05; done; }
echo "$@" >> queue
echo "Submitted batch job $(wc -l < queue)"
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the scripts `waits.sh` and `queues.sh`; `joint-st` is the stand-in."""
    stand_in = f'#!/bin/sh\nshift\nexec {sys.executable} {FAKE} "$@"\n'
    scripts = {"waits.sh": WAITS, "queues.sh": QUEUES, "bin/joint-st": stand_in}
    (tmp_path / "bin").mkdir()
    for name, text in scripts.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def through(file: Path, script: str, *options: str) -> list[str]:
    """Return the arguments of a sweep through a script."""
    return ["sweep", str(file), "--workdir", "out", "--launcher", script, *options]


def run(arguments: list[str]) -> int:
    """Return the exit status of the command."""
    try:
        return main(arguments)
    except SystemExit as ended:
        return ended.code


def start(*arguments: str) -> subprocess.Popen:
    """Return a sweep in a process of its own."""
    command = [sys.executable, "-m", "joint_st", *through(*arguments)]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def queue(place: Path) -> list[str]:
    return (place / "queue").read_text().splitlines()


def test_a_run_is_trained_with_the_files_that_extend_the_sweep(place, monkeypatch):
    (job,) = load_sweep(write_sweep(place, "yield Run('a')"), "out").jobs
    monkeypatch.setattr(joint_st.config.file, "_extensions", {place / "mine.py": ("mine.py", None)})
    told = ["--with", "mine.py", "train", str(place / "base.py"), "--workdir", "out/a/seed_0"]
    assert train_command(job)[2 : 3 + len(told)] == ["joint_st", *told]
    assert find_launcher("./queues.sh")(job)[1 : 3 + len(told)] == ["--", "joint-st", *told]


def test_of_a_progress_bar_the_last_state_is_told(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"$ launch\nwaiting\r\nvm: 10 %\rvm: 90 %\rquota exceeded   \r\n\n")
    assert last_line(log) == "quota exceeded"


def test_a_script_that_prints_nothing_has_no_answer(place, capsys):
    (place / "silent.sh").write_text("#!/bin/sh\n")
    (place / "silent.sh").chmod(0o755)
    file = write_sweep(place, "yield Run('a')")
    run(through(file, "./silent.sh"))
    told = capsys.readouterr().err
    assert "a/seed_0: submitted " in told and "joint-st" not in told.partition("a/seed_0: submitted ")[2]
    (job,) = load_sweep(file, "out").jobs
    assert submission(job).answer == "" and str(submission(job)).count(" (") == 0


def test_what_a_script_is_told(place):
    file = write_sweep(place, "yield Run('lr_1e-3', {'data.text': [], 'name': 'x y'}, 2)")
    (job,) = load_sweep(file, "out").jobs
    train = ["joint-st", "train", str(place / "base.py"), "--workdir", "out/lr_1e-3/seed_2"]
    values = [f"--fingerprint={job.fingerprint}", "--name=x y", "--data.text=[]", "--seed=2"]
    here, there = (
        hashlib.sha256(f"{folder}/lr_1e-3/seed_2".encode()).hexdigest()[:6]
        for folder in (place / "out", "gs://bucket/all")
    )
    words = find_launcher("./queues.sh", ["--name", "ti-{run}", "--n", "2"])(job)
    assert words == [str(place / "queues.sh"), "--name", f"ti-lr-1e-3-seed-2-{here}", "--n", "2", "--", *train, *values]

    scripts = place / "launch"
    scripts.mkdir()
    for name in ("tpu_vm.sh", "slurm.sh", "sky.yaml"):
        (scripts / name).touch()
    with pytest.raises(
        UserError, match="--launcher slurm: submits each name only once, so give each run its own: -- --name"
    ):
        find_launcher("slurm", ["--name", "all"], scripts=scripts)
    assert find_launcher("slurm", ["--name={run}"], scripts=scripts)(job)[:2] == [
        str(scripts / "slurm.sh"),
        f"--name=lr-1e-3-seed-2-{here}",
    ]
    words = find_launcher("tpu-vm", workdir="gs://bucket/all/", scripts=scripts)(job)
    train[-1] = "gs://bucket/all/lr_1e-3/seed_2"
    assert words == [str(scripts / "tpu_vm.sh"), "--", *train, *values]
    words = find_launcher("sky", ["--name", "{run}"], "gs://bucket/all", scripts)(job)
    assert words == [
        "sky",
        "jobs",
        "launch",
        str(scripts / "sky.yaml"),
        "--yes",
        "--detach-run",
        "--name",
        f"lr-1e-3-seed-2-{there}",
        "--env",
        f"COMMAND={' '.join([*train, values[0]])} '--name=x y' '--data.text=[]' --seed=2",
    ]


def names_of(file: Path, out: str | Path, **launcher) -> list[str]:
    launch = find_launcher("./queues.sh", ["--name", "{run}"], **launcher)
    return [launch(job)[2] for job in load_sweep(file, out).jobs]


def test_each_run_has_a_name_of_its_own(place, monkeypatch):
    """Also where clouds would take two names for one, and where two sweeps have the same arms."""
    runs = "yield from (Run(name, {}, 0) for name in ('bias=1', 'bias=-1', 'wide', 'Wide', 'deep'))"
    file = write_sweep(place, runs)
    names = names_of(file, "out")
    assert len(set(names)) == len(names)
    cleaned = ["bias-1-seed-0-"] * 2 + ["wide-seed-0-"] * 2 + ["deep-seed-0-"]
    assert [name[:-6] for name in names] == cleaned and all(re.fullmatch("[a-z0-9-]+", name) for name in names)
    others = [names_of(file, "other"), names_of(file, "out", workdir="gs://bucket/out")]
    assert not set(names) & {name for other in others for name in other}
    # They depend on nothing but the place of the run, as the launched training sees it.
    assert names_of(file, place / "out") == names_of(file, "out/") == names
    assert names_of(file, "other", workdir="gs://bucket/out/") == others[1]
    monkeypatch.chdir("bin")
    (place / "bin" / "queues.sh").touch()
    assert names_of(file, "../out") == names


def test_two_sweeps_with_equal_arms_are_both_submitted(place):
    """The script does nothing, and ends with status 0, where a job of that name is there."""
    (place / "once.sh").write_text('#!/bin/bash\n! grep -qsx "$2" names || exit 0\necho "$2" >> names\necho "job $2"\n')
    (place / "once.sh").chmod(0o755)
    file = write_sweep(place, "yield Run('a')")
    for out in ("one", "two", "two"):
        assert main(["sweep", str(file), "--workdir", out, "--launcher", "./once.sh", "--", "--name", "s-{run}"]) == 0
    names = (place / "names").read_text().split()
    assert len(names) == len(set(names)) == 2


@pytest.mark.parametrize(
    "arguments, line",
    [
        ("--launcher nope", "--launcher nope: no script "),
        ("--launcher ./nope.sh", "--launcher ./nope.sh: no script nope.sh; give the name of one in launch/, or a path"),
        ("-- --zone here", "--remote-workdir and the options after `--` need a --launcher; name one"),
        ("--workdir s3://a/b", "s3://a/b: give a path on a disk, or gs://BUCKET/FOLDER"),
    ],
)
def test_a_mistake_is_one_line(place, capsys, arguments, line):
    file = write_sweep(place, "yield Run('a')")
    assert run(["sweep", str(file), *arguments.split()]) == 2
    assert capsys.readouterr().err.startswith(f"joint-st: error: {line}")


def test_a_script_that_waits_trains_the_runs(place, capsys):
    file = write_sweep(place, "for arm in ('fails', 'a'):\n    yield Run(arm)")
    assert run(through(file, "./waits.sh", "--", "--size", "4")) == 1
    error = capsys.readouterr().err
    assert "fails/seed_0: joint-st: error: there is no such thing (exit status 2)" in error
    assert "a/seed_0: test streaming WER" in error and "submitted" not in error
    jobs = load_sweep(file, "out").jobs
    assert [state_in_words(job) for job in jobs] == ["failed, step 0 saved", "finished"]
    assert "option --size\noption 4\n" in jobs[1].log.read_text() and submission(jobs[1]) is None
    # With more steps it is to be trained on, whatever was launched before.
    (job,) = load_sweep(write_sweep(place, "yield Run('a', {'training.steps': 5})"), "out").jobs
    assert state_in_words(job) == "step 4 of 5"


def test_what_is_queued_is_submitted_once(place, capsys):
    file = write_sweep(place, "yield Run('a')\nyield Run('b')")
    arguments = through(file, "./queues.sh")
    assert run(arguments) == 0
    error = capsys.readouterr().err
    assert "a/seed_0: submitted 2" in error and error.count("(Submitted batch job 1)") == 1
    assert "2 runs submitted: a/seed_0, b/seed_0; --status shows how far they are" in error
    a, b = load_sweep(file, "out").jobs
    assert state_in_words(b).endswith("(Submitted batch job 2), step 0 saved")
    for again in (arguments, arguments[:4]):  # also not where they would be trained here
        assert run(again) == 0
        assert "2 runs submitted" in capsys.readouterr().err
    assert len(queue(place)) == 2

    # The first is trained by the queue, the second has just begun: neither is submitted again.
    subprocess.run(queue(place)[0].partition("-- ")[2].split(), check=True)
    b.directory.root.mkdir(parents=True)
    b.directory.metrics.write_text("step\n")
    assert run([*arguments, "--resubmit"]) == 0
    error = capsys.readouterr().err
    assert "b/seed_0: submitted" in error and "has written something just now; not submitted again" in error
    assert "1 of 2 runs are finished already" in error
    assert len(queue(place)) == 2 and submission(a) is None and submission(b)

    long_ago = time.time() - 700
    os.utime(b.directory.metrics, (long_ago, long_ago))
    assert run([*arguments, "--resubmit"]) == 0
    assert "(Submitted batch job 3)" in capsys.readouterr().err
    assert len(queue(place)) == 3 and look(a).finished


def test_a_script_that_fails_is_tried_again(place, capsys):
    file = write_sweep(place, "yield Run('a')")
    (place / "broken.sh").write_text("echo no quota >&2; exit 3")
    assert run(through(file, "./broken.sh")) == 1
    (job,) = load_sweep(file, "out").jobs
    assert (
        state_in_words(job) == "failed, step 0 saved"
        and "Permission denied (exit status 126)" in capsys.readouterr().err
    )
    (place / "broken.sh").chmod(0o755)
    assert run(through(file, "./broken.sh")) == 1
    assert "a/seed_0: no quota (exit status 3)" in capsys.readouterr().err
    assert run(through(file, "./queues.sh")) == 0
    assert len(queue(place)) == 1


def test_a_sweep_killed_while_it_submits_submits_nothing_twice(place, capsys):
    file = write_sweep(place, "yield Run('a')")
    process = start(file, "./queues.sh", "--", "--slow")
    wait_for((place / "begun").exists)
    process.kill()
    process.communicate()
    (job,) = load_sweep(file, "out").jobs
    assert is_locked(job.lock)
    assert run(through(file, "./queues.sh")) == 0
    assert "1 run trained by another process: a/seed_0" in capsys.readouterr().err
    (place / "go").touch()
    wait_for(lambda: not is_locked(job.lock))
    assert run(through(file, "./queues.sh")) == 0
    assert "1 run submitted: a/seed_0" in capsys.readouterr().err
    assert len(queue(place)) == 1


def test_two_sweeps_at_once_submit_each_run_once(place):
    file = write_sweep(place, "for seed in range(4):\n    yield Run('a', seed=seed)")
    both = [start(file, "./queues.sh", "--workers", "2") for _ in range(2)]
    errors = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert sorted(line.split("--seed=")[1] for line in queue(place)) == list("0123")


def test_a_signal_reaches_what_a_script_runs(place):
    file = write_sweep(place, "yield Run('waits')")
    process = start(file, "./waits.sh")
    wait_for((place / "out" / "waits" / "seed_0" / "waiting").exists)
    process.send_signal(signal.SIGINT)
    assert "waits/seed_0: stopped, step 2 of 4 saved" in process.communicate(timeout=300)[1]
    assert process.returncode == 130
    (job,) = load_sweep(file, "out").jobs
    assert state_in_words(job) == "step 2 of 4" and not is_locked(job.lock)
    assert run(through(file, "./waits.sh")) == 0
    assert starts(place / "out") == {"waits/seed_0": 2} and state_in_words(job) == "finished"


def test_a_second_signal_ends_all_that_a_script_has_started(place):
    file = write_sweep(place, "yield Run('deaf')")
    process = start(file, "./waits.sh")
    waiting = place / "out" / "deaf" / "seed_0" / "waiting"
    wait_for(waiting.exists)
    process.send_signal(signal.SIGTERM)
    assert "its launcher is asked to end" in [process.stderr.readline() for _ in range(2)][1]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=300)
    assert process.returncode == 143
    (job,) = load_sweep(file, "out").jobs
    assert not is_locked(job.lock) and state_in_words(job) == "to do"


def test_a_signal_to_a_script_that_leaves_its_run_elsewhere_says_so(place):
    """So does `launch/tpu_vm.sh`, whose TPU goes on and costs."""
    script = place / "leaves.sh"
    script.write_text(
        "#!/bin/bash\ntrap 'echo \"pod: left; it goes on\"; exit 143' TERM\ntouch begun\nwhile :; do sleep 0.05; done\n"
    )
    script.chmod(0o755)
    process = start(write_sweep(place, "yield Run('a')"), "./leaves.sh")
    wait_for((place / "begun").exists)
    process.send_signal(signal.SIGTERM)
    error = process.communicate(timeout=300)[1]
    assert "a/seed_0: its launcher is asked to end; a second signal kills it" in error
    assert re.search(r"a/seed_0: stopped, step 0 of 4 saved; [\d.]+ min; its launcher: pod: left; it goes on\n", error)
