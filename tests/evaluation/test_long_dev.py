"""Recordings longer than a window in a development set are decoded as `joint-st evaluate` decodes them."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import soundfile

from joint_st.cli import main
from joint_st.config import ManifestSource
from joint_st.data.dataset import open_paired
from joint_st.decoding.decoders import Hypotheses, NBestScores
from joint_st.decoding.long import LongRecordings
from joint_st.decoding.recognise import Recognised
from joint_st.errors import Stalled
from joint_st.evaluation import scorer, tuning
from joint_st.evaluation.evaluate import evaluate_run
from joint_st.evaluation.scorer import Scorer
from joint_st.evaluation.wer import count_errors
from joint_st.passes import PASSES
from joint_st.runs.trained import load_trained
from tests.tiny import tiny_config


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    """A copy of the run, in which evaluations may be kept."""
    return shutil.copytree(trained, tmp_path_factory.mktemp("judged") / "run")


@pytest.fixture(scope="module")
def dev(spoken, tmp_path_factory):
    """A manifest of two utterances of a few seconds and of one recording that takes several windows."""
    folder = tmp_path_factory.mktemp("long")
    rows = [json.loads(line) for line in (spoken / "test.jsonl").read_text().splitlines()]
    audio = [soundfile.read(spoken / row["audio_filepath"], dtype="int16") for row in rows]
    rate = audio[0][1]
    long = np.concatenate([samples for samples, _ in audio] * 2)
    soundfile.write(folder / "long.wav", long, rate)
    said = " ".join([row["text"] for row in rows] * 2)
    entries = [{**row, "audio_filepath": str(spoken / row["audio_filepath"])} for row in rows[:2]]
    entries += [{"id": "long", "audio_filepath": "long.wav", "duration": len(long) / rate, "text": said}]
    (folder / "dev.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert len(long) / rate > 2 * 8  # the windows are of 8 s
    return folder / "dev.jsonl"


def test_training_judges_long_recordings_as_an_evaluation_does(run, dev):
    model = load_trained(run, "latest")
    source, config = ManifestSource(path=str(dev)), model.config
    features = config.model.features
    dataset = open_paired([source], config.data, features, model.normalizer, model.tokenizer, training=False)
    score = Scorer(config, dataset, model.mesh, model.symbols.sizes)
    assert score._buckets.bounds[-1] <= config.window_seconds * features.sample_rate < dataset.lengths.max()
    with jax.set_mesh(model.mesh):
        rates = score(model.weights, "dev")
    rows = evaluate_run(run, data={"dev": source}, checkpoint="latest")
    whole = {row["head"]: row for row in rows if row["subset"] == "all"}
    for head, row in whole.items():
        assert rates[f"dev_{head}_wer"] == row["wer"] and rates[f"dev_{head}_cer"] == row["cer"]


@pytest.mark.parametrize("options", [(), ("--head", "full_context", "--window-seconds", "3")])
def test_weights_are_tuned_on_what_an_evaluation_hears(run, dev, spoken, tmp_path, capsys, monkeypatch, options):
    monkeypatch.setattr(tuning, "ROUNDS", 1)
    decoded = []

    class Watched(LongRecordings):
        def __call__(self, *audio, **named):
            found = super().__call__(*audio, **named)
            decoded.append((self.seconds, *(tuple(by_head) for by_head in found.values())))
            return found

    monkeypatch.setattr(tuning, "LongRecordings", Watched)
    assert main(["data", "ngram", str(run), "--order", "2", "--out", str(tmp_path / "word.arpa")]) == 0
    rows = (spoken / "test.jsonl").read_text().splitlines()[2:]
    others = [{**json.loads(row), "audio_filepath": str(spoken / json.loads(row)["audio_filepath"])} for row in rows]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in others))
    what = ["evaluate", str(run), "--beam", "3", "--lm", str(tmp_path / "word.arpa"), "--checkpoint", "latest"]
    what += options
    capsys.readouterr()
    assert main([*what, "--data", f"test={tmp_path}/test.jsonl", "--tune", f"mine={dev}"]) == 0
    (tried,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mine: WER ")]
    assert set(decoded) == {(3.0, ("full_context",)) if options else (30.0, PASSES)}
    rate, weights = tried.removeprefix("mine: WER ").split(" % with ")
    table = tmp_path / "table.json"
    given = weights.replace("--insertion-bonus ", "--insertion-bonus=").split()
    assert main([*what, "--data", f"mine={dev}", *given, "--json", str(table)]) == 0
    found = [row for row in json.loads(table.read_text()) if row["subset"] == "all"]
    errors = sum(row["insertions"] + row["deletions"] + row["substitutions"] for row in found)
    assert float(rate) == pytest.approx(100 * errors / sum(row["words"] for row in found), abs=0.05)


def test_hypotheses_of_pieces_are_joined_by_rank():
    def of(*labels, scores):
        numbers = np.array(scores, np.float32)
        return Hypotheses([np.array(one, np.int32) for one in labels], numbers, 10 * numbers, 100 * numbers)

    nothing = Hypotheses([], *np.zeros((3, 0), np.float32))
    pieces = [(0, of([1, 2], [1], scores=[-1, -2])), (7, nothing), (9, of([3], scores=[-4]))]
    joined = NBestScores(None).join(pieces)
    assert [one.tolist() for one in joined.labels] == [[1, 2, 3], [1, 3]]
    np.testing.assert_array_equal(joined.scores, [-5, -6])
    np.testing.assert_array_equal(joined.log_probs, [-50, -60])
    np.testing.assert_array_equal(joined.counts, [-500, -600])
    (alone,) = NBestScores(None).join([(0, nothing)]).labels
    assert alone.dtype == np.int32 and not len(alone)


def test_checkpoints_are_ranked_by_the_same_utterances(tmp_path, monkeypatch):
    """Where more than a hundredth of them cannot be read any more, as where a disk is gone, the training ends."""
    readable = list(range(150))

    def recognise(*_, **__):
        return (Recognised(n, 1.0, {"greedy": {head: ("a b", 3) for head in PASSES}}) for n in readable)

    def scored(found, *_):
        one = {"errors": count_errors("a b", "a c"), "hypothesis": "a c", "reference": "a b"}
        return [SimpleNamespace(head=head, **one) for head in PASSES for _ in found]

    for name in ("Forward", "LongRecordings", "common_buckets"):
        monkeypatch.setattr(scorer, name, lambda *_, **__: SimpleNamespace(longest=1))
    monkeypatch.setattr(scorer, "recognise", recognise)
    monkeypatch.setattr(scorer, "score_recognised", scored)
    dataset = SimpleNamespace(id="u{}".format, unreadable={})
    score = Scorer(tiny_config(tmp_path), dataset, None, None)
    assert score({}, "dev")["dev_full_context_wer"] == 0.5
    readable = [n for n in range(200) if n != 7]
    assert score({}, "dev")["dev_full_context_wer"] == 0.5
    readable = [n for n in range(200) if n not in (1, 7, 9)]
    dataset.unreadable = {1: "/disk/u1.flac: no such file"}
    with pytest.raises(
        Stalled, match=r"^data.dev: 3 of the utterances .* such as u1 \(/disk/u1.flac: no such file\); look"
    ):
        score({}, "dev")
