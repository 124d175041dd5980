"""`joint-st train-lm`: it learns, continues bit for bit where it stopped, and holds the dev set out."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import signal
from collections import Counter
from pathlib import Path

import jax
import numpy as np
import pytest

from joint_st.cli import main
from joint_st.config import LmConfig, LmDataConfig, LmModelConfig, LoopConfig, OptimizerConfig, TextSource, save
from joint_st.data.normalizers import normalizer
from joint_st.data.tokenizers import load_tokenizer
from joint_st.models.language_model import merge_lm
from joint_st.runs.directory import RunDirectory
from joint_st.runs.trained import load_lm
from joint_st.training.lm import Perplexity
from tests.tiny import joint_st, saved_arrays

# Orbax is told no shardings when it reads arrays for comparison.
pytestmark = pytest.mark.filterwarnings("ignore:Sharding info not provided")

STEPS = 24


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with the config `lm.json` and its texts."""
    place = tmp_path_factory.mktemp("lm")
    colours, things = ("red", "green", "blue", "grey"), ("house", "tree", "boat")
    texts = [f"The {a} {b} is {c}." for a in colours for b in things for c in colours]
    (place / "dev.txt").write_text("\n".join(texts[::7]) + "\n")
    # One in seven is in both.
    (place / "train.txt").write_text("\n".join(texts) + "\n")
    config = LmConfig(
        name="tiny",
        data=LmDataConfig(
            train=(TextSource(path=str(place / "train.txt")),),
            dev=(TextSource(path=str(place / "dev.txt")),),
            batch_size=8,
            buckets=1,
        ),
        model=LmModelConfig(width=16, layers=1),
        optimizer=OptimizerConfig(peak_learning_rate=2e-2, warmup_steps=2, ema_decay=0.5),
        training=LoopConfig(steps=STEPS, log_every=5, evaluate_every=9, checkpoint_every=4, compilation_cache=""),
    )
    save(config, place / "lm.json")
    return place


@pytest.fixture(scope="module")
def trained_lm(place) -> Path:
    assert main(["train-lm", str(place / "lm.json"), "--workdir", str(place / "run")]) == 0
    return place / "run"


def rows(run: Path) -> list[dict[str, str]]:
    with open(run / "metrics.csv", newline="") as file:
        found = list(csv.DictReader(file))
    for row in found:
        del row["labels_per_second"]
    return found


def test_it_learns_and_the_best_is_that_of_the_lowest_perplexity(place, trained_lm, capsys):
    found = rows(trained_lm)
    losses = [float(row["loss"]) for row in found if row["loss"]]
    assert losses[-1] < 0.5 * losses[0] and len(losses) == 5
    rated = {int(row["step"]): float(row["dev_perplexity"]) for row in found if row["dev_perplexity"]}
    assert sorted(rated) == [9, 18, STEPS]
    # Computed again from what the run holds, one text after the other.
    trained = load_lm(trained_lm)
    assert trained.step == min(rated, key=rated.get)
    model = merge_lm(trained.config.model, trained.tokenizer.size, trained.weights)
    texts = [normalizer("english")(line) for line in (place / "dev.txt").read_text().splitlines()]
    state, tokenizer = model.init_state(1), load_tokenizer(trained_lm / "tokenizer")
    step = jax.jit(lambda label, state: model.step(label, state))
    total, words, labels = 0.0, 0, 0
    for text in texts:
        given, state = 0, model.init_state(1)
        for label in [*tokenizer.encode(text), 0]:
            log_probs, state = step(np.array([given]), state)
            total, given, labels = total - float(log_probs[0, label]), label, labels + 1
        words += len(text.split()) + 1
    row = next(row for row in found if int(row["step"]) == trained.step and row["dev_perplexity"])
    assert float(row["dev_perplexity"]) == pytest.approx(math.exp(total / labels), rel=1e-4)
    assert float(row["dev_word_perplexity"]) == pytest.approx(math.exp(total / words), rel=1e-4)


def test_what_is_in_dev_is_not_trained_on(place, tmp_path, capsys):
    options = ["--training.steps", "1", "--workdir", str(tmp_path / "run"), "--data.train.0.language", "nl"]
    assert main(["train-lm", str(place / "lm.json"), *options]) == 0
    said = capsys.readouterr().err
    assert "the data are also in nl; take `basic`\n" in said
    assert "train    41 texts" in said and "dropped 7 that data.dev has too\n" in said
    assert "dev      7 texts" in said and "1 steps" in said


def test_sigterm_during_the_last_evaluation_is_not_lost(place, tmp_path, monkeypatch, capsys):
    def told_to_end(self, weights):
        signal.raise_signal(signal.SIGTERM)
        return 1.0, 1.0

    monkeypatch.setattr(Perplexity, "__call__", told_to_end)
    with pytest.raises(SystemExit) as ended:
        main(["train-lm", str(place / "lm.json"), "--training.steps", "1", "--workdir", str(tmp_path / "run")])
    assert ended.value.code == 143
    assert f"SIGTERM: all steps are saved in {tmp_path}/run/checkpoints;" in capsys.readouterr().err
    assert RunDirectory(tmp_path / "run").checkpoint_steps == [1]


def test_a_run_that_was_stopped_goes_on_bit_for_bit(place, trained_lm, tmp_path, monkeypatch, capsys):
    """A trace of some of its steps changes nothing either."""
    from joint_st.training.interruption import Interruption

    run = tmp_path / "run"
    command = ["train-lm", str(place / "lm.json"), "--workdir", str(run)]
    with monkeypatch.context() as patch:
        patch.setattr(Interruption, "stops_after", lambda self, done: done == 13)
        assert main([*command, "--profile", "3:6"]) == 0
    said = capsys.readouterr().err
    assert f"steps 4 to 6: trace in {run}/profile;" in said
    assert re.search(r"\d%.* \S+, models/\w+\.py:\d+$", said, re.MULTILINE)
    kept = [int(entry.name) for entry in (run / "checkpoints").iterdir() if entry.name.isdecimal()]
    assert max(kept) == 13
    assert main([*command, "--profile"]) == 0
    traces = run / "profile" / "plugins" / "profile"
    assert sorted(path.name for path in traces.iterdir()) == ["steps_20_to_24", "steps_4_to_6"]
    assert all(len(list(path.glob("*.xplane.pb"))) == 1 for path in traces.iterdir())
    found, expected = saved_arrays(run, STEPS), saved_arrays(trained_lm, STEPS)
    assert found.keys() == expected.keys() and len(found) > 20
    for name in expected:
        assert found[name].tobytes() == expected[name].tobytes(), name
    assert rows(run) == rows(trained_lm)


@pytest.mark.parametrize(
    "text, word_perplexity, shown",
    [("的一是不了" * 60, "", "a label\n"), ("abcdefghijklmnopqrstuvwxyz" * 38, "inf", "a label, inf a word\n")],
)
def test_a_dev_text_without_spaces_has_no_finite_perplexity_per_word(
    place, tmp_path, capsys, monkeypatch, text, word_perplexity, shown
):
    """Its run goes on where it was stopped, with a perplexity per label."""
    from joint_st.training.interruption import Interruption

    run, train, dev = (tmp_path / name for name in ("run", "train.txt", "dev.txt"))
    train.write_text(text[:50], encoding="utf-8")
    dev.write_text(text, encoding="utf-8")
    changes = ["--data.normalizer", "basic", "--data.train", f"text:{train}", "--data.dev", f"text:{dev}"]
    changes += ["--data.max_labels", "1000", "--data.batch_size", "1"]
    changes += ["--training.steps", "4", "--training.evaluate_every", "1"]
    command = ["train-lm", str(place / "lm.json"), "--workdir", str(run), *changes]
    with monkeypatch.context() as patch:
        patch.setattr(Interruption, "stops_after", lambda self, done: done == 2)
        assert main(command) == 0
    assert main(command) == 0
    said = capsys.readouterr().err
    assert said.count(shown) == 4
    found = [row for row in rows(run) if row["dev_perplexity"]]
    assert [row["dev_word_perplexity"] for row in found] == [word_perplexity] * 4
    assert 1 < float(found[-1]["dev_perplexity"]) < 50


def test_a_run_holds_all_and_can_take_the_labels_of_another(place, trained_lm, tmp_path):
    moved = shutil.copytree(trained_lm, tmp_path / "moved")
    options = ["--data.tokenizer.path", str(moved / "tokenizer"), "--workdir", str(tmp_path / "run")]
    texts = place / "other.txt"
    texts.write_text("It is red.\n")
    changes = ["--data.train", f"text:{texts}", "--data.dev", "", "--training.steps", "1"]
    assert main(["train-lm", str(place / "lm.json"), *options, *changes]) == 0
    tokenizers = [(run / "tokenizer/tokenizer.json").read_bytes() for run in (moved, tmp_path / "run")]
    assert tokenizers[0] == tokenizers[1]
    letters = load_lm(tmp_path / "run").tokenizer.characters
    assert set("the red house is blue") <= set(letters)


def test_all_texts_come_once_in_an_epoch(place, trained_lm):
    from joint_st.config import load
    from joint_st.data.dataset import open_lm_texts
    from joint_st.data.loader import text_batches
    from joint_st.data.plan import label_plan

    config = load(place / "lm.json", LmConfig)
    tokenizer = load_tokenizer(trained_lm / "tokenizer")
    texts = open_lm_texts(config.data.train, config.data, normalizer("english"), tokenizer, "data.train")
    plan = label_plan(texts, config.data, 3, shuffle=True)
    seen = Counter()
    for batch in text_batches(texts, plan, start=0, prefetch=2):
        text = batch.arrays["text"]
        assert "units" not in text and "paired" not in batch.arrays
        for labels, length, valid in zip(text["labels"], text["label_lengths"], text["valid"]):
            if valid:
                seen[tokenizer.decode(labels[:length])] += 1
        if batch.number + 1 == plan.steps_per_epoch:
            break
    assert seen == Counter(texts.texts()) and len(texts) == 48


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["{lm}", "--model.widht", "3"], "model.widht: unknown key (= 3); did you mean model.width?"),
        (["{lm}", "--data.train", "text:nowhere.txt"], "nowhere.txt: no such file"),
        (["{lm}", "--parallel.tensor", "2"], "parallel.tensor: "),
        (["{acoustic}"], "{acoustic}: a config that `joint-st train` takes, not `joint-st train-lm`"),
    ],
)
def test_mistakes(place, tmp_path, capsys, arguments, message):
    from tests.tiny import tiny_config

    names = {"lm": place / "lm.json", "acoustic": tmp_path / "acoustic.json"}
    save(tiny_config(tmp_path), names["acoustic"])
    command = ["train-lm", *(argument.format(**names) for argument in arguments), "--workdir", str(tmp_path / "run")]
    assert main(command) == 2
    assert message.format(**names) in capsys.readouterr().err


def test_train_refuses_a_language_model(place, trained_lm, capsys):
    for where in (place / "lm.json", trained_lm):
        assert main(["train", str(where)]) == 2
        assert "a config that `joint-st train-lm` takes, not `joint-st train`" in capsys.readouterr().err
    assert json.loads((trained_lm / "config.json").read_text())["kind"] == "language_model"


@pytest.mark.slow
@pytest.mark.parametrize("axis", ["data", "fsdp"])
def test_two_devices_train_as_one(place, trained_lm, tmp_path, axis):
    options = ["--parallel.cpu_devices", 2, "--parallel.data", -1 if axis == "data" else 1]
    options += ["--parallel.fsdp", 2 if axis == "fsdp" else 1]
    done = joint_st("train-lm", place / "lm.json", "--workdir", tmp_path / "run", *options)
    assert done.returncode == 0, done.stderr
    assert f": {axis} 2" in done.stderr
    losses = [[float(row["loss"]) for row in rows(run) if row["loss"]] for run in (tmp_path / "run", trained_lm)]
    np.testing.assert_allclose(*losses, rtol=2e-3)
