"""Mutations of configs, and of the files that a run keeps in addition to its weights."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from random import Random

from benchmarks.fuzz import mutate
from benchmarks.fuzz.kind import Kind, Seed
from benchmarks.fuzz.mutate import Field


def _config() -> dict:
    return {
        "format": 2,
        "name": "small",
        "seed": 0,
        "data": {
            "train": [{"kind": "manifest", "path": "m.jsonl"}, {"kind": "tfds", "name": "x", "split": "train"}],
            "dev": [{"kind": "manifest", "path": "m.jsonl", "corpus": "c"}],
            "test": {"a": {"kind": "text", "path": "t.txt", "language": "en"}},
            "text": [{"kind": "text", "path": "t.txt"}],
            "units": {"kind": "characters"},
            "tokenizer": {"kind": "characters"},
            "batch_size": 8,
            "text_batch_size": 8,
        },
        "model": {"width": 32, "heads": 2, "features": {"mels": 16}},
        "spec_augment": {"frequency_width": 4},
        "optimizer": {"peak_learning_rate": 1e-3, "warmup_steps": 3},
        "training": {"steps": 10, "init": {"run": "other", "rename": {"a.*": "b.*"}}, "loggers": ["tensorboard"]},
        "losses": {"reconstruction": {"full_context": 0.5}, "consistency": {"weight": 0.1}},
        "parallel": {"data": -1},
    }


def config_seeds(folder: Path) -> list[Seed]:
    """Configs as people write them and as a run keeps them."""
    whole = json.dumps(_config()).encode()
    lm = {"format": 2, "kind": "language_model", "data": {"train": [{"kind": "text", "path": "t.txt"}]}}
    return [Seed("c.json", whole), Seed("run/config.json", whole), Seed("lm.json", json.dumps(lm).encode())]


def change_json(chance: Random, seed: Seed) -> bytes:
    """Change values and keys of its tree."""
    return mutate.json_text(chance, seed.content)


def read_config(folder: Path, seed: Seed) -> str:
    """Check that a config that was read can be written, and is the same when it is read again."""
    from joint_st.config import Config, LmConfig, load, save

    kind = LmConfig if seed.name == "lm.json" else Config
    config = load(folder / seed.name, kind)
    save(config, folder / "again.json")
    return "" if load(folder / "again.json", kind) == config else "written and read again it is another"


def run_seeds(folder: Path) -> list[Seed]:
    """Return every small file of a run."""
    scored = {
        "id": "u1", "split": "test", "head": "full_context", "decoder": "greedy", "seconds": 1.5, "speaker": "s",
        "reference": "one two", "hypothesis": "one", "words": 2, "insertions": 0, "deletions": 1, "substitutions": 0,
        "characters": 7, "character_errors": 4, "subsets": {}, "ops": [["equal", "one", "one"], ["delete", "two", ""]],
    }  # fmt: skip
    head = "step,epoch,loss,learning_rate,gradient_norm,dev_full_context_wer\n"
    files = {
        "config.json": json.dumps(_config()),
        "tokenizer/tokenizer.json": json.dumps({"kind": "characters", "characters": list(" abcdeé")}),
        "units/units.json": json.dumps({"kind": "characters"}),
        "units/tokenizer.json": json.dumps({"kind": "characters", "characters": list(" abc")}),
        "vocabulary.json": json.dumps({"heard": ["one"], "read": ["two"]}),
        "languages.json": json.dumps(["", "en"]),
        "metrics.csv": head + "10,0,3.5,0.001,1.5,\n20,1,nan,0.001,inf,0.5\n",
        "checkpoints/20/facts/metadata": json.dumps({"normalizer": "basic v1", "step": 20, "wer": 0.5, "data": "x"}),
        "evaluations/step_20_test.jsonl": 2 * (json.dumps(scored) + "\n"),
    }
    for name, content in files.items():
        place = folder / "run" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content, encoding="utf-8")
    return [Seed(f"run/{name}", content.encode()) for name, content in files.items()]


def change_run(chance: Random, seed: Seed) -> bytes:
    """Change one file of a run in the way of its format: lines, JSON or text."""
    if seed.name.endswith(".csv"):
        return mutate.lines(chance, seed.content.replace(b",", b" ")).replace(b" ", b",")
    change = mutate.json_lines if seed.name.endswith(".jsonl") else mutate.json_text
    return change(chance, seed.content)


def read_run(folder: Path, seed: Seed) -> str:
    """Read everything of a run except its weights: inventories, words, facts, stored hypotheses, curves."""
    from joint_st.config import load
    from joint_st.data.symbols import load_languages
    from joint_st.data.text_units import load_units
    from joint_st.data.tokenizers import load_tokenizer
    from joint_st.data.vocabulary import Vocabulary
    from joint_st.evaluation.rates import make_rows
    from joint_st.evaluation.report import by_key, read_utterances
    from joint_st.losses.base import Column
    from joint_st.reports.charts import training_charts
    from joint_st.runs.directory import existing_run

    if not (folder / seed.name).stat().st_size:  # an empty one stands for none
        (folder / seed.name).unlink()
    run = existing_run(folder / "run")
    load(run.config)
    labels, units = load_tokenizer(run.tokenizer), load_units(run.units)
    for inventory in (labels, units):
        found = inventory.encode("a b")
        if len(found) != 3 or not all(0 < one < inventory.size for one in found.tolist()):
            return f"{found} of {inventory.size}"
    if not isinstance(labels.decode([2, 0]), str):
        return "decodes to no text"
    vocabulary = Vocabulary.load(run.root)
    if not all(isinstance(word, str) for word in vocabulary.heard | vocabulary.read):
        return "a word that is no text"
    languages = load_languages(run.root)
    if not all(isinstance(tag, str) for tag in languages) or languages[0]:
        return f"languages {languages}"
    run.best_steps()
    if not run.evaluations.joinpath("step_20_test.jsonl").exists():
        return ""
    found = by_key(read_utterances(run.evaluations / "step_20_test.jsonl"))
    for utterances in found.values():
        make_rows(utterances, normalizer="basic v1", step=20, samples=100)
        if not all(math.isfinite(one.seconds) and one.seconds >= 0 for one in utterances):
            return "seconds that are none"
    for chart in training_charts(run.metrics, [Column("loss", "Loss"), Column("gradient_norm", "Norm")]):
        for series in chart["series"]:
            if not all(math.isfinite(number) for point in series["points"] for number in point):
                return f"a curve with {series['points']}"
    return ""


def piece_seeds(folder: Path) -> list[Seed]:
    """Return a tokenizer of wordpieces."""
    import sentencepiece

    model = io.BytesIO()
    words = ["one two three", "four five six seven", "the old ship sailed", "one ship", "two old ships"] * 4
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words), model_writer=model, vocab_size=28, pad_id=0, pad_piece="<blank>", unk_id=1,
        bos_id=-1, eos_id=-1, normalization_rule_name="identity", minloglevel=3,
    )  # fmt: skip
    (folder / "tokenizer").mkdir()
    described = {"kind": "sentencepiece", "model": "tokenizer.model"}
    (folder / "tokenizer" / "tokenizer.json").write_text(json.dumps(described))
    content = model.getvalue()
    fields = [Field(at, 1) for at in range(len(content))]
    return [Seed("tokenizer/tokenizer.model", content, fields)]


def change_pieces(chance: Random, seed: Seed) -> bytes:
    """Change bytes and lengths anywhere, because its messages are nested."""
    if chance.random() < 0.5:
        return mutate.set_fields(chance, seed.content, seed.fields)
    return mutate.damage(chance, seed.content, len(seed.content))


def read_pieces(folder: Path, seed: Seed) -> str:
    """Read the inventory, and encode and decode a text."""
    from joint_st.data.tokenizers import load_tokenizer

    tokenizer = load_tokenizer(folder / "tokenizer")
    for text in ("one two", "", "zzz é", "seven ships"):
        found = tokenizer.encode(text)
        if not all(0 < one < tokenizer.size for one in found.tolist()):
            return f"{text!r}: {found} of {tokenizer.size}"
        if not isinstance(tokenizer.decode(found), str):
            return "no text"
    return "" if len(tokenizer.symbols()) == tokenizer.size else "other symbols"


KINDS = (
    Kind(
        "config JSON",
        {
            "joint_st.config.file": ("save", "_says_language_model", "_from_json", "_migrated"),
            "joint_st.config.problems": (
                "explain",
                "one_line",
                "shown",
                "_root",
                "_lines",
                "_line",
                "_type_at",
                "_dotted",
            ),
        },
        config_seeds,
        change_json,
        read_config,
    ),
    Kind(
        "files of a run",
        {
            "joint_st.data.tokenizers": ("Characters.encode", "Characters.decode", "load_tokenizer"),
            "joint_st.data.text_units": ("load_units",),
            "joint_st.data.vocabulary": ("Vocabulary.load",),
            "joint_st.data.symbols": ("load_languages",),
            "joint_st.evaluation.report": ("ScoredUtterance.from_record", "read_utterances"),
            "joint_st.reports.charts": ("training_charts", "_charts", "_curve"),
            "joint_st.runs.directory": ("RunDirectory.best_steps", "RunDirectory.checkpoint_steps"),
        },
        run_seeds,
        change_run,
        read_run,
        "runs",
    ),
    Kind(
        "SentencePiece models",
        {
            "joint_st.data.tokenizers": (
                "Wordpieces.__init__",
                "Wordpieces.encode",
                "Wordpieces.decode",
                "load_tokenizer",
            )
        },
        piece_seeds,
        change_pieces,
        read_pieces,
        "runs",
    ),
)
