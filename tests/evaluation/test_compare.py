"""`joint-st compare` of two runs with known hypotheses: its results, and where it finds the hypotheses."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
from collections import Counter

import numpy as np
import pytest
import soundfile
from rich.console import Console

from joint_st.cli import main
from joint_st.config import ManifestSource, load, override, save
from joint_st.data.normalizers import normalizer
from joint_st.decoding.decoders import Greedy
from joint_st.errors import UserError
from joint_st.evaluation import compare
from joint_st.evaluation.bootstrap import paired_difference
from joint_st.evaluation.compare import make_comparison_table
from joint_st.evaluation.evaluate import evaluate_run
from joint_st.evaluation.origin import SUFFIX
from joint_st.evaluation.report import score, write_utterances
from joint_st.evaluation.stored import origin_of, stored_utterances
from joint_st.runs.directory import RunDirectory

HEADS = ("streaming", "full_context")


@pytest.fixture
def runs(trained, tmp_path, monkeypatch):
    """Two copies of a run whose test split no longer exists, so that neither can be evaluated."""
    monkeypatch.setattr(compare, "evaluate_checkpoints", lambda *arguments: pytest.fail("evaluated"))
    copies = [shutil.copytree(trained, tmp_path / name) for name in ("a", "b")]
    for copy in copies:
        save(override(load(copy), {"data.test.test": "moved/test.jsonl"}), copy / "config.json")
    return copies


STEP = ["--checkpoint", "24"]


def write(
    run,
    references,
    hypotheses,
    name="step_24_test",
    heard=frozenset({"we"}),
    ids=None,
    step=24,
    speakers=None,
    **changes,
):
    """Write an evaluation of split `test` at step 24 with equal hypotheses of both heads. changes: changes of its
    origin."""
    config = load(run)
    utterances = []
    for head in HEADS:
        utterances += score(
            ids or [f"u{i}" for i in range(len(references))],
            references,
            hypotheses,
            [1.0] * len(references),
            split="test",
            head=head,
            subset_of=lambda word: "heard" if word in heard else "text_only",
            samples=["0123456789abcdef"] * len(references),
        )
    spoken_by = (speakers or [""] * len(references)) * len(HEADS)
    utterances = [dataclasses.replace(one, speaker=name) for one, name in zip(utterances, spoken_by, strict=True)]
    file = run / "evaluations" / f"{name}.jsonl"
    write_utterances(utterances, file)
    origin = origin_of(
        RunDirectory(run), step, str(normalizer("english")), config.data.test, [Greedy()], config.window_seconds
    )
    file.with_suffix(SUFFIX).write_text(dataclasses.replace(origin, **changes).content(file.read_text()))


def texts(seed=0, utterances=60):
    """References, and the hypotheses of a good and of a bad system."""
    rng = np.random.default_rng(seed)
    references = [" ".join(rng.choice(["we", "anna"], rng.integers(2, 8))) for _ in range(utterances)]

    def heard(rate):
        return [" ".join(word if rng.random() > rate else "x" for word in text.split()) for text in references]

    return references, heard(0.1), heard(0.3)


def test_the_rows_are_those_of_the_paired_bootstrap(runs, tmp_path, capsys):
    references, good, bad = texts()
    # In another order, as of a source whose lines were sorted.
    order = np.random.default_rng(1).permutation(len(references))
    write(runs[0], references, good)
    write(runs[1], *[[x[i] for i in order] for x in (references, bad)], ids=[f"u{i}" for i in order])
    table = tmp_path / "table.json"
    assert main(["compare", *map(str, runs), *STEP, "--json", str(table)]) == 0
    rows = json.loads(table.read_text())
    assert [(row["head"], row["subset"]) for row in rows] == [
        (head, subset) for head in HEADS for subset in ("all", "heard", "text_only")
    ]
    for row in rows:
        counted = {"all": {"we", "anna"}, "heard": {"we"}, "text_only": {"anna"}}[row["subset"]]
        pairs = [text.split() for text in references]
        words, errors_a, errors_b = [], [], []
        for text, a, b in zip(pairs, *[[said.split() for said in texts] for texts in (good, bad)]):
            own = [k for k, word in enumerate(text) if word in counted]
            words.append(len(own))
            errors_a.append(sum(a[k] == "x" for k in own))
            errors_b.append(sum(b[k] == "x" for k in own))
        assert (row["wer_a"], row["wer_b"]) == (sum(errors_a) / sum(words), sum(errors_b) / sum(words))
        expected = paired_difference(errors_a, errors_b, words, samples=10_000)
        assert row["difference"] == pytest.approx(expected.difference)
        assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high), abs=0.01)
        assert row["p_value"] == pytest.approx(expected.p_value, abs=0.01)
        assert (row["verdict"], row["metric"]) == ("a_lower", "wer")
        assert (row["words"], row["utterances"]) == (sum(words), sum(map(bool, words)))
        assert (row["run_a"], row["step_b"], row["decoder"]) == (str(runs[0]), 24, "greedy")
    assert "a_lower" not in (printed := capsys.readouterr().out) and "A - B" in printed


def test_speakers_can_be_drawn(runs, tmp_path, capsys):
    references, good, bad = texts(utterances=120)
    speakers = [f"s{n % 40}" for n in range(120)]
    for run, said in zip(runs, (good, bad)):
        write(run, references, said, speakers=speakers)
    table = tmp_path / "table.json"
    assert main(["compare", *map(str, runs), *STEP, "--draw", "speakers", "--json", str(table)]) == 0
    row = json.loads(table.read_text())[0]
    counts = np.zeros((3, 40), int)  # errors of both, and words
    for n, (text, a, b) in enumerate(zip(references, good, bad)):
        counts[:, n % 40] += a.split().count("x"), b.split().count("x"), len(text.split())
    # In the order of the names of speakers.
    expected = paired_difference(*counts[:, sorted(range(40), key=lambda n: f"s{n}")], samples=10_000)
    assert (row["low"], row["high"], row["p_value"]) == (expected.low, expected.high, expected.p_value)
    assert (row["speakers"], row["utterances"], row["verdict"]) == (40, 120, "a_lower")
    assert "95 %: of speakers, drawn with all their utterances" in capsys.readouterr().out


def test_speakers_that_are_not_stated_cannot_be_drawn(runs, capsys):
    references, good, bad = texts()
    for run, said in zip(runs, (good, bad)):
        write(run, references, said, speakers=["anna"] * 58 + [""] * 2)
    assert main(["compare", *map(str, runs), *STEP, "--draw", "speakers"]) == 2
    *told, line = capsys.readouterr().err.splitlines()
    gone = "step 24: what is stored is used, and not compared with its data: moved/test.jsonl: "
    assert [said.startswith(f"{run}, {gone}") for run, said in zip(runs, told, strict=True)] == [True, True]
    assert "test: no speakers to draw: its source does not state that of 2 of 60 utterances" in line


def test_texts_without_spaces_are_compared_by_their_characters(runs, tmp_path, capsys):
    references = ["\u4eca\u5929\u5929\u6c14\u5f88\u597d", "\u6211\u4eec\u53bb\u516c\u56ed"] * 20
    good, bad = ([text[:-wrong] + "\u9519" * wrong for text in references] for wrong in (1, 3))
    write(runs[0], references, good)
    write(runs[1], references, bad)
    table = tmp_path / "table.json"
    assert main(["compare", *map(str, runs), *STEP, "--json", str(table)]) == 0
    for row in json.loads(table.read_text()):
        assert (row["metric"], row["wer_a"], row["wer_b"]) == ("cer", 1, 1)
        assert (row["cer_a"], row["cer_b"]) == pytest.approx((2 / 11, 6 / 11))
        assert row["difference"] == pytest.approx(-4 / 11) and row["verdict"] == "a_lower"
    said = " ".join(capsys.readouterr().out.split())
    assert "decoder greedy, rate CER split head A % B %" in said and "full_context 18.2 54.5 -36.4" in said


def test_splits_of_which_rates_differ_name_the_rate_of_each_row(runs):
    row = {
        "head": "streaming",
        "decoder": "greedy",
        "subset": "all",
        "utterances": 30,
        "words": 90,
        "wer_a": 0.1,
        "wer_b": 0.2,
    }
    row |= {"cer_a": 0.3, "cer_b": 0.4, "difference": -0.1, "low": -0.2, "high": 0.0, "p_value": 0.5}
    rows = [row | {"split": name, "metric": name, "verdict": "undecided"} for name in ("wer", "cer")]
    console = Console(width=100, file=io.StringIO())
    console.print(make_comparison_table(rows, "a", "b"))
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert ["wer", "streaming", "WER", "10.0", "20.0"] in [line[:5] for line in lines]
    assert ["cer", "streaming", "CER", "30.0", "40.0"] in [line[:5] for line in lines]


def test_references_without_words_have_no_rate_to_compare(runs, tmp_path, capsys):
    for run, heard in zip(runs, ("we", "")):
        write(run, ["", ""], [heard, ""])
    table = tmp_path / "table.json"
    assert main(["compare", *map(str, runs), *STEP, "--json", str(table)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("joint-st: error: test: its references have no words under english v2; there is no rate")
    assert not table.exists()


def test_verdicts_go_both_ways_or_neither(runs, tmp_path):
    references, good, bad = texts(2)
    table = tmp_path / "table.json"
    for first, second, verdict in ((bad, good, "b_lower"), (good, good, "undecided")):
        write(runs[0], references, first)
        write(runs[1], references, second)
        assert main(["compare", *map(str, runs), *STEP, "--json", str(table)]) == 0
        assert {row["verdict"] for row in json.loads(table.read_text())} == {verdict}
    assert {row["p_value"] for row in json.loads(table.read_text())} == {1.0}


def test_other_utterances_are_told_in_one_line(runs):
    references, good, bad = texts(3)
    sides = []
    for run, count, changed in zip(runs, (60, 58), ("we", "anna anna anna")):
        write(run, [changed, *references[1:count]], good[:count])
        sides.append(compare.Side(run, "24"))
    keys = [("test", head, "greedy") for head in HEADS]
    for side in sides:
        side.fill(keys, {}, [Greedy()])
    with pytest.raises(UserError) as caught:
        compare.paired(keys[0], *sides)
    assert str(caught.value) == (
        f"test: not the same utterances: 2 only in {runs[0]} (as u58); "
        "evaluate both on the same with --data NAME=SOURCE"
    )
    sides[0].utterances[keys[0]] = [one for one in sides[0].utterances[keys[0]] if one.id not in ("u58", "u59")]
    with pytest.raises(UserError, match="test: 1 of 58 references differ: of u0, .*'we', .*'anna anna anna'"):
        compare.paired(keys[0], *sides)


def test_subsets_of_other_vocabularies_are_left_out(runs, tmp_path, capsys):
    references, good, bad = texts(4)
    write(runs[0], references, good)
    write(runs[1], references, bad, heard={"we", "anna"})
    table = tmp_path / "table.json"
    assert main(["compare", *map(str, runs), *STEP, "--json", str(table)]) == 0
    assert [row["subset"] for row in json.loads(table.read_text())] == ["all", "all"]
    assert "test: heard: left out, because the runs' vocabularies differ in these words" in capsys.readouterr().err


def test_the_newest_evaluation_of_the_checkpoint_counts(runs):
    references, good, bad = texts(5)
    (run, _) = runs
    write(run, references, bad, "step_24_test_other")
    write(run, references, bad, "step_20_test", step=20)
    keys, config = [("test", "streaming", "greedy")], load(run)

    def stored(step, keys, **options):
        made_from = str(normalizer("english")), config.data.test, [Greedy()], config.window_seconds
        return stored_utterances(
            RunDirectory(run), step, keys, origin_of(RunDirectory(run), step, *made_from), **options
        )

    assert stored(21, keys) == ({}, "no evaluation is stored")
    write(run, references, good)
    os.utime(run / "evaluations" / "step_24_test_other.jsonl", (0, 0))
    found, why = stored(24, [*keys, ("dev", "streaming", "greedy")])
    assert [one.hypothesis for one in found[keys[0]]] == good and list(found) == keys and why
    assert stored(24, keys)[1] == ""
    # One of anything else, or damaged, or of an earlier version, does not count: the next one does.
    other = {"kind": "manifest", "path": "noisy/test.jsonl"}
    for changes, told in (
        ({"checkpoint": "x"}, "other weights of the same step"),
        ({"normalizer": "english v0"}, "the normaliser english v0"),
        ({"decoders": {"greedy": "greedy, of another kind"}}, "another decoder named greedy"),
        ({"window_seconds": 3.0}, "windows of another length"),
        ({"sources": {"test": other}}, "another source named test"),
    ):
        write(run, references, good, **changes)
        found, why = stored(24, keys)
        assert [one.hypothesis for one in found[keys[0]]] == bad and why == ""
        assert stored(24, [*keys, ("dev", "streaming", "greedy")])[1]
        (run / "evaluations" / "step_24_test_other.jsonl").rename(run / "other")
        assert stored(24, keys) == ({}, f"what is stored was made with {told}")
        (run / "other").rename(run / "evaluations" / "step_24_test_other.jsonl")
    assert not stored(24, keys, sources=False)[1]
    write(run, references, good)
    file = run / "evaluations" / "step_24_test.jsonl"
    file.write_text(file.read_text().replace("anna", "anno", 1))
    assert [one.hypothesis for one in stored(24, keys)[0][keys[0]]] == bad


def test_what_is_not_stored_is_evaluated_and_then_is(trained, spoken, tmp_path, capsys):
    run = shutil.copytree(trained, tmp_path / "run")
    arguments = ["compare", str(run), str(run), "--checkpoint", "24", "20", "--data", f"t={spoken / 'test.jsonl'}"]
    table = tmp_path / "table.json"
    assert main([*arguments, "--json", str(table)]) == 0
    assert capsys.readouterr().err.count("evaluated") == 2
    rows = json.loads(table.read_text())
    assert Counter((row["step_a"], row["step_b"]) for row in rows) == {(24, 20): 6}
    assert main([*arguments, "--json", str(table)]) == 0
    assert "evaluated" not in capsys.readouterr().err
    assert json.loads(table.read_text()) == rows
    data = {"t": ManifestSource(path=str(spoken / "test.jsonl"))}
    # Other recordings under the same ids, with the same texts: both are evaluated again.
    shutil.copytree(spoken, tmp_path / "noisy")
    for file in (tmp_path / "noisy").glob("*.wav"):
        audio, rate = soundfile.read(file, dtype="int16")
        soundfile.write(file, audio // 2, rate)
    noisy = [*arguments[:-1], f"t={tmp_path / 'noisy' / 'test.jsonl'}"]
    assert main([*noisy, "--json", str(table)]) == 0
    err = capsys.readouterr().err
    assert (
        err.count(
            "evaluated, since what is stored was made with other utterances, texts or audio than --data t=... has"
        )
        == 2
    )
    assert main([*noisy, "--json", str(table)]) == 0
    assert "evaluated" not in capsys.readouterr().err
    assert main([*arguments, "--json", str(table)]) == 0
    assert json.loads(table.read_text()) == rows
    # What is stored of one head and has the right utterances says nothing of the other head.
    heard = {"t": ManifestSource(path=str(tmp_path / "noisy" / "test.jsonl"))}
    evaluate_run(run, checkpoint="24", data=heard, passes=("streaming",))
    capsys.readouterr()
    assert main([*noisy, "--json", str(table)]) == 0
    assert capsys.readouterr().err.count("evaluated, since what is stored was made with other") == 2
    assert main([*arguments, "--json", str(table)]) == 0
    wers = {(row["head"], row["subset"]): row["wer"] for row in evaluate_run(run, checkpoint="20", data=data)}
    assert {(row["head"], row["subset"]): row["wer_b"] for row in rows} == wers


def test_stored_results_of_a_test_split_that_was_corrected_are_not_used(trained, spoken, tmp_path, capsys, monkeypatch):
    run, folder = shutil.copytree(trained, tmp_path / "run"), shutil.copytree(spoken, tmp_path / "spoken")
    manifest = folder / "test.jsonl"
    save(override(load(run), {"data.test": {"test": {"kind": "manifest", "path": str(manifest)}}}), run / "config.json")
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    write(run, [line["text"] for line in lines], ["we"] * len(lines), ids=[line["id"] for line in lines])
    asked = []

    def evaluate(self, sources, decoders, why):
        asked.append(why)
        self.utterances = {key: [] for key in keys}

    monkeypatch.setattr(compare.Side, "evaluate", evaluate)
    keys = [("test", head, "greedy") for head in HEADS]

    def filled() -> list[str]:
        asked.clear()
        compare.Side(run, "24").fill(keys, {}, [Greedy()])
        return list(asked)

    assert not filled()
    # What is stored lacks an utterance that cannot be read, and rightly.
    (folder / "broken.wav").write_bytes(b"RIFF no audio")
    added = {"audio_filepath": "broken.wav", "duration": 1.0, "text": "we"}
    manifest.write_text("".join(json.dumps(line) + "\n" for line in [*lines, added]))
    assert not filled()
    for change in (
        lambda: lines[0].update(text="anna anna"),
        lambda: lines.append(lines[1] | {"id": "another"}),
    ):
        change()
        manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert filled() == ["what is stored was made with other utterances or texts than test has now"]
        lines[0]["text"] = json.loads((spoken / "test.jsonl").read_text().splitlines()[0])["text"]


def test_mistakes_are_told_in_one_line(trained, tmp_path, capsys):
    assert main(["compare", str(trained), str(trained)]) == 2
    assert "no test split in common; give --data NAME=SOURCE" in capsys.readouterr().err
    assert main(["compare", str(trained), str(tmp_path / "none")]) == 2
    assert "no such directory" in capsys.readouterr().err
    assert main(["compare", str(trained), str(trained), "--checkpoint", "1", "2", "3"]) == 2
    assert "give one for both runs, or one for each" in capsys.readouterr().err
