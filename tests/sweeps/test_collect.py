"""The table of a sweep, recomputed from the hypotheses of its runs."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import jiwer
import numpy as np
import pytest

from joint_st.config import override
from joint_st.errors import UserError
from joint_st.evaluation.bootstrap import rates_over_seeds, relative_changes
from joint_st.evaluation.report import without_tuned_weights
from joint_st.sweeps import load_sweep
from joint_st.sweeps.collect import read_evaluation
from joint_st.sweeps.run_sweep import print_table
from joint_st.sweeps.runner import train_command
from joint_st.sweeps.status import look, state_in_words
from joint_st.sweeps.table import result_line
from tests.sweeps import fake_training
from tests.sweeps.conftest import write_sweep


def heard(sweep, arm, head) -> list[list[dict]]:
    """Records by seed, in the order of the file."""
    files = [job.directory.evaluations / "step_4_test.jsonl" for job in sweep.jobs if job.run.arm == arm]
    return [[r for r in map(json.loads, file.read_text().splitlines()) if r["head"] == head] for file in files]


def test_rates_are_those_of_all_seeds_together(swept, rows):
    assert list(rows) == ["plain", "better", "best"]
    assert (rows["plain"]["seeds"], rows["plain"]["steps"], rows["best"]["seeds"]) == ([0, 1, 2], [4, 4, 4], [2])
    for arm, row in rows.items():
        assert (row["split"], row["decoder"], row["normalizer"], row["utterances"]) == ("test", "greedy", "none v1", 40)
        for head, prefix in (("full_context", ""), ("streaming", "streaming_")):
            records = sum(heard(swept, arm, head), [])
            references, hypotheses = ([r[key] for r in records] for key in ("reference", "hypothesis"))
            whole = jiwer.process_words(references, hypotheses)
            assert row[f"{prefix}wer"] == pytest.approx(whole.wer)
            assert row[f"{prefix}substitutions"] == whole.substitutions
            # "name" is the first word where it is there, the only one of its subset, and never inserted.
            pairs = [(h.split()[0] != "name") for r, h in zip(references, hypotheses) if r.startswith("name")]
            assert row[f"{prefix}wer_text_only"] == pytest.approx(np.mean(pairs))
            assert row["words_text_only"] * len(row["seeds"]) == len(pairs)
    assert all(row["words"] == row["words_heard"] + row["words_text_only"] for row in rows.values())


def test_intervals_and_changes_are_those_of_the_bootstrap(swept, rows):
    def errors(arm, head, of):
        """[1, S, N]; utterances ordered by id."""
        by_seed = [sorted(records, key=lambda r: r["id"]) for records in heard(swept, arm, head)]
        return np.array([[[of(r) for r in records] for records in by_seed]])

    def all_words(r):
        return r["insertions"] + r["deletions"] + r["substitutions"]

    def text_only(r):
        return names(r) and not r["hypothesis"].startswith("name")

    def names(r):
        return r["reference"].startswith("name")

    for head, prefix in (("full_context", ""), ("streaming", "streaming_")):
        for of, subset, count in ((all_words, "", lambda r: 6), (text_only, "_text_only", names)):
            plain, better, best = (errors(arm, head, of) for arm in rows)
            words = errors("plain", head, count)[:, 0]
            (expected,) = rates_over_seeds(plain, words, samples=200)
            name = f"{prefix}wer{subset}"
            assert [rows["plain"][name + end] for end in ("", "_low", "_high")] == pytest.approx(list(expected))
            key = prefix + (subset.removeprefix("_") or "all")
            for arm, reference, pair in (
                ("better", "plain", (better, plain)),
                ("best", "plain", (best, plain)),
                ("best", "better", (best, better)),
            ):
                (expected,) = relative_changes(*pair, samples=200, paired=arm == "better")
                found = rows[arm]["relative_to"][reference][key]
                assert [found[end] for end in ("change", "low", "high")] == pytest.approx(list(expected))
    assert {arm: list(row["relative_to"]) for arm, row in rows.items()} == {
        "plain": ["better"],
        "better": ["plain"],
        "best": ["plain", "better"],
    }


def test_speakers_can_be_drawn(swept, rows, tmp_path):
    shutil.copytree(swept.directory, tmp_path / "out")
    sweep, numbers = load_sweep(swept.file, tmp_path / "out"), {}
    with pytest.raises(UserError, match="^test: no speakers to draw: .* of 40 of 40 utterances"):
        print_table(sweep, [], None, None, draw="speakers")
    for job in sweep.jobs[:-1]:
        file = job.directory.evaluations / "step_4_test.jsonl"
        records = [json.loads(line) for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps(one | {"speaker": f"s{int(one['id'][1:]) % 8}"}) + "\n" for one in records))
    print_table(sweep, [], tmp_path / "rows.json", None, draw="speakers")
    found = {row["name"]: row for row in json.loads((tmp_path / "rows.json").read_text())}
    for arm in ("plain", "better"):
        numbers[arm] = np.zeros((1, 3, 8), int)
        for seed, records in enumerate(heard(sweep, arm, "full_context")):
            for one in records:
                wrong = one["insertions"] + one["deletions"] + one["substitutions"]
                numbers[arm][0, seed, int(one["speaker"][1:])] += wrong
    (change,) = relative_changes(numbers["better"], numbers["plain"], samples=200)
    shown = found["better"]["relative_to"]["plain"]["all"]
    assert (shown["change"], shown["low"], shown["high"]) == pytest.approx(tuple(change))
    (rate,) = rates_over_seeds(numbers["plain"], np.full((1, 8), 30), samples=200)
    assert (found["plain"]["wer"], found["plain"]["speakers"]) == (pytest.approx(rate.value), 8)
    assert (found["plain"]["wer_low"], found["plain"]["wer_high"]) == pytest.approx((rate.low, rate.high))
    assert found["plain"]["wer"] == rows["plain"]["wer"]


def test_the_tables_show_the_numbers(swept, rows, capsys, tmp_path):
    print_table(swept, [], None, tmp_path / "new" / "table.md")
    out, err = capsys.readouterr()
    assert err == "not finished, so not in the table: never/seed_0\n"
    assert max(map(len, out.splitlines())) <= 80
    text = (tmp_path / "new" / "table.md").read_text()
    row, change = rows["better"], rows["better"]["relative_to"]["plain"]["streaming_text_only"]
    rate = [f"{100 * row[f'wer{end}']:.1f}" for end in ("", "_low", "_high")]
    assert f"{rate[0]} ({rate[1]}-{rate[2]})" in out
    assert f"| `better` | {rate[0]} ({rate[1]}-{rate[2]}) | " in text
    shown = [f"{100 * change[end]:+.1f}" for end in ("change", "low", "high")]
    assert f"{shown[0]} {shown[1]}..{shown[2]}" in out
    assert f"| {shown[0]} ({shown[1]} to {shown[2]}) |" in text
    assert "1 to 3 seeds" in text and "text only" in text and "WER relative to `plain`" in text
    # Every line of a table has as many cells as its header.
    for block in text.split("\n\n"):
        assert len({line.count("|") for line in block.splitlines() if "|" in line}) <= 1


def test_some_arms_are_still_compared_with_the_references(swept, rows, tmp_path):
    print_table(swept, ["best"], tmp_path / "rows.json", None)
    assert json.loads((tmp_path / "rows.json").read_text()) == [rows["best"]]
    print_table(swept, ["better/seed_1"], tmp_path / "rows.json", None)
    [row] = json.loads((tmp_path / "rows.json").read_text())
    assert row["seeds"] == [1] and row["wer_by_seed"] == rows["better"]["wer_by_seed"][1:2] == [row["wer"]]
    assert row["relative_to"]["plain"]["all"]["change"] == pytest.approx(row["wer"] / rows["plain"]["wer"] - 1)
    with pytest.raises(UserError, match="no run of .*few.py is finished among those of --only"):
        print_table(swept, ["never"], None, None)
    with pytest.raises(UserError, match="no run of .*few.py is finished"):
        print_table(load_sweep(swept.file, tmp_path), [], None, None)


def test_each_test_split_has_rows_and_tables_of_its_own(tmp_path, capsys):
    runs = "yield Run('a', {'data.test.more': 'x.jsonl'})\nyield Run('b', {'data.test.more': 'x.jsonl'})"
    sweep = load_sweep(write_sweep(tmp_path, runs, 'REFERENCE = "a"'), tmp_path / "out")
    for job in sweep.jobs:
        fake_training.main(*train_command(job)[4:])
    print_table(sweep, [], tmp_path / "rows.json", None)
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [(row["name"], row["split"]) for row in rows] == [("a", "test"), ("a", "more"), ("b", "test"), ("b", "more")]
    assert rows[0]["wer"] == rows[2]["wer"] != rows[1]["wer"] == rows[3]["wer"]
    out = capsys.readouterr().out
    assert out.count("WER %, test, 40 utterances, 1 seed") == out.count("WER %, more, 40 utterances, 1 seed") == 1
    assert out.count("WER relative to a") == 2


def rewritten(tmp_path, change) -> str | list[dict]:
    """Return the rows of two runs, or the error, after a change of the second one's utterances."""
    file = write_sweep(tmp_path, "yield Run('a')\nyield Run('b')", 'REFERENCE = "a"')
    sweep = load_sweep(file, tmp_path / "out")
    for job in sweep.jobs:
        fake_training.main(*train_command(job)[4:])
    lines = sweep.jobs[1].directory.evaluations / "step_4_test.jsonl"
    records = [change(json.loads(line)) for line in lines.read_text().splitlines()]
    lines.write_text("".join(json.dumps(record) + "\n" for record in records if record))
    try:
        print_table(sweep, [], tmp_path / "rows.json", None)
    except UserError as error:
        return str(error)
    return json.loads((tmp_path / "rows.json").read_text())


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda r: r if r["id"] != "u7" else None, "utterances of test"),
        (lambda r: r | {"reference": r["reference"].replace("noon", "nine")}, "texts of test (of u1, and 19 more)"),
        (lambda r: r | {"samples": r["id"]} if r["id"] == "u7" else r, "audio of test (of u7, and 0 more)"),
    ],
)
def test_what_cannot_be_compared(tmp_path, change, what, monkeypatch):
    score = fake_training.score
    hashed = lambda ids, *more, **named: score(ids, *more, **named, samples=["0" * 16] * len(ids))  # noqa: E731
    monkeypatch.setattr(fake_training, "score", hashed)
    said = rewritten(tmp_path, change)
    assert said == f"a/seed_0 and b/seed_0: evaluated on different {what}; evaluate both again"


def test_evaluations_without_subsets_are_refused(tmp_path):
    said = rewritten(tmp_path, lambda r: {key: value for key, value in r.items() if key != "subsets"})
    assert f"has no errors by subset; evaluate it again: joint-st evaluate {tmp_path}/out/b/seed_0" in said


@pytest.mark.parametrize("name", ["step_4_test.json", "step_4_test.jsonl:81"])
def test_a_damaged_evaluation_is_told_in_one_line(name, tmp_path):
    sweep = load_sweep(write_sweep(tmp_path, 'yield Run("a")'), tmp_path / "out")
    [job] = sweep.jobs
    fake_training.main(*train_command(job)[4:])
    with open(job.directory.evaluations / name.partition(":")[0], "a") as file:
        file.write("{")
    with pytest.raises(UserError, match="not JSON") as error:
        print_table(sweep, [])
    assert f"evaluations/{name}: not JSON" in str(error.value)
    assert f"evaluate it again: joint-st evaluate {job.directory.root}" in str(error.value)


def test_subsets_that_differ_are_not_compared(tmp_path):
    """An arm with other words heard has its own rates, and no change relative to another arm."""
    a, b = rewritten(tmp_path, lambda r: {**r, "subsets": {"heard": r["subsets"]["heard"]}})
    assert a["relative_to"] == {} and "wer_text_only" in a and "wer_text_only" not in b
    assert list(b["relative_to"]["a"]) == ["all", "heard", "streaming_all", "streaming_heard"]
    assert b["relative_to"]["a"]["all"]["change"] == 0


def test_fields_in_which_arms_differ_are_columns(tmp_path, capsys):
    runs = """\
for seed in range(2):
    yield Run("a", {"optimizer.beta1": 0.3, "training.log_every": seed + 1}, seed)
    yield Run("b", {"optimizer.beta1": 0.15, "data.test.test": "tfds:other:all", "data.text": ["x.txt|"]}, seed)"""
    sweep = load_sweep(write_sweep(tmp_path, runs, 'REFERENCE = "a"'), tmp_path / "out")
    for job in sweep.jobs:
        fake_training.main(*train_command(job)[4:])
    files = [tmp_path / "new" / f"table.{ending}" for ending in ("json", "md", "csv", "png")]
    print_table(sweep, [], *files)
    rows = json.loads(files[0].read_text())
    expected = {
        "a": {"data.test.test.name": "grammar", "optimizer.beta1": 0.3, "data.text": []},
        "b": {"data.test.test.name": "other", "optimizer.beta1": 0.15, "data.text.0.path": "x.txt|"},
    }
    # A field that is not there is None; `log_every` differs within an arm.
    for row in rows:
        found = {path: value for path, value in row["overrides"].items() if value is not None}
        assert {path: found[path] for path in expected[row["name"]]} == expected[row["name"]]
        assert "training.log_every" not in found and "seed" not in found and "name" not in found
        assert row["wer"] == pytest.approx(np.mean(row["wer_by_seed"]))

    header, _, a, b = [line.split(" | ") for line in files[1].read_text().splitlines() if line.startswith("|")][:4]
    place = header.index("`optimizer.beta1`")
    assert (a[place], b[place]) == ("0.3", "0.15") and "x.txt\\|" in " ".join(b)

    lines = {line["name"]: line for line in csv.DictReader(files[2].open())}
    for row in rows:
        line = lines[row["name"]]
        assert float(line["optimizer.beta1"]) == row["overrides"]["optimizer.beta1"]
        assert [float(line[name]) for name in ("wer", "streaming_wer_heard_low")] == [
            row["wer"],
            row["streaming_wer_heard_low"],
        ]
        assert [float(value) for value in line["wer_by_seed"].split()] == row["wer_by_seed"]
        assert (line["seeds"], line["data.text.0.path"]) == ("0 1", row["overrides"]["data.text.0.path"] or "")
    change = rows[1]["relative_to"]["a"]
    assert float(lines["b"]["wer_relative_to_a"]) == change["all"]["change"]
    assert float(lines["b"]["streaming_wer_text_only_relative_to_a_high"]) == change["streaming_text_only"]["high"]
    assert lines["a"]["wer_relative_to_a"] == ""
    assert files[3].read_bytes().startswith(b"\x89PNG")


def test_utterances_of_one_id_are_all_counted(swept, tmp_path):
    """Older evaluations may hold utterances of one id."""
    table = tmp_path / "step_4_test.json"
    source = swept.jobs[0].directory.evaluations / "step_4_test.json"
    table.write_bytes(source.read_bytes())
    records = [json.loads(line) for line in source.with_suffix(".jsonl").read_text().splitlines()]
    own = [{**one, "id": "u"} for one in records]
    table.with_suffix(".jsonl").write_text("".join(json.dumps(one) + "\n" for one in own))
    found = read_evaluation(swept.jobs[0], table).counts["test", "greedy"]
    for head, errors in ((head, found.errors[head, "all"]) for head in ("streaming", "full_context")):
        of_head = [one for one in records if one["head"] == head]
        assert found.words["all"].tolist() == [one["words"] for one in of_head]
        kinds = ("insertions", "deletions", "substitutions")
        assert errors.tolist() == [sum(one[kind] for kind in kinds) for one in of_head]


def test_runs_that_end_with_an_n_gram_of_their_own_are_finished_and_compared(tmp_path, capsys):
    """Its weights are tuned for each run, and are part of the names of its table and of its decoder."""
    ngram = {"data.dev": '[{"kind": "tfds", "name": "grammar", "split": "dev"}]', "evaluation.ngram_order": 3}
    runs = f"""\
for seed in range(2):
    yield Run("a", {{"optimizer.beta1": 0.3, **{ngram}}}, seed)
    yield Run("b", {{"optimizer.beta1": 0.15, **{ngram}}}, seed)"""
    sweep = load_sweep(write_sweep(tmp_path, runs, 'REFERENCE = "a"'), tmp_path / "out")
    for job in sweep.jobs:
        fake_training.main(*train_command(job)[4:])
    tables = [look(job).evaluation for job in sweep.jobs]
    assert all(f"weight_{job.run.seed}.5" in table.name for job, table in zip(sweep.jobs, tables, strict=True))
    line = result_line(tables[0])
    assert line.startswith("test streaming WER ") and ", test full_context beam 16 WER " in line
    assert line.index("beam 16") > line.index("test full_context WER")

    file = tmp_path / "rows.json"
    print_table(sweep, [], file, None)
    rows = json.loads(file.read_text())
    beam = "beam 16, word 3-gram lm.arpa, tuned on dev"
    assert [(row["name"], row["decoder"]) for row in rows] == [(a, d) for a in "ab" for d in ("greedy", beam)]
    for row in rows:
        records = [
            [json.loads(text) for text in table.with_suffix(".jsonl").read_text().splitlines()]
            for job, table in zip(sweep.jobs, tables, strict=True)
            if job.run.arm == row["name"]
        ]
        kind = row["decoder"].partition(" ")[0]
        own = [[r for r in one if r["decoder"].startswith(kind) and r["head"] == "full_context"] for one in records]
        expected = [jiwer.wer([r["reference"] for r in one], [r["hypothesis"] for r in one]) for one in own]
        assert row["wer_by_seed"] == pytest.approx(expected)
    assert rows[1]["wer"] < rows[0]["wer"] and rows[3]["relative_to"]["a"]["all"]["change"] < 0

    # Evaluations by another language model, of other splits or of one head do not take its place, even older ones.
    def copy(name, change):
        for ending in (".json", ".jsonl", ".origin.json"):
            text = Path(str(tables[0]).removesuffix(".json") + ending).read_text()
            file = tables[0].with_name(name.removesuffix(".json") + ending)
            file.write_text(change(text) if ending == ".origin.json" else text)
            os.utime(file, (1, 1))

    name = tables[0].name
    copy(name.replace("lm.arpa", "other.arpa"), lambda text: text.replace("lm.arpa", "other.arpa"))
    copy(name.replace("_test_", "_other_"), lambda text: text.replace('"test"', '"other"'))
    copy(name.replace(".json", "_full_context.json"), lambda text: text)
    assert look(sweep.jobs[0]).evaluation == tables[0]

    # Without it, the greedy table is the last one only where the training says that there could be no other.
    (hidden := tmp_path / "hidden").mkdir()
    for path in list(tables[0].parent.iterdir()):
        path.rename(hidden / path.name)
    job, config = sweep.jobs[0], sweep.jobs[0].config
    plain = override(config, {"evaluation.ngram_order": 0})
    fake_training.evaluate(plain, job.directory)
    greedy = job.directory.evaluation(4, ["test"])
    assert greedy.is_file() and not look(job).finished and state_in_words(job) == "to evaluate"
    for order, found in ((2, None), (3, greedy)):
        job.directory.without_ngram.write_text(json.dumps({"order": order, "why": "several processes"}))
        assert look(job).evaluation == found
    job.directory.without_ngram.write_text("[]")
    assert not look(job).finished

    # Another order asks for another table.
    file.unlink()
    other = write_sweep(tmp_path, runs.replace("'evaluation.ngram_order': 3", "'evaluation.ngram_order': 2"))
    states = [look(job) for job in load_sweep(other, tmp_path / "out").jobs]
    assert not any(state.finished or state.conflict for state in states) and states[0].steps == 4


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("greedy", "greedy"),
        ("beam 16", "beam 16"),
        ("beam 16, word 3-gram a.arpa weight 0.5 bonus 2", None),
        (
            "beam 8, word 3-gram a.arpa weight 0.5 bonus -1e-05, h.txt bonus 5, rescored by label LSTM lm step 8 weight 1 "
            "bonus 0.5, tuned on dev",
            "beam 8, word 3-gram a.arpa, h.txt, rescored by label LSTM lm step 8, tuned on dev",
        ),
    ],
)
def test_weights_that_were_tuned_are_not_part_of_what_is_compared(name, expected):
    assert without_tuned_weights(name) == (expected or name)
