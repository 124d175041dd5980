"""`joint-st evaluate` of a small trained run: what it writes and prints, recomputed from its hypotheses."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections import defaultdict

import jiwer
import pytest

from joint_st import storage
from joint_st.cli import main
from joint_st.config import TfdsSource, load
from joint_st.data.normalizers import normalizer
from joint_st.evaluation.evaluate import evaluate_run
from joint_st.runs.directory import RunDirectory
from joint_st.training.asr import train_asr
from tests.tiny import tiny_config, untimed

KEYS = {
    "split",
    "subset",
    "head",
    "decoder",
    "wer",
    "wer_low",
    "wer_high",
    "cer",
    "cer_low",
    "cer_high",
    "insertions",
    "deletions",
    "substitutions",
    "utterances",
    "words",
    "real_time_factor",
    "normalizer",
    "step",
}


def read_lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def evaluated(trained, corpora, tmp_path_factory):
    """(the run's directory, the rows, the utterances) of an evaluation on two splits of the corpus."""
    run = shutil.copytree(trained, tmp_path_factory.mktemp("evaluated") / "run")
    sources = {
        name: TfdsSource(name="spoken_grammar/tiny", split=split, data_dir=str(corpora))
        for name, split in {"test": "test", "v1.0/seen": "train[:12]"}.items()
    }
    table, lines = run.with_name("out") / "table.json", run.with_name("out") / "utterances.jsonl"
    rows = evaluate_run(run, data=sources, checkpoint="latest", json_file=table, jsonl_file=lines)
    assert json.loads(table.read_text()) == rows
    return run, rows, read_lines(lines)


def test_every_split_head_and_subset_has_a_row(evaluated):
    run, rows, utterances = evaluated
    assert all(row.keys() == KEYS for row in rows)
    found = [(row["split"], row["head"], row["subset"]) for row in rows]
    assert found == [
        (split, head, subset)
        for split in ("test", "v1.0/seen")
        for head in ("streaming", "full_context")
        for subset in ("all", "heard", "text_only")
        # Every word of the training split was heard.
        if (split, subset) != ("v1.0/seen", "text_only")
    ]
    common = {(row["decoder"], row["normalizer"], row["step"]) for row in rows}
    assert common == {("greedy", "english v2", 24)}
    assert len(utterances) == 2 * (8 + 12)
    for split, head in {(row["split"], row["head"]) for row in rows}:
        (factor,) = {row["real_time_factor"] for row in rows if (row["split"], row["head"]) == (split, head)}
        assert 0 < factor < 10


def test_rates_are_those_of_jiwer_on_the_utterances_written(evaluated):
    _, rows, utterances = evaluated
    groups = defaultdict(list)
    for utterance in utterances:
        groups[utterance["split"], utterance["head"]].append(utterance)
    for row in (row for row in rows if row["subset"] == "all"):
        group = groups[row["split"], row["head"]]
        said = [u["hypothesis"] for u in group]
        words = jiwer.process_words([u["reference"] for u in group], said)
        characters = jiwer.process_characters([u["reference"] for u in group], said)
        assert row["wer"] == pytest.approx(words.wer)
        assert row["cer"] == pytest.approx(characters.cer)
        assert row["words"] == words.hits + words.substitutions + words.deletions
        assert row["utterances"] == len(group)
        errors = [row[name] for name in ("insertions", "deletions", "substitutions")]
        assert errors == [words.insertions, words.deletions, words.substitutions]
        assert errors == [sum(u[n] for u in group) for n in ("insertions", "deletions", "substitutions")]
        assert row["wer_low"] <= row["wer"] <= row["wer_high"]
    assert any(any(u["hypothesis"].split()) for u in utterances), "an empty hypothesis shows little"


def test_subsets_are_of_the_words_heard_and_only_read(evaluated, corpora):
    run, rows, utterances = evaluated
    texts = {u["id"]: u["reference"].split() for u in utterances if u["split"] == "test"}
    vocabulary = json.loads((run / "vocabulary.json").read_text())
    sizes = {}
    for subset, key in (("heard", "heard"), ("text_only", "read")):
        own = [sum(word in vocabulary[key] for word in words) for words in texts.values()]
        sizes[subset] = sum(own), sum(map(bool, own))
        for row in rows:
            if (row["split"], row["subset"]) == ("test", subset):
                assert (row["words"], row["utterances"]) == sizes[subset]
    assert all(words for words, _ in sizes.values())
    for head in ("streaming", "full_context"):
        of = {r["subset"]: r for r in rows if (r["split"], r["head"]) == ("test", head)}
        neither = of["all"]["words"] - of["heard"]["words"] - of["text_only"]["words"]
        for name in ("deletions", "substitutions"):
            known = of["heard"][name] + of["text_only"][name]
            assert of["all"][name] - neither <= known <= of["all"][name]


def test_the_run_keeps_its_evaluations_by_step_and_splits(evaluated):
    run, rows, utterances = evaluated
    own = run / "evaluations" / "step_24_test_v1.0_seen.json"
    assert json.loads(own.read_text()) == rows
    assert read_lines(own.with_suffix(".jsonl")) == utterances


def test_the_best_checkpoint_is_evaluated_unless_another_is_named(evaluated, spoken, tmp_path):
    run, rows, utterances = evaluated
    best = min(
        (json.loads((entry / "metrics" / "metrics").read_text())["wer"], int(entry.name))
        for entry in (run / "checkpoints").iterdir()
        if (entry / "metrics" / "metrics").is_file()
    )[1]
    file = tmp_path / "table.json"
    assert main(["evaluate", str(run), "--data", f"mine={spoken / 'test.jsonl'}", "--json", str(file)]) == 0
    assert {row["step"] for row in json.loads(file.read_text())} == {best}


def test_a_manifest_gives_what_the_corpus_gives(evaluated, spoken, tmp_path, capsys):
    run, rows, utterances = evaluated
    table, lines = tmp_path / "table.json", tmp_path / "lines.jsonl"
    arguments = ["--data", f"test={spoken / 'test.jsonl'}", "--checkpoint", "24"]
    assert main(["evaluate", str(run), *arguments, "--json", str(table), "--jsonl", str(lines)]) == 0
    # The order is that of the source, and so is the random choice behind the intervals.
    assert untimed(json.loads(table.read_text())) == untimed(row for row in rows if row["split"] == "test")
    # The manifest does not state who speaks what.
    stated = {"speaker", "language"}
    assert all(stated <= u.keys() for u in utterances)
    without = [{key: value for key, value in u.items() if key not in stated} for u in utterances]
    assert read_lines(lines) == [u for u in without if u["split"] == "test"]
    printed = capsys.readouterr().out
    assert "decoder greedy, normalizer english v2, step 24" in printed
    assert "text_only" in printed and "WER %" in printed


def test_each_decoder_has_its_rows_and_a_file_of_its_own(evaluated, spoken, tmp_path, capsys):
    run, rows, utterances = evaluated
    table, before = tmp_path / "table.json", (run / "evaluations" / "step_24_test_v1.0_seen.json").read_bytes()
    arguments = ["--data", f"test={spoken / 'test.jsonl'}", "--checkpoint", "24", "--json", str(table)]
    assert main(["evaluate", str(run), *arguments, "--decoder", "greedy", "beam", "--beam", "3"]) == 0
    found = json.loads(table.read_text())
    heads = {(row["decoder"], row["head"]) for row in found}
    assert heads == {(name, head) for name in ("greedy", "beam 3") for head in ("streaming", "full_context")}
    same = untimed(row for row in found if row["decoder"] == "greedy")
    assert same == untimed(row for row in rows if row["split"] == "test")
    own = run / "evaluations" / "step_24_test_greedy_beam_3.json"
    assert json.loads(own.read_text()) == found
    lines = read_lines(own.with_suffix(".jsonl"))
    greedy = {(u["id"], u["head"]): u["hypothesis"] for u in utterances if u["split"] == "test"}
    found = {(u["id"], u["head"]): u["hypothesis"] for u in lines if u["decoder"] == "greedy"}
    assert found == greedy
    said = {name: [line["hypothesis"] for line in lines if line["decoder"] == name] for name in ("greedy", "beam 3")}
    assert len(said["beam 3"]) == len(said["greedy"]) and any(said["beam 3"])
    assert (run / "evaluations" / "step_24_test_v1.0_seen.json").read_bytes() == before
    assert re.search(r"head +decoder +WER %", capsys.readouterr().out)


def test_runs_checkpoints_heads_and_breakdowns_in_one_call(evaluated, spoken, tmp_path, capsys):
    run, rows, utterances = evaluated
    other = shutil.copytree(run, tmp_path / "other")
    table, lines = tmp_path / "table.json", tmp_path / "lines.jsonl"
    some = tmp_path / "some.jsonl"
    stated = [{"speaker": "eva", "snr": 3}, {"speaker": "bob"}]
    rows_read = read_lines(spoken / "test.jsonl")
    for i, line in enumerate(rows_read):
        line |= {"audio_filepath": str(spoken / line["audio_filepath"])} | stated[i % 2]
    some.write_text("".join(json.dumps(line) + "\n" for line in rows_read))
    arguments = ["--data", f"test={some}", "--checkpoint", "20", "latest", "24", "--head", "full_context"]
    files = ["--json", str(table), "--jsonl", str(lines)]
    by = ["--by", "speaker", "language", "duration", "noise", "--errors"]
    assert main(["evaluate", str(run), str(other), *arguments, *files, *by]) == 0
    found = json.loads(table.read_text())
    assert [(row["run"], row["step"], row["subset"]) for row in found] == [
        (str(root), step, subset)
        for root in (run, other)
        for step in (20, 24)
        for subset in ("all", "heard", "text_only")
    ]
    alone = [row for row in rows if (row["split"], row["head"]) == ("test", "full_context")]
    assert untimed(found[3:6]) == untimed({"run": str(run), **row} for row in alone)
    own = other / "evaluations" / "step_20_test_full_context.json"
    assert [{"run": str(other), **row} for row in json.loads(own.read_text())] == found[6:9]
    assert len(read_lines(lines)) == 4 * 8 and list(read_lines(lines)[0])[:2] == ["run", "step"]

    broken_down = json.loads(own.with_suffix(".breakdowns.json").read_text())
    groups = {
        name: [(row["group"], row["utterances"]) for row in group if row["subset"] == "all"]
        for name, group in broken_down.items()
    }
    assert groups["speaker"] == [("bob", 4), ("eva", 4)] and groups["language"] == []
    assert groups["noise"] == [("0 to 5 dB", 4), ("not stated", 4)]
    assert [count for _, count in groups["duration"]] == [2] * 4
    errors = json.loads(own.with_suffix(".errors.json").read_text())
    substituted = sum(row["count"] for row in errors["confusions"])
    assert substituted == json.loads(own.read_text())[0]["substitutions"]
    output = capsys.readouterr()
    printed = output.out
    assert re.search(r"run +split +head +step +WER %", printed)
    assert "by speaker" in printed and "most-missed words: test, full_context, greedy" in printed
    assert "test: no table by language: its source does not state it" in output.err
    assert "test: noise is not stated for 4 of 8 utterances (`noise` or `snr`)" in output.err

    # Another table in its place has no breakdowns, and those of the one before would be of other results.
    assert main(["evaluate", str(other), *arguments[:4], *arguments[6:]]) == 0
    assert not own.with_suffix(".breakdowns.json").exists() and own.exists()


def test_long_recordings_are_heard_in_windows(evaluated, spoken, tmp_path, capsys):
    """With windows of 3 s, short utterances have the same text as before, and long ones that of `transcribe`."""
    run, rows, utterances = evaluated
    lines = tmp_path / "lines.jsonl"
    arguments = ["--data", f"test={spoken / 'test.jsonl'}", "--checkpoint", "24", "--jsonl", str(lines)]
    assert main(["evaluate", str(run), *arguments, "--window-seconds", "3"]) == 0
    capsys.readouterr()
    whole = {(u["id"], u["head"]): u["hypothesis"] for u in utterances if u["split"] == "test"}
    found = {(u["id"], u["head"]): u for u in read_lines(lines)}
    assert found.keys() == whole.keys()
    long = {u["id"] for u in found.values() if u["seconds"] > 3}
    assert 0 < len(long) < 8
    assert all(found[key]["hypothesis"] == said for key, said in whole.items() if key[0] not in long)
    for head in ("streaming", "full_context"):
        files = [str(spoken / f"{identifier}.wav") for identifier in long]
        windows = ["--head", head, "--checkpoint", "24", "--window-seconds", "3"]
        assert main(["transcribe", str(run), *files, files[0], *windows]) == 0
        texts = [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()]
        for identifier, text in zip(long, texts):
            assert normalizer("english")(text) == found[identifier, head]["hypothesis"]


def test_unreadable_files_are_counted_and_not_scored(evaluated, spoken, tmp_path, capsys):
    run, _, _ = evaluated
    lines = read_lines(spoken / "test.jsonl")[:4]
    for line in lines:
        shutil.copy(spoken / line["audio_filepath"], tmp_path)
    (tmp_path / lines[0]["audio_filepath"]).write_bytes(b"not audio")
    (tmp_path / lines[1]["audio_filepath"]).unlink()
    manifest, table = tmp_path / "m.jsonl", tmp_path / "table.json"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["evaluate", str(run), "--data", f"some={manifest}", "--json", str(table)]) == 0
    assert "some: not scored: 2 unreadable" in capsys.readouterr().err.replace("\n", " ")
    assert {row["utterances"] for row in json.loads(table.read_text()) if row["subset"] == "all"} == {2}


def test_what_is_not_as_long_as_stated_is_not_scored_and_nothing_scored_is_an_error(
    evaluated, spoken, tmp_path, capsys
):
    run, _, _ = evaluated
    lines = read_lines(spoken / "test.jsonl")[:4]
    for line in lines:
        line["audio_filepath"] = str(spoken / line["audio_filepath"])
    lines[0]["duration"] = 0.0
    lines[1]["duration"] += 1.0
    good, bad, table = tmp_path / "good.jsonl", tmp_path / "bad.jsonl", tmp_path / "table.json"
    lines[2]["id"] = "u\ud83d"
    good.write_text("".join(json.dumps(line) + "\n" for line in lines))
    bad.write_text("".join(json.dumps(line) + "\n" for line in lines[:2]))
    data = ["--data", f"good={good}", f"bad={bad}", "--jsonl", str(tmp_path / "lines.jsonl")]
    assert main(["evaluate", str(run), *data, "--json", str(table)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.match(
        "joint-st: error: bad: nothing was scored: none of its 2 utterances can be read \\(.* s long", error
    )
    # What could be scored is written all the same.
    rows = [row for row in json.loads(table.read_text()) if row["subset"] == "all"]
    assert {(row["split"], row["utterances"]) for row in rows} == {("good", 2)}
    assert {one["id"] for one in read_lines(tmp_path / "lines.jsonl")} == {"u\\ud83d", lines[3]["id"]}
    table.unlink()
    assert main(["evaluate", str(run), "--data", f"bad={bad}", "--json", str(table)]) == 2
    out, err = capsys.readouterr()
    assert "nothing was scored" in err and out == "" and not table.exists()


def test_results_are_there_before_the_table_is_under_bounded_names_and_on_a_full_disk(
    evaluated, spoken, tmp_path, monkeypatch, capsys
):
    run, _, _ = evaluated
    some = tmp_path / "some.jsonl"
    line = read_lines(spoken / "test.jsonl")[0]
    some.write_text(json.dumps(line | {"audio_filepath": str(spoken / line["audio_filepath"])}) + "\n")
    names = [f"{'long_' * 20}{i}" for i in range(3)]
    write = storage.write_whole

    def full(path, content):
        if path.name.endswith(".errors.json") and path.is_relative_to(run):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, content)

    monkeypatch.setattr(storage, "write_whole", full)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    data = ["--data", *(f"{name}={some}" for name in names), "--checkpoint", "24", "--head", "full_context"]
    before = set((run / "evaluations").iterdir())
    assert main(["evaluate", str(run), *data]) == 2
    output = capsys.readouterr()
    files = {file.name for file in set((run / "evaluations").iterdir()) - before}
    table = RunDirectory(run).evaluation(24, names, heads=["full_context"])
    assert files == {table.name, f"{table.stem}.jsonl", f"{table.stem}.origin.json"} and len(table.name) < 190
    assert len(read_lines(table.with_suffix(".jsonl"))) == 3 and "long_" in output.out
    (line,) = [one for one in output.err.splitlines() if one.startswith("joint-st: error")]
    (elsewhere,) = tmp_path.glob("joint_st_*/*.errors.json")
    assert line.endswith(f"errors.json: could not be written: No space left on device; it was written to {elsewhere}")
    assert json.loads(elsewhere.read_text()).keys() == {"confusions", "missed_words"}
    # A name that was not bounded yet is still found.
    old = table.with_name("_".join(["step_24", *names[:2], "full_context"]) + ".json")
    assert RunDirectory(run).evaluation(24, names[:2], heads=["full_context"]) != old
    old.write_text("[]")
    assert RunDirectory(run).evaluation(24, names[:2], heads=["full_context"]) == old
    old.unlink()

    def interrupted(*_):
        raise KeyboardInterrupt

    table.unlink()
    monkeypatch.setattr("joint_st.evaluation.evaluate.rich.print", interrupted)
    assert main(["evaluate", str(run), *data]) == 130
    assert table.is_file()


def test_nothing_to_evaluate(evaluated, tmp_path, capsys):
    run, _, _ = evaluated
    assert main(["evaluate", str(run)]) == 2
    assert "data.test names no split; give --data NAME=SOURCE" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--data", f"x={tmp_path / 'none.jsonl'}"]) == 2
    assert "none.jsonl: no such file" in capsys.readouterr().err


@pytest.mark.slow
def test_recorded_digits(recorded, tmp_path, capsys):
    """Two steps on recordings, then some of their test split, whose speaker is another."""
    digits = recorded / "spoken_digits"
    lines = read_lines(digits / "test.jsonl")[:60]
    for line in lines:
        line["audio_filepath"] = str(digits / line["audio_filepath"])
    some = tmp_path / "some.jsonl"
    some.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = tiny_config(
        tmp_path,
        {
            "data.train": [{"kind": "manifest", "path": str(digits / "train.jsonl")}],
            "data.dev": [],
            "data.test": {"some": {"kind": "manifest", "path": str(some)}},
            "data.text": [],
            "training.steps": 2,
        },
    )
    train_asr(config, tmp_path / "run")
    assert load(tmp_path / "run") == config
    rows = json.loads((tmp_path / "run" / "evaluations" / "step_2_some.json").read_text())
    everything = [row for row in rows if row["subset"] == "all"]
    assert [(row["utterances"], row["words"]) for row in everything] == [(60, 60)] * 2
    assert re.search(r"train    2[45]\d\d utterances, 0.3\d h; dropped", capsys.readouterr().err)
