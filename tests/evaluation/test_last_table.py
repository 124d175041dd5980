"""The table that ends a training, with and without an n-gram of the run's own texts."""

from __future__ import annotations

import json
import shutil

import pytest

from joint_st.config import ManifestSource, load, override, save
from joint_st.distributed.peers import Peers
from joint_st.errors import UserError
from joint_st.evaluation import tuning
from joint_st.evaluation.origin import last_table
from joint_st.lm import estimate
from joint_st.runs.directory import RunDirectory
from joint_st.training import asr
from joint_st.training.asr import print_last_table


@pytest.mark.parametrize("level", ["word", "label"])
def test_the_last_table_of_a_run_has_an_n_gram_of_its_own_texts(run, splits, tmp_path, capsys, monkeypatch, level):
    """Over labels where these do not separate words; the command finds that out from the run's tokenizer."""
    monkeypatch.setattr(tuning, "ROUNDS", 2)
    monkeypatch.setattr(asr, "separates_words", lambda tokenizer: tokenizer.kind == "characters" and level == "word")
    own = shutil.copytree(run, tmp_path / "run")
    dev, test = (ManifestSource(path=splits[name]) for name in ("dev", "test"))
    data = {"data.dev": [dev], "data.test": {"test": test}, "evaluation.ngram_order": 2}
    config = override(load(own / "config.json"), data)
    save(config, own / "config.json")
    print_last_table(config, RunDirectory(own))
    assert (own / "lm.arpa").read_bytes() == (run / f"{level}.arpa").read_bytes()
    said = capsys.readouterr().err
    assert f"weights of {own / 'lm.arpa'}, on the dev set:\n" in said and "\ndev: WER " in said
    (table,) = own.glob("evaluations/*tuned_on_dev.json")
    decoders = {row["decoder"].partition(" weight")[0] for row in json.loads(table.read_text())}
    assert decoders == {"greedy", f"beam 16, {level} 2-gram lm.arpa"}
    # A sweep finds it.
    step = json.loads(table.read_text())[0]["step"]
    assert last_table(RunDirectory(own), step, config) == table
    # One with another penalty of unknown words, which is in the names of tables, does not take its place.
    content = json.loads(table.with_suffix(".origin.json").read_text())
    beam = content["decoders"].popitem()[0].replace(", tuned", " unknown penalty 3, tuned")
    other = RunDirectory(own).evaluation(step, ["test"], ["greedy", beam])
    for end in (".json", ".jsonl"):
        shutil.copy(table.with_suffix(end), other.with_suffix(end))
    content["decoders"][beam] = beam
    other.with_suffix(".origin.json").write_text(json.dumps(content))
    assert last_table(RunDirectory(own), step, config) == table
    greedy = override(config, {"evaluation.ngram_order": 0})
    assert last_table(RunDirectory(own), step, greedy) is None
    # Not where it was decoded in other windows; the command writes that into a file of its own.
    origin = table.with_suffix(".origin.json")
    content = json.loads(origin.read_text())
    origin.write_text(json.dumps(content | {"window_seconds": content["window_seconds"] / 2}))
    assert last_table(RunDirectory(own), step, config) is None
    names = {RunDirectory(own).evaluation(step, ["test"], window_seconds=seconds).name for seconds in (None, 2.0, 2.5)}
    assert names == {f"step_{step}_test{end}.json" for end in ("", "_windows_of_2_s", "_windows_of_2.5_s")}
    with pytest.raises(UserError, match="evaluation.ngram_order: 2, and data.dev names no source"):
        override(config, {"data.dev": []})
    with pytest.raises(UserError, match=r"evaluation.ngram_order: 2, and data.test.test is also in data.dev"):
        override(config, {"data.test": {"test": dev}})


def test_a_dev_set_that_cannot_tune_leaves_the_greedy_table(run, spoken, splits, tmp_path, capsys):
    own = shutil.copytree(run, tmp_path / "run")
    dev, test = ManifestSource(path=splits["dev"]), ManifestSource(path=str(spoken / "test.jsonl"))
    data = {"data.dev": [dev], "data.test": {"test": test}, "evaluation.ngram_order": 2}
    config = override(load(own / "config.json"), data)
    save(config, own / "config.json")
    with pytest.raises(UserError, match="4 of its utterances are also in test, which is reported"):
        print_last_table(config, RunDirectory(own))
    assert "decoder greedy" in capsys.readouterr().out
    (table,) = own.glob("evaluations/step_*_test.json")
    # The training has failed, and a sweep starts it again.
    step = json.loads(table.read_text())[0]["step"]
    assert last_table(RunDirectory(own), step, config) is None
    assert last_table(RunDirectory(own), step, override(config, {"evaluation.ngram_order": 0})) == table


def test_several_processes_leave_the_greedy_table_and_say_why(run, splits, tmp_path, capsys, monkeypatch):
    own = RunDirectory(shutil.copytree(run, tmp_path / "run"))
    dev, test = (ManifestSource(path=splits[name]) for name in ("dev", "test"))
    data = {"data.dev": [dev], "data.test": {"test": test}, "evaluation.ngram_order": 2}
    config = override(load(own.config), data)
    save(config, own.config)
    # Only the table's making is that of a single process.
    monkeypatch.setattr(asr, "current", lambda: Peers(0, ("host-a", "host-b")))
    print_last_table(config, own)
    assert "evaluation.ngram_order: not used, because only a single process can tune" in capsys.readouterr().err
    (table,) = own.evaluations.glob("step_*_test.json")
    step = json.loads(table.read_text())[0]["step"]
    assert json.loads(own.without_ngram.read_text())["order"] == 2
    assert last_table(own, step, config) == table
    # A single process takes it back before it begins, so that a training that is killed is not finished.
    monkeypatch.undo()
    monkeypatch.setattr(estimate, "training_texts", lambda config: iter(["so <unk> it is"]))
    with pytest.raises(UserError, match="keeps for itself"):
        print_last_table(config, own)
    assert not own.without_ngram.exists() and last_table(own, step, config) is None


def test_texts_that_hold_a_reserved_token_leave_the_greedy_table(run, splits, tmp_path, capsys, monkeypatch):
    own = shutil.copytree(run, tmp_path / "run")
    dev, test = (ManifestSource(path=splits[name]) for name in ("dev", "test"))
    data = {"data.dev": [dev], "data.test": {"test": test}, "evaluation.ngram_order": 2}
    config = override(load(own / "config.json"), data)
    save(config, own / "config.json")
    monkeypatch.setattr(estimate, "training_texts", lambda config: iter(["so <unk> it is"]))
    with pytest.raises(UserError, match="the texts hold '<unk>', which a language model keeps for itself; remove it"):
        print_last_table(config, RunDirectory(own))
    assert "decoder greedy" in capsys.readouterr().out
    assert [path.name for path in own.glob("evaluations/step_*_test.json")]
