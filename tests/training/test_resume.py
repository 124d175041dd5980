"""A run that was stopped continues from its last complete checkpoint as if it had not been stopped."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from joint_st.cli import main
from joint_st.config import load
from joint_st.data.dataset import open_paired
from joint_st.data.normalizers import normalizer
from joint_st.data.plan import training_plan
from joint_st.data.texts import train_tokenizer
from joint_st.data.tokenizers import load_tokenizer
from joint_st.data.vocabulary import Vocabulary
from joint_st.distributed.mesh import make_mesh
from joint_st.errors import UserError
from joint_st.heads.ctc import CtcHead
from joint_st.runs import checksums
from joint_st.runs.checkpoints import Checkpoints
from joint_st.runs.directory import RunDirectory, open_run
from joint_st.runs.remains import DRAFT
from joint_st.training import asr
from joint_st.training.loop import check_same_data
from joint_st.training.setup import TrainingData, open_symbols, print_start
from joint_st.training.weights import Start
from tests.tiny import environment, saved_arrays, tiny_config

STEPS = 24

# Orbax is told no shardings when it reads arrays for comparison.
pytestmark = pytest.mark.filterwarnings("ignore:Sharding info not provided")


def start(config, run) -> subprocess.Popen:
    command = [sys.executable, "-m", "joint_st", "train", str(config), "--workdir", str(run)]
    return subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)


def saved(run: Path) -> list[int]:
    """Steps of complete checkpoints."""
    return sorted(int(entry.name) for entry in (run / "checkpoints").glob("*") if entry.name.isdecimal())


def begun(run: Path) -> set[str]:
    """Checkpoints being saved, or left by a process killed while it saved them."""
    return {entry.name for entry in (run / "checkpoints").glob(f"*{DRAFT}")}


def wait_for(process, event) -> None:
    deadline = time.monotonic() + 300
    while not event():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.001)


def finish(process) -> str:
    """Wait for a process to end with status 0; return its stderr."""
    output = process.communicate()[1]
    assert process.returncode == 0, output
    return output


def rows(run: Path) -> list[dict[str, str]]:
    """Return the rows of `metrics.csv`, but for the one column that measures time."""
    with open(run / "metrics.csv", newline="") as file:
        found = list(csv.DictReader(file))
    for row in found:
        del row["audio_seconds_per_second"]
    return found


def assert_same(run: Path, trained: Path):
    """Two runs have the same, bit for bit: weights, their average, the optimizer's moments; and the metrics."""
    found, expected = saved_arrays(run, STEPS), saved_arrays(trained, STEPS)
    assert found.keys() == expected.keys()
    assert len(found) > 100
    for name in expected:
        assert found[name].dtype == expected[name].dtype
        assert found[name].tobytes() == expected[name].tobytes(), name
    assert rows(run) == rows(trained)
    assert not begun(run)
    for name in ("config.json", "vocabulary.json", "tokenizer/tokenizer.json"):
        assert (run / name).read_bytes() == (trained / name).read_bytes()


def test_a_run_in_one_go(trained):
    """The comparisons below depend on it."""
    assert saved(trained)[-2:] == [20, STEPS] and len(saved(trained)) <= 3
    found = rows(trained)
    assert [int(row["step"]) for row in found if row["loss"]] == [5, 10, 15, 20, STEPS]
    assert [int(row["step"]) for row in found if row["dev_full_context_wer"]] == [9, 18, STEPS]
    assert [float(row["utterances"]) for row in found if row["loss"]] == [20, 20, 20, 20, 16]
    assert int(saved_arrays(trained, STEPS)["step"]) == STEPS


@pytest.mark.slow
def test_killed_while_it_saves_and_at_any_moment(trained, tmp_path):
    run, chance, left = tmp_path / "run", random.Random(time.time_ns()), 0
    for at_least in (0, 8):
        process = start(trained, run)
        before = begun(run)
        wait_for(process, lambda: (saved(run) or [0])[-1] >= at_least and begun(run) - before)
        process.kill()
        process.communicate()
        left += bool(begun(run))
    assert left, "no process was killed while it saved"
    process = start(trained, run)
    wait_for(process, lambda: saved(run)[-1] >= 12)
    time.sleep(chance.uniform(0, 0.3))
    process.kill()
    process.communicate()
    assert f"goes on from step {saved(run)[-1]} of {STEPS} steps" in finish(start(trained, run))
    assert_same(run, trained)


@pytest.mark.slow
def test_sigterm_saves_and_says_so(trained, tmp_path):
    run = tmp_path / "run"
    process = start(trained, run)
    wait_for(process, lambda: begun(run))
    process.send_signal(signal.SIGTERM)
    output = process.communicate()[1]
    assert process.returncode == 143, output
    step = saved(run)[-1]
    assert step < STEPS
    told = f"SIGTERM: saved step {step} in {run}/checkpoints; the same command goes on from there"
    assert output.splitlines()[-1] == told
    assert "Traceback" not in output
    output = finish(start(trained, run))
    assert f"goes on from step {step} of {STEPS} steps" in output
    assert_same(run, trained)


def test_a_finished_run_has_nothing_left_to_do(trained, tmp_path, capsys):
    run = shutil.copytree(trained, tmp_path / "run")
    assert main(["train", str(run), "--workdir", str(run), "--evaluation.bootstrap_samples", "200"]) == 0
    assert load(run).evaluation.bootstrap_samples == 200
    shutil.copy(trained / "config.json", run / "config.json")
    told = capsys.readouterr().err
    assert f"has all of its {STEPS} steps behind it: nothing is left to train" in told
    assert "\nwarning  data.text: nothing trains on it; set data.text_batch_size, and losses.reconstruction." in told
    assert_same(run, trained)
    assert saved(run) == saved(trained)


@pytest.mark.parametrize(
    "step, told",
    [
        (0, "starts; 90 steps"),
        (50, "goes on from step 50 of 90 steps"),
        (90, "has all of its 90 steps behind it: nothing is left to train"),
        (113, "has 113 steps behind it, more than training.steps 90: nothing is left to train"),
    ],
)
def test_what_is_said_of_where_a_run_stands(tmp_path, capsys, step, told):
    config = tiny_config(tmp_path, {"training.steps": 90})
    print_start(config, RunDirectory(tmp_path), Start(SimpleNamespace(step=step)))
    assert capsys.readouterr().err == f"tiny in {tmp_path} {told}\n"


def test_killed_before_its_texts_are_whole(trained, tmp_path, monkeypatch):
    run = open_run(tmp_path / "run", load(trained))

    class Killed(BaseException):
        pass

    def kill(self, folder):
        (Path(folder) / "vocabulary.json").write_text('{"heard": ["cut')
        raise Killed

    monkeypatch.setattr(Vocabulary, "save", kill)
    with pytest.raises(Killed):
        open_symbols(load(trained), run)
    monkeypatch.undo()
    assert open_symbols(load(trained), run).sizes.labels == load_tokenizer(trained / "tokenizer").size
    assert Vocabulary.load(run.root) == Vocabulary.load(trained)
    assert {entry.name for entry in run.root.iterdir()} == {
        *("checksums.json", "config.json", "languages.json", "tokenizer", "vocabulary.json")
    }


def test_another_config_is_refused(trained, capsys):
    arguments = ["train", str(trained), "--workdir", str(trained), "--optimizer.beta1", "0.8"]
    assert main(arguments) == 2
    line = capsys.readouterr().err
    assert re.fullmatch(r"joint-st: error: optimizer.beta1: 0.9 in .*json, 0.8 now; .*--workdir\n", line)


def plan_of(config):
    """Return the prepared training set and the batch plan of a run."""
    data, features = config.data, config.model.features
    prepared = open_paired(
        data.train, data, features, normalizer(data.normalizer), train_tokenizer(config), training=True
    )
    return prepared, training_plan(prepared, data, config.seed)


def test_other_data_under_the_same_names_are_refused(trained, tmp_path, capsys):
    run = shutil.copytree(trained, tmp_path / "run")
    facts = run / "checkpoints" / str(STEPS) / "facts" / "metadata"
    then = json.loads(facts.read_text())
    assert list(then["data_by_field"]) == ["data.train"]  # nothing trains on data.text
    facts.write_text(json.dumps({**then, "data": "other"}))
    (run / "checkpoints" / str(STEPS) / checksums.FILE).unlink()
    assert main(["train", str(run), "--training.log_every", "7", "--evaluation.rank_by", "wer"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"joint-st: error: data.train: its utterances are not those that {run} was trained with, ")
    assert saved(run) == saved(trained) and rows(run) == rows(trained)
    # What a refused start was given is not kept: the next one would have it too.
    assert (run / "config.json").read_bytes() == (trained / "config.json").read_bytes()


@pytest.mark.parametrize(
    ("change", "stored", "named"),
    [
        ("", True, ""),
        ("", False, ""),
        ("paired", True, "data.train: its"),
        ("text", True, "data.text: its"),
        ("both", True, "data.train, data.text: their"),
        ("data.train", True, "data.train: its"),  # other texts of the same lengths
        ("data.text", True, "data.text: its"),
        ("data.dev", True, "data.dev: its"),
        ("data.dev", False, ""),
        ("text", False, "data.train, data.text: their"),  # a checkpoint of a version that did not store them by field
    ],
)
def test_the_data_that_have_changed_are_named(change, stored, named):
    def data(paired: int, text: int):
        def lengths(first: int):
            return np.array([first, 2, 3], np.int32)

        def said(field: str):
            return {"fingerprint_of_texts": "other" if field == said_otherwise else "same"}

        lengths_heard = {"lengths": lengths(paired), "label_lengths": lengths(1), "unit_lengths": lengths(2)}
        heard = SimpleNamespace(**lengths_heard, **said("data.train"))
        read = SimpleNamespace(label_lengths=lengths(1), unit_lengths=lengths(text), **said("data.text"))
        return TrainingData(
            SimpleNamespace(units=True), heard, None, SimpleNamespace(**said("data.dev")), read, None, 0
        )

    said_otherwise = ""

    before = data(7, 8)
    texts = before.texts_by_field
    said_otherwise = change if change.startswith("data.") else ""
    now = data(9 if change in ("paired", "both") else 7, 9 if change in ("text", "both") else 8)
    # The fingerprint of all data is that of earlier versions: of the lengths of paired data, then of text.
    in_order = np.array([7, 2, 3, 1, 2, 3, 2, 2, 3, 8, 2, 3, 1, 2, 3], np.int32)
    assert before.fingerprint == hashlib.sha256(in_order.tobytes()).hexdigest()[:16]
    facts = {"data": before.fingerprint} | ({"data_by_field": before.fingerprint_by_field} if stored else {})
    facts |= {"texts_by_field": texts} if stored else {}
    session = SimpleNamespace(checkpoints=SimpleNamespace(facts=lambda step: facts), run=SimpleNamespace(root="RUN"))
    check_same_data(session, 0, "other", {}, {})
    with pytest.raises(UserError, match=f"^{named} utterances are not those that RUN") if named else nullcontext():
        check_same_data(session, 4, now.fingerprint, now.fingerprint_by_field, now.texts_by_field)


@pytest.mark.parametrize("before", [{"wer": 0.5}, {"wer": 0.5, "cer": 0.2, "ranked_by": "wer"}])
def test_another_rank_is_refused_before_the_checkpoints_are_called_damaged(tmp_path, monkeypatch, before):
    """Without `ranked_by`, as earlier versions wrote facts, it is the word error rate."""
    config, run = tiny_config(tmp_path, {"evaluation.rank_by": "cer"}), RunDirectory(tmp_path / "run")
    with Checkpoints(run.checkpoints, metric="wer") as checkpoints:
        checkpoints.save(3, {"a": jnp.zeros(3)}, {"step": 3, **before}, before["wer"])
    data = SimpleNamespace(symbols=SimpleNamespace(sizes=None), dev=None)
    monkeypatch.setattr(asr, "open_training", lambda *_: (run, make_mesh(config.parallel), data))
    with pytest.raises(UserError) as refused:
        asr.train_asr(config, run.root)
    assert str(refused.value) == (
        f"evaluation.rank_by: cer, and the checkpoints of {run.root} are ranked by wer; set it to wer, "
        "or name another --workdir"
    )
    (run.checkpoints / "3/facts/metadata").write_text("{")
    asr.check_same_ranking(run, "cer")


def test_a_dev_set_without_words_is_refused_before_anything_is_compiled(tmp_path, monkeypatch):
    data = SimpleNamespace(symbols=SimpleNamespace(sizes=None), dev=SimpleNamespace(words=np.zeros(3, np.int32)))
    monkeypatch.setattr(asr, "open_training", lambda *_: (None, None, data))
    with pytest.raises(UserError, match="^data.dev: its transcripts have no words, so there is no error rate; correct"):
        asr.train_asr(tiny_config(tmp_path), tmp_path / "run")


@pytest.mark.slow
def test_nan_names_the_step_and_the_utterance(trained, tmp_path, monkeypatch, capsys):
    prepared, plan = plan_of(load(trained))
    # Steps are counted from 1, batches from 0.
    culprit = int(plan[6 - 1].rows[2])
    labels = prepared.load(culprit).labels
    true_loss = CtcHead.loss

    def poisoned(self, x, mask, spelled, lengths, mesh):
        own = jnp.zeros(spelled.shape[1], int).at[: len(labels)].set(labels)
        loss = true_loss(self, x, mask, spelled, lengths, mesh)
        return jnp.where((spelled == own).all(axis=1), jnp.nan, loss)

    monkeypatch.setattr(CtcHead, "loss", poisoned)
    # Six steps are in one epoch, in which the utterance comes once.
    assert plan.steps_per_epoch >= 6
    command = ["train", str(trained), "--workdir", str(tmp_path / "run")]
    assert main(command) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"joint-st: error: step 6: the loss is nan, utterances {prepared.id(culprit)}; the checkpoint of step 4 "
        "is good; look at these utterances, or lower optimizer.peak_learning_rate"
    )
    assert saved(tmp_path / "run") == [4]

    monkeypatch.undo()
    assert main(command) == 0
    assert_same(tmp_path / "run", trained)


@pytest.mark.slow
def test_weights_that_explode_stop_the_run_before_they_are_saved(trained, tmp_path, capsys):
    """The loss of such a step is still finite."""
    run = tmp_path / "run"
    options = ["--optimizer.peak_learning_rate", "1e30", "--training.checkpoint_every", "1", "--data.dev", ""]
    assert main(["train", str(trained), "--workdir", str(run), *options]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.search(
        r"step 2: the loss is \d.*, but the norm of the weights after the step inf, "
        r"utterances (train_\d+(, )?){4}; the checkpoint of step 1 is good",
        line,
    )
    assert saved(run) == [1]
    assert all(np.isfinite(x).all() for x in saved_arrays(run, 1).values())


def test_a_full_disk_is_told_in_one_line(trained, tmp_path, monkeypatch, capsys):
    run, true_save = tmp_path / "run", ocp.CheckpointManager.save

    def full(self, step, *arguments, **options):
        if step > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return true_save(self, step, *arguments, **options)

    monkeypatch.setattr(ocp.CheckpointManager, "save", full)
    assert main(["train", str(trained), "--workdir", str(run)]) == 2
    error = capsys.readouterr().err.splitlines()
    assert re.search(r"checkpoints: a checkpoint could not be saved: .*No space left on device", error[-1])
    assert not any("Traceback" in line for line in error)
    assert saved(run) == [4]
