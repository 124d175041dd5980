"""A run in a bucket: through Orbax, TensorStore's own client and gcsfs as they are, to a stand-in for the service."""

from __future__ import annotations

import collections
import csv
import io
import json
import os
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from joint_st import storage
from joint_st.cli import main
from joint_st.config import load, save
from joint_st.errors import UserError
from joint_st.runs.checkpoints import Checkpoints
from joint_st.runs.directory import COMPLETE, RunDirectory, open_run
from joint_st.runs.starts import read_starts, record_start
from joint_st.training.setup import open_symbols
from tests.tiny import environment, joint_st, saved_arrays, tiny_config, untimed

# Orbax is told no shardings when it reads arrays for comparison.
pytestmark = pytest.mark.filterwarnings("ignore:Sharding info not provided")

State = collections.namedtuple("State", "step weights average")


def state_of(step: int) -> State:
    values = np.random.default_rng(step).normal(size=1000)
    return State(jnp.int32(step), {"a": jnp.asarray(values)}, {"a": jnp.asarray(-values)})


def test_checkpoints(cloud, bucket, tmp_path):
    run = RunDirectory(storage.path(f"gs://{bucket}/run"))
    assert run.checkpoint_steps == [] and not run.has_checkpoint
    wers = {1: 0.5, 2: 0.2, 3: None, 4: 0.4}
    with Checkpoints(run.checkpoints, keep_latest=2, keep_best=1) as checkpoints:
        for step, wer in wers.items():
            checkpoints.save(step, state_of(step), {"step": step, "wer": wer}, wer)
    assert run.checkpoint_steps == [2, 3, 4] and run.best_steps() == [2]
    with Checkpoints(run.checkpoints, read_only=True) as checkpoints:
        assert [checkpoints.choose(which) for which in ("best", "latest", "3")] == [2, 4, 3]
        assert checkpoints.facts(2) == {"step": 2, "wer": 0.2}
        found = checkpoints.restore(3, jax.tree.map(jnp.zeros_like, state_of(3)))
        jax.tree.map(np.testing.assert_array_equal, found, state_of(3))
        part = checkpoints.restore_part(4, {"average": jax.tree.map(jnp.zeros_like, state_of(4).average)})
        np.testing.assert_array_equal(part["average"]["a"], state_of(4).average["a"])
    # One whose last file did not come is none, and the next of its step takes its place.
    del cloud.buckets[bucket][f"run/checkpoints/4/{COMPLETE}"]
    assert run.checkpoint_steps == [2, 3]
    with Checkpoints(run.checkpoints, keep_latest=2, keep_best=1) as checkpoints:
        assert checkpoints.latest() == 3
        checkpoints.save(4, state_of(40), {"step": 4, "wer": 0.1}, 0.1)
    assert run.checkpoint_steps == [3, 4] and run.best_steps() == [4]
    # Of an older one whose removal was cut short nothing stays; what comes after the last that is complete does.
    there = cloud.buckets[bucket]
    for step in (2, 3, 9):
        there[f"run/checkpoints/{step}/state/rest"] = there[f"run/checkpoints/4/{COMPLETE}"]
    with Checkpoints(run.checkpoints, keep_latest=2, keep_best=1):
        pass
    rests = [name for name in there if name.endswith("/state/rest")]
    assert rests == ["run/checkpoints/3/state/rest", "run/checkpoints/9/state/rest"]
    for name in rests:
        del there[name]
    with Checkpoints(run.checkpoints, read_only=True) as checkpoints:
        found = checkpoints.restore(4, jax.tree.map(jnp.zeros_like, state_of(4)))
        jax.tree.map(np.testing.assert_array_equal, found, state_of(40))
    # Copied to a disk, it is a run as any; so is one that is copied from there.
    copy = RunDirectory(cloud.download(bucket, "run", tmp_path / "copy"))
    assert copy.checkpoint_steps == [3, 4] and copy.best_steps() == [4]
    with Checkpoints(copy.checkpoints, read_only=True) as checkpoints:
        found = checkpoints.restore(4, jax.tree.map(jnp.zeros_like, state_of(4)))
        jax.tree.map(np.testing.assert_array_equal, found, state_of(40))


def test_checkpoints_from_a_disk(cloud, bucket, tmp_path):
    with Checkpoints(tmp_path / "checkpoints", keep_latest=2) as checkpoints:
        for step, wer in {1: 0.1, 2: 0.2}.items():
            checkpoints.save(step, state_of(step), {"step": step, "wer": wer}, wer)
    cloud.upload(tmp_path, bucket, "run")
    run = RunDirectory(storage.path(f"gs://{bucket}/run"))
    assert run.checkpoint_steps == [1, 2] and run.best_steps() == [1]
    with Checkpoints(run.checkpoints, read_only=True) as checkpoints:
        found = checkpoints.restore(checkpoints.best(), jax.tree.map(jnp.zeros_like, state_of(1)))
        jax.tree.map(np.testing.assert_array_equal, found, state_of(1))


@pytest.mark.parametrize("of", ["state/", "facts/"])
def test_a_checkpoint_that_the_bucket_does_not_take(cloud, bucket, of):
    """`state` is written by TensorStore, `facts` by gcsfs."""
    run = RunDirectory(storage.path(f"gs://{bucket}/run"))
    refuse = lambda method, bucket, name: 403 if method == "POST" and f"/2/{of}" in name else None  # noqa: E731
    with Checkpoints(run.checkpoints) as checkpoints:
        checkpoints.save(1, state_of(1), {"step": 1, "wer": None}, None)
        checkpoints.wait()
        cloud.refuse = refuse
        with pytest.raises(UserError, match=f"^gs://{bucket}/run/checkpoints: not allowed \\(.*legacyBucketReader"):
            checkpoints.save(2, state_of(2), {"step": 2, "wer": None}, None)
            checkpoints.wait()
    assert run.checkpoint_steps == [1]


def test_inventories(cloud, bucket, corpora, tmp_path):
    """They are made once, read back, and made again if a process died between two of their files."""
    config = tiny_config(corpora, {"data.tokenizer.kind": "sentencepiece", "data.tokenizer.vocabulary_size": 40})
    config = config.model_copy(update={"data": config.data.model_copy(update={"units": load_units(config)})})
    here, there = RunDirectory(tmp_path), RunDirectory(storage.path(f"gs://{bucket}/run"))
    for run in (here, there):
        open_symbols(config, run)
    names = [
        "checksums.json",
        "languages.json",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer.model",
        "vocabulary.json",
    ]
    units = [f"units/{file.name}" for file in here.units.iterdir()]
    assert cloud.names(bucket) == [f"run/{name}" for name in sorted([*names, *units])]
    for name in [*names, *units]:
        assert cloud.buckets[bucket][f"run/{name}"].data == (here.root / name).read_bytes()
    del cloud.buckets[bucket]["run/tokenizer/tokenizer.json"]  # the last of them
    tokenizer = open_symbols(config, there).labels
    assert tokenizer.size == 40 and "run/tokenizer/tokenizer.json" in cloud.names(bucket)
    there.clear()
    assert cloud.names(bucket) == []


def test_starts_and_what_is_left_of_a_training(cloud, bucket, corpora):
    run, config = RunDirectory(storage.path(f"gs://{bucket}/run")), tiny_config(corpora, {})
    open_run(run.root, config)
    for step in (0, 500):
        record_start(run, step, "8 × TPU v5e", "TPU v5e", 2, 1_000)
    assert [start.step for start in read_starts(run)] == [0, 500]
    open_run(run.root, config)  # without a checkpoint it begins once more
    assert read_starts(run) == []
    (run.evaluations / "step_500_test.json").write_text("[]")
    with pytest.raises(UserError, match="has no checkpoint, and .*evaluations is there"):
        open_run(run.root, config)


def load_units(config):
    return config.data.units.model_copy(update={"kind": "characters"})


def rows(text: str) -> list[dict[str, str]]:
    """Return the rows of `metrics.csv`, but for the one column that measures time."""
    found = list(csv.DictReader(io.StringIO(text)))
    for row in found:
        del row["audio_seconds_per_second"]
    return found


@pytest.mark.slow
def test_killed_while_it_saves_and_gone_on_as_on_a_disk(cloud, bucket, trained, spoken, tmp_path, capsys):
    """Weights, metrics, evaluation and transcripts are the same to the last bit."""
    run, config = f"gs://{bucket}/runs/one", tmp_path / "config.json"
    save(load(trained), config)
    command = [sys.executable, "-m", "joint_st", "train", str(config), "--workdir", run]
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)

    def kill(method, bucket, name):
        """Before the file comes that completes the checkpoint."""
        if method == "POST" and name == f"runs/one/checkpoints/12/{COMPLETE}":
            os.kill(process.pid, signal.SIGKILL)
            return 503

    cloud.refuse = kill
    output = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, output
    assert cloud.names(bucket, "runs/one/checkpoints/12/state/")
    assert RunDirectory(storage.path(run)).checkpoint_steps[-1] == 9
    cloud.refuse = lambda *_: None
    done = joint_st("train", run)  # its own config
    assert done.returncode == 0, done.stderr
    assert f"tiny in {run} goes on from step 9 of 24 steps" in done.stderr
    copy = cloud.download(bucket, "runs/one", tmp_path / "copy")
    found, expected = saved_arrays(copy, 24), saved_arrays(trained, 24)
    assert found.keys() == expected.keys() and len(found) > 50
    for name in expected:
        assert found[name].dtype == expected[name].dtype and found[name].tobytes() == expected[name].tobytes(), name
    assert rows(cloud.text(bucket, "runs/one/metrics.csv")) == rows((trained / "metrics.csv").read_text())
    assert RunDirectory(storage.path(run)).checkpoint_steps == RunDirectory(trained).checkpoint_steps
    data = ["--data", f"mine={spoken / 'test.jsonl'}", "--checkpoint", "24"]
    written = []
    for place in (run, str(trained)):
        assert main(["evaluate", place, *data, "--json", str(tmp_path / "table.json")]) == 0
        assert "mine" in capsys.readouterr().out
        assert main(["transcribe", place, *map(str, sorted(spoken.glob("*.wav"))[:2]), "--checkpoint", "24"]) == 0
        table = json.loads((tmp_path / "table.json").read_text())
        written.append((untimed(table), capsys.readouterr().out))
        if place == run:
            assert json.loads(cloud.text(bucket, "runs/one/evaluations/step_24_mine.json")) == table
    assert written[0] == written[1]
    assert main(["compare", run, str(trained), *data]) == 0  # from what both hold
    captured = capsys.readouterr()
    assert "evaluated" not in captured.err and f"A: {run}, step 24" in captured.out
