"""Confidences in an evaluation: fitting, judging, storing and using them again."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import rich
from PIL import Image

from joint_st.cli import main
from joint_st.cli.options import read_sources
from joint_st.data.normalizers import normalizer
from joint_st.data.scripts import tokens_of
from joint_st.evaluation import evaluate
from joint_st.evaluation.calibration import expected_calibration_error, first_half
from joint_st.evaluation.confidences import (
    Heard,
    fit,
    judge_confidences,
    judged_words,
    make_confidence_rows,
    make_confidence_table,
    temper,
)
from joint_st.evaluation.reliability import reliability_figure
from joint_st.evaluation.report import ScoredUtterance, score
from joint_st.runs.directory import RunDirectory
from joint_st.runs.temperatures import Temperature, read_temperatures, store_temperatures
from joint_st.runs.trained import load_trained
from joint_st.word_times import transcripts
from joint_st.word_times.spans import Span

PLAIN = {"greedy": "greedy"}
"""Fingerprints of the decoders."""


def utterances(power, count=400, split="dev", head="streaming", seed=0, speakers=7) -> list[ScoredUtterance]:
    """Hypotheses of five words whose words are correct with the probability `confidence ** power`."""
    rng = np.random.default_rng(seed)
    made = []
    for n in range(count):
        confidences = rng.beta(1.2, 0.7, 5)
        right = rng.random(5) < confidences**power
        reference = [f"w{k}" for k in range(5)]
        said = [word if own else f"{word}x" for word, own in zip(reference, right)]
        [one] = score([f"u{n}"], [" ".join(reference)], [" ".join(said)], [5.0], split=split, head=head)
        words = [
            {"word": w, "start": k, "end": k + 1.0, "confidence": c} for k, (w, c) in enumerate(zip(said, confidences))
        ]
        one = one.with_details(words, [{"text": one.hypothesis, "score": -1.0}])
        assert [word["correct"] for word in one.hypothesis_words] == right.tolist()
        made.append(dataclasses.replace(one, speaker=f"speaker {rng.integers(speakers)}" if speakers else ""))
    return made


def test_temperatures_are_of_one_half_and_judged_on_the_other(capsys):
    both = utterances(0.4) + utterances(3.0, head="full_context", seed=1)
    found = fit(both, PLAIN, step=7, samples=50, seed=0)
    assert [one.key for one in found.temperatures] == [(7, "streaming", "greedy"), (7, "full_context", "greedy")]
    assert [one.temperature for one in found.temperatures] == pytest.approx([1 / 0.4, 1 / 3], rel=0.15)
    rows = {(row["head"], row["calibrated"]): row for row in found.rows}
    assert len(rows) == 4 and {row["split"] for row in found.rows} == {"dev, held out"}
    for head, own in (("streaming", both[:400]), ("full_context", both[400:])):
        half = first_half([one.speaker for one in own], [5] * 400)
        assert 0.3 < half.mean() < 0.7
        words = judged_words(one for one, mine in zip(own, half) if not mine)
        before, after = rows[head, False], rows[head, True]
        assert before["ece"] == pytest.approx(expected_calibration_error(words.confidences, words.correct))
        assert after["ece"] < before["ece"] / 2 and after["ece_low"] <= after["ece"] <= after["ece_high"]
        assert after["auc"] == pytest.approx(before["auc"]) and before["temperature"] == 1
        assert before["words"] == len(words.correct) == 5 * (~half).sum()
    [one] = {one.words for one in found.temperatures if one.head == "streaming"}
    assert one + rows["streaming", True]["words"] == 2000
    # Without speakers, utterances are dealt out.
    assert len(fit(utterances(1.0, 40, speakers=0), PLAIN, step=7, samples=50, seed=0).rows) == 2
    # Of one speaker alone too: the other half has the same speaker, which is said.
    found = fit(utterances(1.0, 40, speakers=1), PLAIN, step=7, samples=50, seed=0)
    assert len(found.rows) == 2 and found.temperatures[0].words + found.rows[0]["words"] == 200
    assert "are of speaker 0: both halves have the same speaker" in capsys.readouterr().err
    right = [one for one in utterances(1.0, 40) if all(word["correct"] for word in one.hypothesis_words)]
    assert fit(right, PLAIN, step=7, samples=50, seed=0) == ([], [], {})
    assert "no temperature for streaming, greedy: all" in capsys.readouterr().err
    assert fit([], PLAIN, step=7, samples=50, seed=0) == ([], [], {})


def test_temperatures_of_the_run_are_those_of_its_step_head_and_decoder(tmp_path):
    run, own = RunDirectory(tmp_path), utterances(0.5, 50, split="test")
    store_temperatures(run, [Temperature(7, "streaming", "greedy", "greedy", 2.0, "half of dev", 9)])
    tempered, found = judge_confidences(run, own, [], PLAIN, 7, 50, 0)
    assert [row["calibrated"] for row in found.rows] == [False, True] and found.fitted == []
    for one, before in zip(tempered, own):
        pairs = zip(one.hypothesis_words, before.hypothesis_words)
        assert all(a["confidence"] == pytest.approx(b["confidence"] ** 0.5, abs=1e-6) for a, b in pairs)
    same, found = judge_confidences(run, own, [], PLAIN, 8, 50, 0)
    assert same == own and [row["calibrated"] for row in found.rows] == [False]
    other, found = judge_confidences(run, own, [], {"greedy": "greedy of another kind"}, 7, 50, 0)
    assert other == own and found.fitted == []
    # Newly fitted ones take their place.
    again, found = judge_confidences(run, own, utterances(0.5), PLAIN, 7, 50, 0)
    assert found.fitted[0].temperature == pytest.approx(2.0, rel=0.15) and found.fitted[0].temperature != 2.0
    assert temper(own, {(one.head, one.decoder): one for one in found.fitted}) == again
    nothing = make_confidence_rows(
        [dataclasses.replace(own[0], hypothesis_words=[])], {}, step=7, samples=9, seed=0, bins={}
    )
    assert nothing == []


def test_a_confidence_of_a_billionth_is_tempered_before_it_is_rounded():
    """It would be 0 otherwise, and another than that of `transcribe`."""
    sure = 0.25**15
    text, details = Heard("long", (Span("long", 0.0, 1.0, sure, 0),), ()).normalised(normalizer("basic"))
    [one] = score(["a"], ["long"], [text], [1.0], split="test", head="streaming")
    one = one.with_details(**details)
    assert judged_words([one]).confidences.tolist() == [sure]
    [found] = temper([one], {("streaming", "greedy"): Temperature(7, "streaming", "greedy", "greedy", 5.0, "dev", 9)})
    assert found.hypothesis_words[0]["confidence"] == pytest.approx(0.25**3, rel=1e-12)
    assert found.record()["hypothesis_words"][0]["confidence"] == 0.015625
    assert one.record()["hypothesis_words"][0]["confidence"] == 0.0


def test_the_table_and_the_diagram(capsys):
    found = fit(utterances(0.4), PLAIN, step=7, samples=50, seed=0)
    rich.print(make_confidence_table(found.rows, "of [a] run"))
    printed = capsys.readouterr().out
    for row in found.rows:
        assert f"{100 * row['ece']:.1f}" in printed and f"{row['auc']:.3f}" in printed
    assert "of [a] run, decoder greedy" in printed and f"{found.temperatures[0].temperature:.2f}" in printed
    figure = reliability_figure(found.bins)
    [axes] = figure.axes
    curves = {line.get_label(): line.get_xydata() for line in axes.lines}
    words = found.bins["dev, held out", "streaming", "greedy", "after"]
    order = np.argsort(words.confidences)
    for (x, y), own in zip(curves[next(k for k in curves if k.startswith("calibrated"))], np.array_split(order, 15)):
        assert (x, y) == pytest.approx((100 * words.confidences[own].mean(), 100 * words.correct[own].mean()))
    assert len(reliability_figure({}).axes) == 1


def test_words_are_those_of_the_normalised_text():
    spans = (Span("It’s", 0.1, 0.2, 0.9, 0), Span("-", 0.2, 0.3, 0.1, 1), Span("20", 0.3, 0.4, 0.8, 2))
    heard = Heard("It’s - 20", spans, (("It’s - 20", -1.0), ("it's 20", -2.0), ("", -3.0)))
    text, details = heard.normalised(normalizer("english"))
    words = [(word["word"], word["start"], word["confidence"]) for word in details["hypothesis_words"]]
    assert text == "it's twenty" and words == [("it's", 0.1, 0.9), ("twenty", 0.3, 0.8)]
    assert details["nbest"] == [{"text": "it's twenty", "score": -1.0}, {"text": "", "score": -3.0}]
    # Digits that belong together are other words apart: none of their own.
    odd = Heard("1,9 84", (Span("1,9", 0, 1, 0.5, 0), Span("84", 1, 2, 0.5, 1)), ())
    text, details = odd.normalised(lambda text: text.replace(" ", ""))
    assert text == "1,984" and details["hypothesis_words"] == []


def test_words_of_a_script_without_spaces_are_characters():
    said = "\u4eca\u5929 \u597d\u3002"
    spans = tuple(Span(text, k, k + 1, 0.9, k, joined) for k, (text, joined) in enumerate(tokens_of(said)))
    text, details = Heard(said, spans, ()).normalised(normalizer("basic"))
    [one] = score(["u"], ["\u6628\u5929 \u597d"], [text], [2.5], split="dev", head="streaming")
    words = one.with_details(**details).hypothesis_words
    assert [(word["word"], word["correct"]) for word in words] == [
        ("\u4eca", False),
        ("\u5929", True),
        ("\u597d", True),
    ]
    assert one.ops[0].kind == "substitute" and [word["end"] for word in words] == [1, 2, 2.5]


@pytest.fixture
def talkative(trained, tmp_path, monkeypatch) -> Path:
    """A hardly trained run, changed to emit more words: its heads give fewer blanks and more spaces."""

    def load(run, *which):
        model = load_trained(run, *which)
        weights = jax.tree.map(lambda x: x, model.weights)
        space = 2 + model.tokenizer.characters.index(" ")
        for head in ("streaming_head", "full_context_head"):
            bias = weights[head]["linear"]["bias"]
            weights[head]["linear"]["bias"] = bias.at[0].add(-3.0).at[space].add(0.5)
        return dataclasses.replace(model, weights=weights)

    for module in (evaluate, transcripts):
        monkeypatch.setattr(module, "load_trained", load)
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def halved(talkative, spoken, tmp_path, capsys) -> tuple[str, str]:
    """Four utterances to evaluate, and four to calibrate on, in which every second recognised word is correct."""
    read = [json.loads(line) for line in (spoken / "test.jsonl").read_text().splitlines()]
    files = [str(spoken / line["audio_filepath"]) for line in read]
    assert main(["transcribe", str(talkative), *files[4:], "--format", "json"]) == 0
    heard = [json.loads(line)["text"].split() for line in capsys.readouterr().out.splitlines()]
    for line, file, words in zip(read, files, [None] * 4 + heard):
        line["audio_filepath"] = file
        if words:
            line["text"] = " ".join(word if k % 2 else "zebra" for k, word in enumerate(words))
    assert sum(map(len, heard)) > 8
    sources = []
    for name, some in (("t", read[:4]), ("d", read[4:])):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in some))
        sources.append(f"{name}={path}")
    return tuple(sources)


def test_the_clock_of_a_split_leaves_out_data_of_its_name_to_calibrate_on(talkative, halved):
    data, calibrate = (read_sources([one.replace(one[0], "same", 1)]) for one in halved)
    [found] = evaluate.evaluate_checkpoints(talkative, ["best"], data, calibrate=calibrate)
    seconds = sum(one.seconds for one in found.utterances if one.head == "streaming")
    assert found.clocks["same"].audio == pytest.approx(seconds)


def test_evaluate_calibrates_and_transcribe_uses_it(talkative, halved, spoken, tmp_path, capsys):
    run, lines, table = talkative, tmp_path / "lines.jsonl", tmp_path / "table.json"
    arguments = [
        "evaluate",
        str(run),
        "--data",
        f"t={spoken / 'test.jsonl'}",
        "--json",
        str(table),
        "--jsonl",
        str(lines),
    ]
    assert main(arguments) == 0
    plain, rows = [json.loads(line) for line in lines.read_text().splitlines()], json.loads(table.read_text())
    assert not any({"hypothesis_words", "nbest"} & set(one) for one in plain)
    capsys.readouterr()
    assert main([*arguments, "--calibrate", halved[1], "--nbest", "3"]) == 0
    printed, told = capsys.readouterr()
    assert "confidences of words: " in printed and "held" in printed
    detailed = [json.loads(line) for line in lines.read_text().splitlines()]
    wers = [[row["wer"] for row in some] for some in (rows, json.loads(table.read_text()))]
    assert wers[0] == wers[1], "the hypotheses are the same"
    [found] = read_temperatures(RunDirectory(run)).values()
    assert (found.head, found.decoder, found.fitted_on) == ("full_context", "greedy", "half of d")
    assert "d: no temperature for streaming, greedy: none of" in told, "that head says other words"
    for one, before in zip(detailed, plain):
        words, nbest = one.pop("hypothesis_words"), one.pop("nbest")
        assert one == before
        assert [word["word"] for word in words] == one["hypothesis"].split()
        correct = [kind == "equal" for kind, _, said in one["ops"] if said is not None]
        assert [word["correct"] for word in words] == correct
        assert [best["text"] for best in nbest] == [one["hypothesis"]]
        assert all(0 <= word["start"] < word["end"] < one["seconds"] + 1e-3 for word in words)
        again = ScoredUtterance.from_record(one | {"hypothesis_words": words, "nbest": nbest})
        assert again.record() == one | {"hypothesis_words": words, "nbest": nbest}
    [stored] = (run / "evaluations").glob("*.confidence.json")
    found = json.loads(stored.read_text())
    assert [(row["split"], row["head"], row["calibrated"]) for row in found] == [
        ("d, held out", "full_context", False),
        ("d, held out", "full_context", True),
        ("t", "streaming", False),
        ("t", "full_context", False),
        ("t", "full_context", True),
    ]
    with Image.open(stored.with_name(stored.name.replace(".confidence.json", ".reliability.png"))) as image:
        assert image.size[0] > 300

    # What `transcribe` says of a file is what the evaluation wrote of the utterance.
    file = sorted(spoken.glob("*.wav"))[0]
    assert main(["transcribe", str(run), str(file), "--format", "json"]) == 0
    out, told = capsys.readouterr()
    heard = json.loads(out)
    [own] = [
        json.loads(line)
        for line in lines.read_text().splitlines()
        if json.loads(line)["id"] == file.stem and json.loads(line)["head"] == "full_context"
    ]
    assert heard["words"] and f"temperature {heard['temperature']:.3g} of full_context, greedy" in told
    for word, other in zip(heard["words"], own["hypothesis_words"], strict=True):
        assert word["confidence"] == pytest.approx(other["confidence"], abs=1e-3)
        assert (word["start"], word["end"]) == pytest.approx((other["start"], other["end"]), abs=2e-3)

    # The same data cannot be both fitted on and reported.
    assert main(["evaluate", str(run), "--data", halved[0], "--calibrate", halved[0].replace("t=", "d=", 1)]) == 2
    error = capsys.readouterr().err
    assert "--calibrate d: 4 of its utterances are also in t" in error and error.count("\n") == 1
