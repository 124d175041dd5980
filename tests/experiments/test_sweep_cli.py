"""`joint-st sweep`: what it prints, what it refuses, and a sweep of real trainings from end to end."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from joint_st.cli import main
from joint_st.config import save
from joint_st.experiments import load_sweep
from tests.experiments.conftest import write_sweep
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
    assert not out.exists()


@pytest.mark.parametrize(
    "arguments, line",
    [
        ("", "the following arguments are required: FILE (see `joint-st sweep --help`)"),
        ("{file} --only wdie", "wdie: no arm of {file}; did you mean wide?"),
        ("{file} --workers 0", "argument --workers: '0' is no whole number from 1 on"),
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
    """It waits for processes that may need the whole accelerator, which a process with JAX in it takes."""
    program = "import sys, joint_st.experiments.command; print([name for name in sys.modules if 'jax' in name])"
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
            for subset, ending in (("all", ""), ("heard", "_heard"), ("only_read", "_only_read")):
                assert row[f"{prefix}wer{ending}"] == pytest.approx(expected[head, subset])
        assert f"{job.name}: test streaming WER {100 * expected['streaming', 'all']:.1f} %" in output.err
        assert "trained" in job.log.read_text() and job.config.seed == 3
    assert main(["sweep", str(file), "--workdir", str(out)]) == 0
    assert "2 of 2 runs are finished already" in capsys.readouterr().err
