"""`joint-st evaluate` and `transcribe` with a language model and hot words; weights found on a development split."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from joint_st.cli import main
from joint_st.config import EvaluationConfig, load, save
from joint_st.data.normalizers import normalizer
from joint_st.evaluation import tuning
from joint_st.lm.arpa import read_arpa


def evaluate(run, tmp_path, *arguments) -> tuple[set[str], dict]:
    """Return the decoders of the table, and the hypotheses by decoder, head and id."""
    table, lines = tmp_path / "table.json", tmp_path / "lines.jsonl"
    assert main(["evaluate", str(run), *map(str, arguments), "--json", str(table), "--jsonl", str(lines)]) == 0
    utterances = [json.loads(line) for line in lines.read_text().splitlines()]
    said = {(u["decoder"], u["head"], u["id"]): u["hypothesis"] for u in utterances}
    return {row["decoder"] for row in json.loads(table.read_text())}, said


def test_models_are_of_the_training_texts(run):
    heard = json.loads((run / "vocabulary.json").read_text())
    words, labels = read_arpa(run / "word.arpa"), read_arpa(run / "label.arpa")
    assert words.order == labels.order == 2
    assert set(words.tokens) == {*heard["heard"], *heard["read"]}
    assert "\u2581" in labels.tokens and {len(token) for token in labels.tokens} == {1}


@pytest.fixture(scope="module")
def plain(run, spoken, tmp_path_factory):
    """The hypotheses of the beam alone."""
    folder = tmp_path_factory.mktemp("plain")
    names, said = evaluate(run, folder, "--data", f"test={spoken / 'test.jsonl'}", "--decoder", "beam", "--beam", 4)
    assert names == {"beam 4"}
    return said


@pytest.mark.parametrize("level", ["word", "label"])
def test_the_table_says_what_was_fused_and_weight_0_is_the_beam_alone(run, spoken, plain, tmp_path, level):
    data = f"test={spoken / 'test.jsonl'}"
    lm = ["--data", data, "--beam", 4, "--lm", run / f"{level}.arpa"]
    names, unweighted = evaluate(run, tmp_path, *lm, "--lm-weight", 0)
    (name,) = names
    assert name == f"beam 4, {level} 2-gram {level}.arpa weight 0 bonus 0"
    assert {key[1:]: text for key, text in unweighted.items()} == {key[1:]: text for key, text in plain.items()}
    hot = ["--hot-words", run / "hot.txt", "--hot-word-bonus", 3]
    names, fused = evaluate(run, tmp_path, *lm, "--lm-weight", 0.8, "--insertion-bonus", 2, *hot)
    assert names == {f"beam 4, {level} 2-gram {level}.arpa weight 0.8 bonus 2, hot.txt bonus 3"}
    assert list(fused.values()) != list(unweighted.values())
    assert len(list((run / "evaluations").glob(f"*{level}*hot.txt_bonus_3.json"))) == 1


def test_transcribe_says_the_same(run, spoken, tmp_path, capsys):
    fusion = ["--beam", "4", "--lm", str(run / "word.arpa"), "--lm-weight", "0.8", "--insertion-bonus", "2"]
    _, said = evaluate(run, tmp_path, "--data", f"test={spoken / 'test.jsonl'}", *fusion)
    capsys.readouterr()
    files = sorted(map(str, spoken.glob("*.wav")))[:3]
    assert main(["transcribe", str(run), *files, *fusion]) == 0
    for line in capsys.readouterr().out.splitlines():
        file, text = line.split("\t")
        name = file.split("/")[-1].removesuffix(".wav")
        (expected,) = (heard for key, heard in said.items() if key[1:] == ("full_context", name))
        assert normalizer("english")(text) == expected


def tried(said: str) -> dict[str, float]:
    """Return the WERs (%) of the trials during tuning, by their options."""
    lines = [line.split(": WER ")[1] for line in said.splitlines() if line.startswith("mine: WER ")]
    return {line.partition(" % with ")[2]: float(line.split()[0]) for line in lines}


def wer_of(tmp_path) -> float:
    """WER (%) of all heads of the table that `evaluate` wrote last."""
    rows = [row for row in json.loads((tmp_path / "table.json").read_text()) if row["subset"] == "all"]
    errors = sum(row["insertions"] + row["deletions"] + row["substitutions"] for row in rows)
    return 100 * errors / sum(row["words"] for row in rows)


def test_weights_are_found_on_a_split_that_is_not_reported(run, spoken, splits, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tuning, "SCALES", (2.0,))
    monkeypatch.setattr(tuning, "ROUNDS", 3)
    monkeypatch.setattr(tuning, "MOST_TRIALS", 3)
    what = ["--beam", 3, "--lm", run / "word.arpa", "--hot-words", run / "hot.txt", "--data"]
    (name,), _ = evaluate(run, tmp_path, *what, f"test={splits['test']}", "--tune", f"mine={splits['dev']}")
    wers = tried(capsys.readouterr().err)
    of_lm = {options: wer for options, wer in wers.items() if options.startswith("--lm-weight")}
    assert 2 <= len(of_lm) <= 3 and len(wers) == len(of_lm) + 3
    weight, bonus = min(of_lm, key=lambda options: (of_lm[options], *map(abs, numbers(options)))).split()[1::2]
    of_hot = {options: wer for options, wer in wers.items() if options not in of_lm}
    hot = min(of_hot, key=lambda options: (of_hot[options], *numbers(options))).split()[1]
    assert name.endswith(f"word.arpa weight {weight} bonus {bonus}, hot.txt bonus {hot}, tuned on mine")
    # The weights found give what they gave while they were looked for.
    given = ["--lm-weight", weight, f"--insertion-bonus={bonus}", "--hot-word-bonus", hot]
    evaluate(run, tmp_path, *what, f"mine={splits['dev']}", *given)
    assert wer_of(tmp_path) == pytest.approx(min(of_hot.values()), abs=0.05)

    everything = ["--data", f"test={spoken / 'test.jsonl'}", "--lm", run / "word.arpa"]
    assert main(["evaluate", str(run), *map(str, everything), "--tune", f"mine={splits['dev']}"]) == 2
    assert "--tune mine: 4 of its utterances are also in test, which is reported" in capsys.readouterr().err


def test_hot_words_are_tuned_beside_a_model_that_rescores(run, splits, tmp_path, capsys, monkeypatch):
    """The searches for their bonus do not rescore; the search afterwards does."""
    monkeypatch.setattr(tuning, "SCALES", (2.0,))
    what = ["--beam", 3, "--hot-words", run / "hot.txt", "--rescore", run / "label.arpa", "--data"]
    capsys.readouterr()
    (name,), _ = evaluate(run, tmp_path, *what, f"test={splits['test']}", "--tune", f"mine={splits['dev']}")
    wers = tried(capsys.readouterr().err)
    of_hot = {options: wer for options, wer in wers.items() if options.startswith("--hot-word-bonus")}
    (rescored,) = (options for options in wers if options.startswith("--rescore-weight"))
    hot = min(of_hot, key=lambda options: (of_hot[options], *numbers(options))).split()[1]
    weight, bonus = rescored.split()[1::2]
    found = f"hot.txt bonus {hot}, rescored by label 2-gram label.arpa weight {weight} bonus {bonus}, tuned on mine"
    assert len(of_hot) >= 2 and name == f"beam 3, {found}"
    # The weights of rescoring are those for the bonus found, and 0 is among what was tried.
    assert wers[rescored] <= min(of_hot.values())
    given = ["--hot-word-bonus", hot, "--rescore-weight", weight, f"--rescore-bonus={bonus}"]
    evaluate(run, tmp_path, *what, f"mine={splits['dev']}", *given)
    assert wer_of(tmp_path) == pytest.approx(wers[rescored], abs=0.05)


def numbers(options: str) -> list[float]:
    return [float(number) for number in options.split()[1::2]]


@pytest.fixture(scope="module")
def neural(run, corpora):
    """A language model over the run's letters, hardly trained, in a folder `neural`."""
    from joint_st.config import LmConfig, LmDataConfig, LmModelConfig, LoopConfig

    data = load(run).data
    config = LmConfig(
        data=LmDataConfig(train=(*data.train, *data.text), dev=data.dev, batch_size=16, buckets=1),
        model=LmModelConfig(width=8, layers=1),
        training=LoopConfig(steps=3, compilation_cache=""),
    )
    save(config, run / "lm.json")
    options = ["--data.tokenizer.path", str(run / "tokenizer"), "--workdir", str(run / "neural")]
    assert main(["train-lm", str(run / "lm.json"), *options]) == 0
    return run / "neural"


def test_a_neural_model_of_weight_0_is_the_beam_alone(run, neural, spoken, plain, tmp_path):
    models = ["--lm", neural, "--lm-weight", 0, "--rescore", neural, "--rescore-weight", 0]
    names, unweighted = evaluate(run, tmp_path, "--beam", 4, "--data", f"test={spoken / 'test.jsonl'}", *models)
    lstm = "label LSTM neural step 3 weight 0 bonus 0"
    assert names == {f"beam 4, {lstm}, rescored by {lstm}"}
    assert list(unweighted.values()) == list(plain.values())


@pytest.mark.slow
def test_an_ngram_is_fused_and_a_neural_model_rescores(run, neural, splits, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tuning, "ROUNDS", 1)
    both = ["--beam", 4, "--lm", run / "word.arpa", "--rescore", neural]
    tune = ["--data", f"test={splits['test']}", "--tune", f"mine={splits['dev']}"]
    capsys.readouterr()
    (name,), _ = evaluate(run, tmp_path, *both, *tune)
    wers = tried(capsys.readouterr().err)
    found = [options for options in wers if options.startswith("--rescore-weight")]
    fusion = name.partition(", rescored by ")[0].split()
    weight, bonus = found[0].split()[1::2]
    assert name.endswith(f", rescored by label LSTM neural step 3 weight {weight} bonus {bonus}, tuned on mine")
    given = ["--lm-weight", fusion[-3], f"--insertion-bonus={fusion[-1]}"]
    given += ["--rescore-weight", weight, f"--rescore-bonus={bonus}", "--data", f"mine={splits['dev']}"]
    evaluate(run, tmp_path, *both, *given)
    assert wer_of(tmp_path) == pytest.approx(wers[found[0]], abs=0.05)
    least = wers["the best hypothesis of each beam, which no weights can better"]
    assert least <= wers[found[0]] <= min(wer for options, wer in wers.items() if options.startswith("--lm"))


def test_a_grid_of_rescoring_weights_finds_what_loops_find():
    rng = np.random.default_rng(0)
    made_up = rng.normal(0, (1, 1.5, 1), (40, 6, 3))
    errors = rng.integers(0, 5, (40, 6))
    rows = [{n: [*made_up[m, n], errors[m, n]] for n in range(6 - 2 * (m == 3))} for m in range(40)]
    weight, bonus, fewest = tuning.best_on_grid(*tuning.Lists.of(rows), 4)

    def errors_at(weight, bonus):
        best = (max(row.values(), key=lambda h: h[0] + weight * h[1] + bonus * h[2]) for row in rows)
        return sum(int(hypothesis[3]) for hypothesis in best)

    assert errors_at(weight, bonus) == fewest
    assert fewest <= min(errors_at(w, b) for w in (0, 0.5, 1, 2) for b in (-2, 0, 2))


def test_a_grid_grows_to_its_largest_weight():
    # Each doubling of the grid, whose edge is the best point, wins one utterance more.
    thresholds = np.array([1.97, 3.95, 7.9, 15.8, 31.5, 63])
    scores, log_probs = np.stack([np.zeros(6), -thresholds], axis=1), np.tile([-1.0, 0.0], (6, 1))
    found = tuning.best_on_grid(scores, log_probs, np.zeros((6, 2)), np.tile([1, 0], (6, 1)), 4)
    assert found == (tuning.LARGEST, 0, 1)


def test_a_wider_grid_does_not_lose_the_best_point_of_the_one_before():
    # The first utterance needs a weight at the edge of the first grid, the second a bonus between steps of the next.
    rows = [{0: (0, -1, 0, 1), 1: (-1.97, 0, 0, 0)}, {0: (0, 0, 0, 1), 1: (-0.1, 0, 1, 0), 2: (-0.4, 0, 2, 1)}]
    assert tuning.best_on_grid(*tuning.Lists.of(rows), 4) == (2.0, 0.2, 0)


def test_the_rate_is_that_of_utterances_that_can_be_read(capsys):
    dataset = SimpleNamespace(texts=lambda: ["one two", "three four five"], normalizer=str.strip)
    references = tuning.References({"dev": dataset}, EvaluationConfig())
    errors = sum(references.errors("dev", 0, text) for text in ("one too", "one two"))  # a text for each head
    references.print_rate(errors, "a weight")
    assert "WER 25.0 % with a weight" in capsys.readouterr().err, "one of four words, and not of ten"


def test_trials_go_on_until_the_best_lies_within_them():
    def errors_at(point):
        return round(100 * ((point[0] - 3.25) ** 2 + (point[1] + 4.5) ** 2 / 9))

    assert tuning.climb(errors_at, (0.5, 0.0), (0.5, 1.5), least=(0.0, -np.inf)) == (3.25, -4.5)
    assert tuning.climb(lambda point: int(100 * point[0]), (0.5,), (0.5,), least=(0.0,)) == (0.0,)
    assert tuning.climb(lambda point: 7, (0.5, 0.0), (0.5, 1.5), least=(0.0, -np.inf)) == (0.0, 0.0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--lm-weight", "1"], "--lm-weight: needs --lm; add --lm FILE"),
        (["--hot-word-bonus", "1"], "--hot-word-bonus: needs --hot-words; add"),
        (["--lm", "x.arpa", "--decoder", "greedy"], "--lm: needs the beam search; add --decoder beam"),
        (["--tune"], "--tune: there are no weights to find without --lm, --hot-words or --rescore"),
        (["--lm", "x.arpa", "--tune", "dev"], "--tune dev: written NAME=SOURCE"),
        (["--lm", "x.arpa", "--tune", "--checkpoint", "best", "3"], "--tune: takes one --checkpoint at a time"),
        (["--lm", "x.arpa"], "x.arpa: no such file"),
        (["--hot-words", "x.txt"], "x.txt: no such file"),
        (["--rescore-bonus", "1"], "--rescore-bonus: needs --rescore; add --rescore FILE"),
        (["--rescore", "x", "--decoder", "greedy"], "--rescore: needs the beam search; add --decoder beam"),
        (["--rescore", "x.arpa"], "x.arpa: no such file"),
        (["--lm", "."], ".: no run of a language model; `joint-st train-lm` makes one"),
        (["--lm", "foreign.arpa"], "over the labels of another tokenizer: this run's has no '\u2581the'"),
    ],
)
def test_mistakes(run, spoken, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    unigrams = "-1\t<unk>\n-99\t<s>\n-1\t</s>\n-1\t\u2581the\n"
    (tmp_path / "foreign.arpa").write_text(f"\\data\\\nngram 1=4\n\n\\1-grams:\n{unigrams}\n\\end\\\n")
    assert main(["evaluate", str(run), "--data", f"t={spoken / 'test.jsonl'}", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("tried", "expected"),
    [
        ({(0.5, 2.0): 4, (0.25, 2.0): 3}, (0.375, 3.0)),
        # Of equally good points the outermost one counts: the one within has been moved to it.
        ({(0.25, 2.0): 3, (0.375, 3.0): 3, (1.0, 4.0): 4}, (0.5625, 4.5)),
        ({(1.0, 1.0): 2, (1.5, 1.5): 3}, (2.25, 2.25)),  # past a worse one
        ({(1.0, 1.0): 2, (1.5, 1.5): 3, (2.25, 2.25): 3}, None),
        ({(0.0, 0.0): 2}, None),
    ],
)
def test_the_weights_are_moved_outwards_while_it_does_no_harm(tried, expected):
    assert tuning._further_out(tried) == expected
