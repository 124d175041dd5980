"""A run's directory is all that its model needs: on another machine, with the sources elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest

from joint_st.config import ManifestSource, override
from joint_st.data import normalizers
from joint_st.distributed.mesh import make_evaluation_mesh
from joint_st.errors import UserError
from joint_st.evaluation.evaluate import evaluate_run
from joint_st.runs.trained import load_trained
from tests.tiny import CHECKOUT, environment, saved_arrays, tiny_config, untimed

# Orbax is told no shardings when it reads arrays for comparison.
pytestmark = pytest.mark.filterwarnings("ignore:Sharding info not provided")


def test_the_weights_are_the_average_of_the_checkpoint(trained):
    model = load_trained(trained, "24")
    assert model.step == 24
    assert model.normalizer is normalizers.NORMALIZERS["english v2"]
    raw = saved_arrays(trained, 24)
    weights = {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(model.weights)
    }
    assert {f"average.{name}" for name in weights} == {name for name in raw if name.startswith("average.")}
    for name, leaf in weights.items():
        np.testing.assert_array_equal(leaf, raw[f"average.{name}"])
    assert any(not np.array_equal(leaf, raw[f"params.{name}"]) for name, leaf in weights.items())


def test_a_run_is_read_with_the_version_of_the_normaliser_that_it_was_trained_with(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    config = (run / "config.json").read_text()
    assert '"normalizer": "english v2"' in config
    (run / "config.json").write_text(config.replace("english v2", "english v1"))
    with pytest.raises(UserError, match="normaliser english v2, and .*config.json names english v1; restore it"):
        load_trained(run)
    # A run of earlier days, whose checkpoints and whose config both name version 1.
    for facts in (run / "checkpoints").glob("*/facts/metadata"):
        facts.write_text(facts.read_text().replace("english v2", "english v1"))
        (facts.parents[1] / "checksums.json").unlink()
    assert load_trained(run).normalizer is normalizers.NORMALIZERS["english v1"]


def test_a_run_without_checkpoints(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    with pytest.raises(UserError, match="checkpoints: no complete checkpoint; train the run first"):
        load_trained(run)
    (run / "checkpoints").mkdir()
    with pytest.raises(UserError, match="checkpoints: no complete checkpoint; train the run first"):
        load_trained(run)
    with pytest.raises(UserError, match="no checkpoint '5'; there are best, latest, "):
        load_trained(trained, "5")


@pytest.fixture(scope="module")
def rows(trained, spoken, tmp_path_factory) -> list[dict]:
    """An evaluation here, of a manifest."""
    run = shutil.copytree(trained, tmp_path_factory.mktemp("here") / "run")
    return evaluate_run(run, data={"mine": ManifestSource(path=str(spoken / "test.jsonl"))})


def test_elsewhere(trained, corpora, spoken, rows, tmp_path):
    """Run and sources are moved, and what it was trained on is gone."""
    sources = tmp_path / "sources"
    shutil.copytree(CHECKOUT / "joint_st", sources / "joint_st", ignore=shutil.ignore_patterns("__pycache__"))
    run, files = tmp_path / "moved" / "run", tmp_path / "moved" / "files"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("evaluations"))
    shutil.copytree(spoken, files)
    config = (run / "config.json").read_text()
    assert str(corpora) in config
    (run / "config.json").write_text(config.replace(str(corpora), "/gone"))

    def command(*arguments):
        place = {"cwd": tmp_path / "moved", "env": environment(PYTHONPATH=str(sources))}
        done = subprocess.run([sys.executable, "-m", "joint_st", *arguments], capture_output=True, text=True, **place)
        assert done.returncode == 0, done.stderr
        return done.stdout

    command("evaluate", "run", "--data", "mine=files/test.jsonl", "--json", "table.json")
    assert untimed(json.loads((tmp_path / "moved" / "table.json").read_text())) == untimed(rows)
    stem = sorted(file.stem for file in files.glob("*.wav"))[0]
    heard = {}
    for line in next((run / "evaluations").glob("*.jsonl")).read_text().splitlines():
        utterance = json.loads(line)
        heard[utterance["id"], utterance["head"]] = utterance["hypothesis"]
    said = command("transcribe", "run", f"files/{stem}.wav")
    assert normalizers.normalizer("english")(said) == heard[stem, "full_context"]


@pytest.mark.parametrize("asked, batch, devices", [(-1, 8, 1), (8, 8, 1), (1, 7, 1)])
def test_evaluation_takes_the_devices_there_are(tmp_path, asked, batch, devices):
    config = override(tiny_config(tmp_path), {"parallel.data": asked, "evaluation.batch_size": batch})
    assert make_evaluation_mesh(config).size == devices


def test_each_process_of_an_evaluation_has_a_device(tmp_path, monkeypatch):
    """Two processes share the eight rows of a run of one device, and refuse seven."""
    devices = [types.SimpleNamespace(process_index=index) for index in (0, 1)]
    monkeypatch.setattr("joint_st.distributed.mesh.available_devices", lambda parallel: devices)
    monkeypatch.setattr("joint_st.distributed.mesh._mesh", lambda devices: devices)
    config = override(tiny_config(tmp_path), {"parallel.data": 1, "evaluation.batch_size": 8})
    assert make_evaluation_mesh(config).shape == (2, 1, 1)
    with pytest.raises(UserError, match="evaluation.batch_size: 7 must be a multiple of the 2 processes"):
        make_evaluation_mesh(override(config, {"evaluation.batch_size": 7}))


def on_eight_devices(run: Path, manifest: Path, expected: list[dict]):
    """Evaluate a run of one device on eight, and check over how many devices other batches divide."""
    assert jax.device_count() == 8
    model = load_trained(run)
    assert all(len(leaf.sharding.device_set) == 8 for leaf in jax.tree.leaves(model.weights))
    assert untimed(evaluate_run(run, data={"mine": ManifestSource(path=str(manifest))})) == untimed(expected)
    for asked, batch, devices in ((-1, 12, 6), (4, 8, 4), (3, 8, 2), (16, 16, 8), (-1, 7, 7), (-1, 11, 1)):
        config = override(model.config, {"parallel.data": asked, "evaluation.batch_size": batch})
        assert make_evaluation_mesh(config).size == devices


def test_eight_devices_hear_what_one_heard(trained, spoken, rows, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    program = (
        "import json, sys; from pathlib import Path; from tests.runs.test_trained import on_eight_devices; "
        "run, manifest, rows = map(Path, sys.argv[1:]); "
        "on_eight_devices(run, manifest, json.loads(rows.read_text()))"
    )
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    arguments = [run, spoken / "test.jsonl", tmp_path / "rows.json"]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=environment(XLA_FLAGS=flags),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
