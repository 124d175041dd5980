"""The runs of a sweep: what is run, skipped or continued, and the effects of signals and failures."""

from __future__ import annotations

import dataclasses
import errno
import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from joint_st.config import load, override, save
from joint_st.errors import UserError
from joint_st.evaluation.origin import SUFFIX, Origin
from joint_st.sweeps import load_sweep, runner
from joint_st.sweeps.locks import is_locked
from joint_st.sweeps.run_sweep import run_sweep
from joint_st.sweeps.runner import Signals, Started, pass_on, run_jobs
from joint_st.sweeps.status import check_conflicts, look, state_in_words
from tests.sweeps import fake_training
from tests.sweeps.conftest import write_sweep
from tests.tiny import environment

PROGRAM = """
import sys
from pathlib import Path
from joint_st.sweeps.run_sweep import run_sweep
from tests.sweeps.conftest import fake_command
sys.exit(run_sweep(Path(sys.argv[1]), workdir=sys.argv[2], workers=int(sys.argv[3]), command=fake_command))
"""


@pytest.fixture(autouse=True)
def signals_as_in_a_terminal():
    """Restore the default handling of signals, because background processes begin with some signals ignored."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def start(file: Path, out: Path, workers: int = 1) -> subprocess.Popen:
    """Return a sweep in a process of its own."""
    command = [sys.executable, "-c", PROGRAM, str(file), str(out), str(workers)]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for(event) -> None:
    deadline = time.monotonic() + 300
    while not event():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def starts(out: Path) -> dict[str, int]:
    """Return how often each run was started."""
    return {
        str(file.parent.relative_to(out)): file.read_text().count("started") for file in sorted(out.rglob("starts"))
    }


def test_a_failing_run_does_not_stop_the_rest_and_only_it_is_tried_again(tmp_path, fake, capsys):
    file, out = write_sweep(tmp_path, "for arm in ('fails', 'a', 'b'):\n    yield Run(arm)"), tmp_path / "out"
    assert run_sweep(file, workdir=out, command=fake) == 1
    output = capsys.readouterr()
    assert "1 run failed" in output.err
    problem = "joint-st: error: there is no such thing (exit status 2)"
    assert f"fails/seed_0: {problem}\n    log: {out}/fails/seed_0.log\n" in output.err
    assert (out / "fails" / "seed_0.failed").read_text() == problem + "\n"
    assert "b/seed_0: test streaming WER" in output.err and "not in the table: fails/seed_0" in output.err
    assert "all words" in output.out
    log = (out / "a" / "seed_0.log").read_text().splitlines()
    assert log[0].startswith("$ ") and log[0].endswith("--seed=0") and log[1:] == ["training a/seed_0"]

    assert run_sweep(file, workdir=out, command=fake) == 1
    assert "2 of 3 runs are finished already" in capsys.readouterr().err
    assert starts(out) == {"a/seed_0": 1, "b/seed_0": 1, "fails/seed_0": 2}
    assert (out / "fails" / "seed_0.log").read_text().count("$ ") == 2

    assert run_sweep(file, workdir=out, only=["fails"], command=lambda job: ["true"]) == 1
    assert "fails/seed_0: ended with status 0, but without an evaluation of its last step" in capsys.readouterr().err
    assert run_sweep(file, workdir=out, only=["fails"], command=lambda job: ["sh", "-c", "kill -9 $$"]) == 1
    assert "fails/seed_0: killed by SIGKILL\n" in capsys.readouterr().err


def test_a_full_disk_fails_the_runs_that_it_refuses_alone(tmp_path, fake, capsys, monkeypatch):
    arms = "for arm in ('fails', 'a', 'no_log', 'no_lock', 'b'):\n    yield Run(arm)"
    file, out = write_sweep(tmp_path, arms), tmp_path / "out"
    full = OSError(errno.ENOSPC, "No space left on device")
    write, lock, printed = Path.write_text, runner.lock, sys.stderr.flush

    def refuse_failure(path, *arguments, **options):
        if path.name == "seed_0.failed":
            raise full
        return write(path, *arguments, **options)

    def refuse_lock(path):
        if path.parent.name == "no_lock":
            raise OSError(full.errno, full.strerror, str(path))
        return lock(path)

    def refuse_print():
        printed()
        raise full

    (out / "no_log" / "seed_0.log").mkdir(parents=True)  # it cannot be opened
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", refuse_failure)
        patch.setattr(runner, "lock", refuse_lock)
        patch.setattr(sys.stderr, "flush", refuse_print)
        assert run_sweep(file, workdir=out, command=fake) == 1
    told = capsys.readouterr().err
    assert "a/seed_0: test streaming WER" in told and "b/seed_0: test streaming WER" in told
    report = told.partition("3 runs failed; ")[2]
    assert f"no_log/seed_0: {out}/no_log/seed_0.log: Is a directory\n" in report
    assert f"no_lock/seed_0: {out}/no_lock/seed_0.lock: No space left on device\n" in report
    assert "fails/seed_0: joint-st: error: there is no such thing (exit status 2)\n" in report
    assert not is_locked(out / "no_log" / "seed_0.lock")


def test_a_table_that_cannot_be_made_hides_no_failed_run(tmp_path, fake, capsys, monkeypatch):
    file, out = write_sweep(tmp_path, "yield Run('fails')\nyield Run('a')"), tmp_path / "out"

    def refuse(*arguments):
        raise UserError("evaluated on different splits")

    monkeypatch.setattr("joint_st.sweeps.run_sweep.print_table", refuse)
    assert run_sweep(file, workdir=out, command=fake) == 1
    told = capsys.readouterr().err
    assert "no table: evaluated on different splits\n" in told and "\n  fails/seed_0: joint-st: error: there is" in told
    # Alone it is the user's mistake, as before.
    with pytest.raises(UserError, match="evaluated on different splits"):
        run_sweep(file, workdir=out, only=["a"], command=fake)


def test_a_damaged_table_of_one_run_does_not_stop_the_rest(tmp_path, fake, capsys):
    jobs = load_sweep(write_sweep(tmp_path, "yield Run('a')\nyield Run('b')"), tmp_path / "out").jobs

    def command(job):
        damage = f"echo '[{{}}]' | tee {job.directory.evaluations}/*.json" if job is jobs[0] else ":"
        return ["sh", "-c", f'"$@"; {damage}', "sh", *fake(job)]

    assert not run_jobs(jobs, command=command).failed
    told = capsys.readouterr().err
    assert "a/seed_0: finished, but " in told and "b/seed_0: test streaming WER" in told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_lets_runs_save_and_the_same_command_goes_on(tmp_path, fake, capsys, number):
    file, out = write_sweep(tmp_path, "yield Run('waits')\nyield Run('next')"), tmp_path / "out"
    process = start(file, out)
    wait_for((out / "waits" / "seed_0" / "waiting").exists)
    process.send_signal(number)
    error = process.communicate(timeout=300)[1]
    assert process.returncode == 128 + number
    assert "waits/seed_0: stopped, step 2 of 4 saved" in error
    assert error.endswith("2 runs not finished; the same command continues\n")
    assert starts(out) == {"waits/seed_0": 1}
    if number != signal.SIGHUP:
        jobs = load_sweep(file, out).jobs
        assert [state_in_words(job) for job in jobs] == ["step 2 of 4", "to do"]
        assert run_sweep(file, workdir=out, command=fake) == 0
        assert "waits/seed_0: continues from step 2" in capsys.readouterr().err
        assert [state_in_words(job) for job in jobs] == ["finished", "finished"]


def test_nohup_is_heeded(tmp_path):
    file, out = write_sweep(tmp_path, "yield Run('waits')"), tmp_path / "out"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start(file, out)
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_for((out / "waits" / "seed_0" / "waiting").exists)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert "stopped, step 2 of 4 saved" in process.communicate(timeout=300)[1]
    assert process.returncode == 143


def test_a_second_signal_kills(tmp_path):
    file, out = write_sweep(tmp_path, "yield Run('deaf')"), tmp_path / "out"
    process = start(file, out)
    waiting = out / "deaf" / "seed_0" / "waiting"
    wait_for(waiting.exists)
    process.send_signal(signal.SIGINT)
    assert "asked to save a checkpoint and end" in [process.stderr.readline() for _ in range(2)][1]
    process.send_signal(signal.SIGINT)
    assert "stopped, step 0 of 4 saved" in process.communicate(timeout=300)[1]
    assert process.returncode == 130
    with pytest.raises(ProcessLookupError):
        os.kill(int(waiting.read_text()), 0)


def test_a_second_signal_kills_also_where_it_comes_while_the_first_is_passed_on():
    signals, sent = Signals(), []

    class Process:
        def send_signal(self, number):
            sent.append(number)
            signals.count = 2

    started = Started(SimpleNamespace(name="a/seed_0"), Process(), began=0.0, log_start=0, launched=False)
    signals.count = 1
    for _ in range(3):
        pass_on(signals, [started])
    assert sent == [signal.SIGTERM, signal.SIGKILL]


def test_a_run_that_outlives_its_sweep_is_left_alone(tmp_path, fake, capsys):
    file, out = write_sweep(tmp_path, "yield Run('waits')\nyield Run('next')"), tmp_path / "out"
    process = start(file, out)
    waiting = out / "waits" / "seed_0" / "waiting"
    wait_for(waiting.exists)
    process.kill()
    process.communicate()
    jobs = load_sweep(file, out).jobs
    assert run_sweep(file, workdir=out, command=fake) == 0
    assert "1 run trained by another process: waits/seed_0\n" in capsys.readouterr().err
    assert [state_in_words(job) for job in jobs] == ["running, step 0 saved", "finished"]
    os.kill(int(waiting.read_text()), signal.SIGTERM)
    wait_for(lambda: state_in_words(jobs[0]) == "step 2 of 4")
    assert run_sweep(file, workdir=out, command=fake) == 0
    assert starts(out) == {"next/seed_0": 1, "waits/seed_0": 2}


def test_a_sweep_killed_with_its_runs_ends_with_the_whole_table(tmp_path, fake, capsys):
    file = write_sweep(tmp_path, "for arm in ('a', 'long_1', 'long_2', 'b'):\n    yield Run(arm)")
    out, table = tmp_path / "out", tmp_path / "rows.json"
    process = start(file, out, workers=2)
    waiting = [out / f"long_{i}" / "seed_0" / "waiting" for i in (1, 2)]
    wait_for(lambda: all(path.exists() for path in waiting))
    for number in (process.pid, *(int(path.read_text()) for path in waiting)):
        os.kill(number, signal.SIGKILL)
    process.communicate(timeout=300)
    jobs = load_sweep(file, out).jobs
    wait_for(lambda: not any(is_locked(job.lock) for job in jobs))
    assert [state_in_words(job) for job in jobs] == ["finished", "step 2 of 4", "step 2 of 4", "to do"]
    assert run_sweep(file, workdir=out, workers=2, json_file=table, command=fake) == 0
    assert capsys.readouterr().err.count("continues from step 2") == 2
    assert [row["name"] for row in json.loads(table.read_text())] == ["a", "long_1", "long_2", "b"]
    assert starts(out) == {"a/seed_0": 1, "b/seed_0": 1, "long_1/seed_0": 2, "long_2/seed_0": 2}


def test_two_sweeps_at_once_share_the_runs(tmp_path):
    file = write_sweep(tmp_path, "for seed in range(4):\n    yield Run('a', seed=seed)")
    both = [start(file, tmp_path / "out", workers=2) for _ in range(2)]
    errors = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert starts(tmp_path / "out") == {f"a/seed_{seed}": 1 for seed in range(4)}
    assert all(look(job).finished for job in load_sweep(file, tmp_path / "out").jobs)


def test_finished_means_the_last_step_and_the_same_test_splits(tmp_path, fake):
    file, out = write_sweep(tmp_path, "yield Run('a')"), tmp_path / "out"
    (job,) = load_sweep(file, out).jobs
    assert look(job).steps == 0 and state_in_words(job) == "to do"
    run_jobs([job], command=fake)
    assert look(job).evaluation == job.directory.evaluations / "step_4_test.json"

    def state(overrides):
        (job,) = load_sweep(write_sweep(tmp_path, f"yield Run('a', {overrides})"), out).jobs
        return state_in_words(job)

    assert state({"training.log_every": 1}) == "finished"
    assert state({"training.steps": 5}) == "step 4 of 5"
    # Its learning rate fell to the end at step 4, and its checkpoints were ranked.
    assert state({"training.steps": 3}) == state({"evaluation.rank_by": "cer"}) == "another config"
    assert state({"data.test.test": "tfds:other:all"}) == "to evaluate"
    assert state({"data.test.more": "tfds:grammar:all"}) == "to evaluate"
    assert state({"model.width": 32}) == "another config"
    # Where the evaluation says what it was made from, that has to be this config's, and the checkpoint there is.
    (job,) = load_sweep(write_sweep(tmp_path, "yield Run('a')"), out).jobs
    run, lines = job.directory, job.directory.evaluation(4, ["test"]).with_suffix(".jsonl")
    test, window = load(run.config).data.test, job.config.window_seconds
    for splits, weights, seconds, expected in (
        (test, "", window, "finished"),
        ({"test": test["test"].model_copy(update={"split": "noisy"})}, "", window, "to evaluate"),
        (test, "other weights", window, "to evaluate"),
        (test, "", window / 2, "to evaluate"),
    ):
        origin = dataclasses.replace(Origin.of(run, 4, "none v1", splits, {}, seconds), checkpoint=weights)
        lines.with_suffix(SUFFIX).write_text(origin.content(lines.read_text()))
        assert state({}) == expected
    lines.with_suffix(SUFFIX).unlink()
    lines.unlink()
    assert state({}) == "to evaluate"
    (run.checkpoints / "4" / "facts" / "metadata").write_text("{")
    assert state({}) == "damaged"


def test_a_run_of_another_config_is_refused_before_any_starts(tmp_path, fake):
    out = tmp_path / "out"
    assert run_sweep(write_sweep(tmp_path, "yield Run('a')"), workdir=out, command=fake) == 0
    file = write_sweep(tmp_path, "yield Run('new')\nyield Run('a', {'model.width': 32})")
    with pytest.raises(UserError, match=r"^a/seed_0: model.width: 144 in .*a/seed_0/config.json, 32 now; .*--workdir$"):
        run_sweep(file, workdir=out, command=fake)
    assert starts(out) == {"a/seed_0": 1}
    check_conflicts(load_sweep(file, out).only(["new"]))


def test_a_base_that_is_edited_meanwhile_trains_nothing_else(tmp_path, fake, capsys):
    file, out = write_sweep(tmp_path, "yield Run('a')\nyield Run('b')\nyield Run('odd')"), tmp_path / "out"
    base = tmp_path / "base.py"

    def command(job):
        if job.run.arm == "b":
            base.write_text(base.read_text().replace("steps=4", "steps=40"))
        if job.run.arm == "odd":  # it ends with status 0, having trained another model
            fake_training.checkpoint(job.directory, 4, 0.5)
            save(override(job.config, {"model.width": 32}), job.directory.config)
            return ["true"]
        return fake(job)

    assert run_sweep(file, workdir=out, command=command, json_file=tmp_path / "rows.json") == 1
    told = capsys.readouterr().err
    assert f"b/seed_0: joint-st: error: {base}: resolves to another config than when the sweep began" in told
    config = out / "odd" / "seed_0" / "config.json"
    assert f"odd/seed_0: ended with status 0, but model.width: 32 in {config}, 144 now; go on with" in told
    assert [(row["name"], row["steps"]) for row in json.loads((tmp_path / "rows.json").read_text())] == [("a", [4])]
    assert starts(out) == {"a/seed_0": 1}


def test_a_run_of_more_steps_is_not_one_of_fewer(tmp_path, fake):
    out = tmp_path / "out"
    write = functools.partial(write_sweep, tmp_path)
    (job,) = load_sweep(write("yield Run('a', {'training.steps': 40})"), out).jobs
    fake_training.checkpoint(job.directory, 4, 0.5)
    save(job.config, job.directory.config)
    here, runs = job.directory.config, "yield Run('new')\nyield Run('a')"
    with pytest.raises(UserError, match=f"^a/seed_0: training.steps: 40 in {here}, 4 now; go on with the run's own"):
        run_sweep(write(runs), workdir=out, command=fake)
    # It may still go on, and then be as long as the others.
    assert state_in_words(load_sweep(write("yield Run('a', {'training.steps': 5})"), out).jobs[0]) == "step 4 of 5"
    fake_training.checkpoint(job.directory, 40, 0.5)
    save(override(job.config, {"training.steps": 4}), here)  # by a `joint-st train` that had nothing left to do
    with pytest.raises(
        UserError, match="^a/seed_0: training.steps: 4, and .*/checkpoints has a checkpoint of step 40; "
    ):
        run_sweep(write(runs), workdir=out, command=fake)
    assert starts(out) == {}
