"""Old names of fields and columns: refused with their new ones, and rewritten in files of results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from joint_st.cli import main
from joint_st.cli.parser import split_overrides
from joint_st.config import Config, TfdsSource, load, override
from joint_st.config.renamed import FIELDS, refusals, rewritten, today
from joint_st.config.tree import paths
from joint_st.errors import UserError
from tests.tiny import CHECKOUT, environment

CONFIG = Config(data={"train": [TfdsSource(name="grammar", split="train")]})
UNITS = "model.heard_units: is now model.unit_conditioning (added is add, only is replace)"


def message(function, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        function(*arguments)
    return str(caught.value)


def test_the_table_leads_from_fields_that_are_gone_to_fields_that_there_are():
    known = paths()
    for old, new in FIELDS.items():
        assert old not in known and new.path in known
        for value in new.values.values():
            with_units = {"losses.unit_ctc.weight": 1, "data.units.kind": "phonemes", new.path: value}
            assert override(CONFIG, with_units) != override(CONFIG, with_units | {new.path: "none"})
    assert today("objective.consistency.layers").path == "losses.consistency.layers"
    assert today("model.width") is None and today("objective.unknown") is None


@pytest.mark.parametrize(
    "old, new",
    [
        ("objective.streaming_ctc", "losses.ctc.streaming"),
        ("objective.full_context_ctc", "losses.ctc.full_context"),
        ("objective.streaming_reconstruction", "losses.reconstruction.streaming"),
        ("objective.full_context_reconstruction", "losses.reconstruction.full_context"),
        ("objective.paired_reconstruction", "losses.reconstruction.paired"),
        ("objective.unit_ctc", "losses.unit_ctc.weight"),
        ("objective.consistency", "losses.consistency"),
        ("objective.consistency.weight", "losses.consistency.weight"),
        ("objective.consistency.alignment", "losses.consistency.alignment"),
    ],
)
def test_an_old_field_is_refused_with_its_new_name(old, new):
    assert message(override, CONFIG, {old: "0.5"}) == f"{old}: is now {new}"


def test_an_old_field_on_the_command_line(tmp_path, capsys):
    (tmp_path / "mine.json").write_text(CONFIG.model_dump_json())
    assert main(["train", str(tmp_path / "mine.json"), "--model.heard_units", "added"]) == 2
    assert capsys.readouterr().err == f"joint-st: error: {UNITS}\n"
    assert main(["train", str(tmp_path / "mine.json"), "--model.heard_units=only", "--objective.unit_ctc", "1"]) == 2
    assert capsys.readouterr().err == f"joint-st: error: {UNITS} (and 1 more)\n"
    assert split_overrides(["--model.heard_units", "added"], {}, Config) == ({"model.heard_units": "added"}, [])


def test_old_fields_in_json(tmp_path):
    file, tree = tmp_path / "mine.json", json.loads(CONFIG.model_dump_json())
    file.write_text(json.dumps(tree | {"model": {"heard_units": "only", "width": 16}}))
    assert message(load, file) == f"{file}: {UNITS}"
    consistency = {"weight": 0.1, "layers": [1]}
    file.write_text(json.dumps(tree | {"objective": {"unit_ctc": 0.5, "consistency": consistency}}))
    assert message(load, file) == f"{file}: objective.unit_ctc: is now losses.unit_ctc.weight (and 1 more)"
    assert refusals("objective", {"consistency": consistency}) == ["objective.consistency: is now losses.consistency"]
    file.write_text(json.dumps(tree | {"objective": {"typo": 1}}))
    assert message(load, file).startswith(f'{file}: objective: unknown key (= {{"typo": 1}}); ')


@pytest.mark.parametrize(
    "text, line",
    [
        ("ModelConfig(heard_units='only')", f"{{file}}:3: {UNITS}"),
        (
            "Config(objective={'unit_ctc': 1, 'streaming_ctc': 1}, data={'train': [{'kind': 'text', 'path': 'x'}]})",
            "{file}:3: objective.unit_ctc: is now losses.unit_ctc.weight (and 1 more)",
        ),
        (
            "ObjectiveConfig(unit_ctc=1)",
            "{file}:2: ImportError: ObjectiveConfig is now LossesConfig, with a section for each loss",
        ),
    ],
)
def test_old_fields_in_a_python_file(tmp_path, text, line):
    file, names = tmp_path / "mine.py", text.partition("(")[0]
    file.write_text(f"import json\nfrom joint_st.config import {names}\ndef config(): return {text}\n")
    assert message(load, file) == line.format(file=file)


def test_an_old_field_in_a_sweep(tmp_path):
    from joint_st.sweeps.sweep import load_sweep

    test = {"test": {"kind": "tfds", "name": "grammar", "split": "test"}}
    base = override(CONFIG, {"data.test": test})
    (tmp_path / "base.json").write_text(base.model_dump_json())
    (tmp_path / "sweep.py").write_text(
        "from joint_st.sweeps import Run\n"
        "BASE = 'base.json'\n"
        "def runs():\n"
        "    yield Run('heard', {'objective.consistency.weight': 0.5})\n"
    )
    assert message(load_sweep, tmp_path / "sweep.py") == (
        f"{tmp_path / 'sweep.py'}: heard/seed_0: objective.consistency.weight: is now losses.consistency.weight"
    )


def test_results_by_the_names_of_today():
    before = {
        "name": "heard",
        "overrides": {
            "model.heard_units": "only",
            "objective.consistency.alignment": "dtw",
            "objective.unit_ctc": 1.0,
            "model.width": 16,
        },
        "wer_only_read": 0.5,
        "streaming_wer_only_read_by_seed": [0.5],
        "relative_to": {"only_reading": {"only_read": {"low": 1}, "streaming_only_read": None}},
    }
    after = {
        "name": "heard",
        "overrides": {
            "model.unit_conditioning": "replace",
            "losses.consistency.alignment": "dtw",
            "losses.unit_ctc.weight": 1.0,
            "model.width": 16,
        },
        "wer_text_only": 0.5,
        "streaming_wer_text_only_by_seed": [0.5],
        "relative_to": {"only_reading": {"text_only": {"low": 1}, "streaming_text_only": None}},
    }
    [found] = rewritten([before])
    assert found == after and list(found) == list(after) and rewritten(found) == found


def test_files_of_results_are_rewritten(tmp_path):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text('[\n  {\n    "overrides": {\n      "model.heard_units": "added"\n    }\n  }\n]\n')
    new.write_text('{"overrides": {"model.width": 1}}')
    command = [sys.executable, "-m", "joint_st.config.renamed", str(old), str(new)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{old}: rewritten\n{new}: as it was\n"
    assert old.read_text() == ('[\n  {\n    "overrides": {\n      "model.unit_conditioning": "add"\n    }\n  }\n]\n')
    assert new.read_text() == '{"overrides": {"model.width": 1}}'


@pytest.mark.parametrize("file", sorted(Path(CHECKOUT, "benchmarks", "results").glob("*.json")), ids=lambda f: f.name)
def test_the_results_of_the_repository_have_the_names_of_today(file):
    results = json.loads(file.read_text())
    assert rewritten(results) == results
