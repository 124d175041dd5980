"""`joint-st sweep`: what it prints, what it refuses, and a sweep of real trainings from end to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from joint_st.cli import main
from joint_st.config import save
from joint_st.sweeps import load_sweep
from joint_st.sweeps.locks import is_locked
from tests.sweeps.conftest import write_sweep
from tests.sweeps.test_runner import wait_for
from tests.tiny import environment, tiny_config

RUNS = "yield Run('wide', {'model.width': 32, 'data.text': []})\nyield Run('plain', seed=3)"


def test_dry_run_lists_runs_with_their_state_and_overrides(tmp_path, capsys):
    file, out = write_sweep(tmp_path, RUNS), tmp_path / "out"
    assert main(["sweep", str(file), "--workdir", str(out), "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"2 runs of {tmp_path}/base.py in {out}: A few runs.",
        "  wide/seed_0   to do  model.width=32 data.text=[]",
        "  plain/seed_3  to do",
    ]
    assert main(["sweep", str(file), "--only", "plain", "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith(f"1 runs of {tmp_path}/base.py in runs/sweeps/few: A few runs.\n  plain/")
    assert main(["sweep", str(file), "--only", "wide/seed_0", "--workdir", str(out), "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["  wide/seed_0  to do  model.width=32 data.text=[]"]
    assert not out.exists()


@pytest.mark.parametrize(
    "arguments, line",
    [
        ("", "the following arguments are required: FILE (see `joint-st sweep --help`)"),
        ("{file} --only wdie", "wdie: neither an arm nor a run of {file}; did you mean wide?"),
        ("{file} --only plain/seed_2", "plain/seed_2: neither an arm nor a run of {file}; did you mean plain/seed_3?"),
        ("{file} --workers 0", "argument --workers: '0' is not a whole number from 1 to 1,000,000,000"),
        ("{file} --status --csv t.csv", "--status: prints a list and makes no table; write one by --collect"),
        ("{file} --dry-run --draw speakers", "--dry-run: prints a list and makes no table; write one by --collect"),
        ("{file} --workdir=", "argument --workdir: '' is empty; name a folder"),
        ("{file} --dry-run --collect", "argument --collect: not allowed with argument --dry-run"),
        ("{file} --collect --workdir {folder}/out", "{folder}/out: no run of {file} is finished"),
        ("{folder}/nope.py", "{folder}/nope.py: no such file"),
        ("{file} --model.width 3", "unrecognized arguments: --model.width 3"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(tmp_path, capsys, arguments, line):
    file = write_sweep(tmp_path, RUNS)
    assert main(["sweep", *arguments.format(file=file, folder=tmp_path).split()]) == 2
    error = capsys.readouterr().err.splitlines()
    assert error[-1].startswith(f"joint-st: error: {line.format(file=file, folder=tmp_path)}")
    # Before it, what is not finished.
    assert len(error) <= 2


def test_it_imports_no_jax(tmp_path):
    """It waits for processes that may need the whole accelerator, which a process that imports JAX would occupy."""
    program = "import sys, joint_st.sweeps.run_sweep; print([name for name in sys.modules if 'jax' in name])"
    done = subprocess.run([sys.executable, "-c", program], env=environment(), capture_output=True, text=True)
    assert done.stdout == "[]\n"


@pytest.mark.slow
def test_trainings_from_the_command_to_the_table(corpora, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    file = write_sweep(tmp_path, "yield Run('plain', seed=3)\nyield Run('long', {'training.steps': 8}, 3)")
    file.write_text(file.read_text().replace("base.py", "base.json") + "REFERENCE = 'plain'\n")
    save(tiny_config(corpora), tmp_path / "base.json")
    out, table = tmp_path / "out", tmp_path / "table.json"
    assert main(["sweep", str(file), "--workdir", str(out), "--json", str(table)]) == 0
    output = capsys.readouterr()
    rows = json.loads(table.read_text())
    assert [row["name"] for row in rows] == ["plain", "long"]
    assert list(rows[1]["relative_to"]) == ["plain"]
    for row, job in zip(rows, load_sweep(file, out).jobs, strict=True):
        own = json.loads(job.directory.evaluation(row["steps"][0], ["test"]).read_text())
        expected = {(r["head"], r["subset"]): r["wer"] for r in own}
        for head, prefix in (("full_context", ""), ("streaming", "streaming_")):
            for subset, ending in (("all", ""), ("heard", "_heard"), ("text_only", "_text_only")):
                assert row[f"{prefix}wer{ending}"] == pytest.approx(expected[head, subset])
        assert f"{job.name}: test streaming WER {100 * expected['streaming', 'all']:.1f} %" in output.err
        assert "trained" in job.log.read_text() and job.config.seed == 3
    assert main(["sweep", str(file), "--workdir", str(out)]) == 0
    assert "2 of 2 runs are finished already" in capsys.readouterr().err


@pytest.mark.slow
def test_a_training_killed_with_its_sweep_goes_on_to_the_table(corpora, tmp_path):
    file = write_sweep(tmp_path, "yield Run('a')")
    file.write_text(file.read_text().replace("base.py", "base.json"))
    cadence = {"training.checkpoint_every": 5, "training.evaluate_every": 60, "training.log_every": 4}
    save(tiny_config(corpora, {"training.steps": 60, **cadence}), tmp_path / "base.json")
    out, table = tmp_path / "out", tmp_path / "table.json"
    command = [sys.executable, "-m", "joint_st", "sweep", str(file), "--workdir", str(out)]
    (job,) = load_sweep(file, out).jobs

    process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: job.directory.has_checkpoint)
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for number in (process.pid, int(child)):
        os.kill(number, signal.SIGKILL)
    process.communicate(timeout=300)
    wait_for(lambda: not is_locked(job.lock))

    done = subprocess.run([*command, "--json", table], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "a/seed_0: continues from step" in done.stderr and job.log.read_text().count("$ ") == 2
    assert [(row["name"], row["steps"]) for row in json.loads(table.read_text())] == [("a", [60])]
    lines = [line.split(",") for line in job.directory.metrics.read_text().splitlines()]
    loss = lines[0].index("loss")
    assert [line[0] for line in lines if line[loss]] == ["step", *map(str, range(4, 61, 4))]
