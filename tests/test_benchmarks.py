"""The scripts in `benchmarks/` run too long to be tested, but what they import from the package has to be there, and what
they share has to count well."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks import other_domain, quickstart, robustness, side_by_side, timed_step
from benchmarks.side_by_side import WARM_UPS, Rows, compared, take_turns, unusable
from joint_st import storage
from joint_st.runs import checksums
from joint_st.training.operations import Instruction, Operation
from tests.tiny import CHECKOUT

SCRIPTS = sorted((CHECKOUT / "benchmarks").rglob("*.py"))
ABSENT = {"flashlight", "ott", "pyctcdecode", "selenium", "torch", "torchaudio"}
"""Packages with which scripts compare, or that they need in addition: they may be missing."""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(CHECKOUT / "benchmarks")))
def test_all_that_a_script_imports_exists(script: Path):
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.ImportFrom) and node.module):
            continue
        first = node.module.partition(".")[0]
        if first in ABSENT:
            continue
        if first not in ("joint_st", "benchmarks"):  # an installed package, or a script in a folder of benchmarks
            beside = any(script.name == f"{first}.py" for script in SCRIPTS)
            assert beside or importlib.util.find_spec(first), f"{script}: no module {first}"
        else:
            module = importlib.import_module(node.module)
            for name in node.names:
                if not hasattr(module, name.name):
                    importlib.import_module(f"{node.module}.{name.name}")


def test_row_of_a_rival_that_failed_does_not_say_where_this_machine_keeps_its_files():
    error = OSError("Could not load /home/me/venv/lib/_torch.so, see https://example.com/a/b\nmore")
    assert unusable(error) == "OSError: Could not load _torch.so, see https://example.com/a/b"


def test_programs_take_turns():
    calls: list[str] = []
    seconds = take_turns({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=3, at_least=0)
    assert "".join(calls) == "a" * WARM_UPS + "b" * WARM_UPS + "ab" + "ba" + "ab"
    assert all(one.shape == (3,) and (one > 0).all() for one in seconds.values())


def test_a_ratio_is_that_of_the_medians_with_the_middle_of_the_rounds():
    ours = np.array([1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]) / 1000
    found = compared(ours, np.arange(1, 12) / 1000)
    assert (found["ours_ms"], found["theirs_ms"], found["ratio"], found["rounds"]) == (1, 6, 6, 11)
    assert (found["ratio_low"], found["ratio_high"]) == (1.5, 10)  # the third round's ratio is 1.5


def test_results_with_a_rival_outlive_a_run_without_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(side_by_side, "RESULTS", tmp_path)
    file = tmp_path / "ctc.json"
    times = compared(np.ones(3), np.ones(3))
    ours, others = {"op": "ctc", "rival": "optax 0.2.8"}, {"op": "ctc", "rival": "torch 2.13.0"}

    def run(*rows):
        found = Rows(file, (), of=len(rows))
        for row in rows:
            found.add(row)
        found.end()
        return [row["rival"] for row in json.loads(file.read_text())["rows"]]

    with_both = [ours | times, others | times]
    assert run(*with_both) == ["optax 0.2.8", "torch 2.13.0"]
    # Another version counts as the same rival.
    assert run(ours | times, {**others, "rival": "torch 2.14.0"} | times) == ["optax 0.2.8", "torch 2.14.0"]
    assert "left as it is" not in capsys.readouterr().out
    assert run(ours | times, others | {"missing": "not installed"}) == ["optax 0.2.8", "torch 2.14.0"]
    out = capsys.readouterr().out
    assert f"{file} is left as it is: it has torch 2.14.0, which is not there now" in out
    assert "written to" not in out
    assert run(ours | times, {"op": "ctc", "rival": "plain layers"} | times) == ["optax 0.2.8", "torch 2.14.0"]


def test_rows_of_robustness_stay_where_others_are_added(tmp_path):
    def row(run, wer):
        return {"run": run, "data": "test", "condition": "as it is", "head": "streaming", "wer": wer}

    file = tmp_path / "robustness.json"
    file.write_text(json.dumps({"rows": [row("a", 0.5), row("b", 0.25)]}))
    assert robustness.merged(file, [row("c", 1.0), row("a", 0.75)]) == [row("a", 0.75), row("b", 0.25), row("c", 1.0)]
    assert robustness.merged(tmp_path / "absent", [row("c", 1.0)]) == [row("c", 1.0)]


def test_runs_are_named_by_as_much_as_tells_them_apart():
    assert robustness.told_apart([Path("runs/a"), Path("runs/b")]) == ["a", "b"]
    assert robustness.told_apart([Path("runs/a/seed_0"), Path("runs/b/seed_0")]) == ["a/seed_0", "b/seed_0"]
    assert robustness.told_apart([Path("runs/a")]) == ["a"]


def test_robustness_of_a_run_without_errors_is_shown(capsys):
    rates = {"wer": 0.0, "wer_low": 0.0, "wer_high": 0.0}
    rows = [{"run": "r", "condition": "as it is", "head": "streaming", "relative": None} | rates]
    robustness.show([*rows, rows[0] | {"condition": "-20 dB", "wer": 0.25, "relative": 0.5}])
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert ["r", "as it is", "streaming", "0.0", "0.0-0.0", "-"] in lines
    assert ["r", "-20 dB", "streaming", "25.0", "0.0-0.0", "+50%"] in lines


def test_robustness_is_written_before_it_is_shown(monkeypatch, tmp_path):
    file = tmp_path / "new" / "robustness.json"
    row = {"subset": "all", "split": "as it is", "head": "streaming", "wer": 0.0, "wer_low": 0.0, "wer_high": 0.0}
    monkeypatch.setattr(robustness, "write_split", lambda *_: None)
    monkeypatch.setattr(robustness, "evaluate_run", lambda *_, **__: [row | {"utterances": 3}])
    monkeypatch.setattr(robustness.machine, "device", lambda: "a CPU")
    monkeypatch.setattr(robustness, "show", lambda rows: 1 / 0)
    arguments = [
        "robustness",
        "runs/a",
        "--data",
        "test=tfds:spoken_grammar:test",
        "--only",
        "as it is",
        "--json",
        str(file),
    ]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(ZeroDivisionError):
        robustness.main()
    [found] = json.loads(file.read_text())["rows"]
    assert (found["run"], found["data"], found["wer"], found["relative"]) == ("a", "test", 0.0, None)


def test_the_other_domain_has_each_sentence_of_the_corpus_once(tmp_path):
    for split, texts in {"train": ["b", "a", "b"], "dev": ["c"], "test": ["a"]}.items():
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    assert other_domain.sentences(tmp_path) == ["a", "b", "c"]


def test_numbers_of_the_quickstart_are_of_one_run_and_its_weights(tmp_path):
    run, work = tmp_path / "runs" / "one", tmp_path / "numbers"

    def train(wer: float) -> None:
        facts = run / "checkpoints" / "6" / "facts" / "metadata"
        facts.parent.mkdir(parents=True, exist_ok=True)
        facts.write_text(json.dumps({"wer": wer}))
        checksums.write(run / "checkpoints" / "6", dict(storage.checksums(run / "checkpoints" / "6")))

    train(0.5)
    for _ in range(2):
        quickstart.claim(work, run)
    shutil.copytree(run, run.with_name("two"))
    with pytest.raises(SystemExit, match="runs/two step 6"):
        quickstart.claim(work, run.with_name("two"))
    train(0.4)
    with pytest.raises(SystemExit, match="remove it, or give --work"):
        quickstart.claim(work, run)
    (work / "made_of.txt").rename(work / "greedy_streaming.json")
    with pytest.raises(SystemExit, match="an unknown run"):
        quickstart.claim(work, run)


def test_parts_of_a_step_are_those_of_files_that_there_are():
    for files in timed_step.KINDS.values():
        assert all((CHECKOUT / "joint_st" / file).is_file() for file in files)
    own = {file for files in timed_step.KINDS.values() for file in files}
    product = Operation("dot.1", Instruction("dot_general, backward", "f, models/conformer.py:3"), 1, 1, 0.5)
    assert timed_step._kind(product) == "products"
    for file in own:
        operation = product._replace(instruction=Instruction("mul", f"f, {file}:3"))
        assert file in timed_step.KINDS[timed_step._kind(operation)]
    assert timed_step._kind(product._replace(instruction=Instruction())) == "other"
