"""The recipes of `configs/`: each trains, and the large ones are as large as their names say."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path

import pytest

from joint_st.compile_check.shapes import sizes
from joint_st.config import Config, LmConfig, check_devices, load, override
from joint_st.heads.model import weight_shapes
from joint_st.models.functional import count_weights

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@pytest.mark.parametrize(
    "name, millions, chips",
    [("librispeech_960h", 120, 16), ("multilingual_600m", 600, 256), ("multilingual_2b", 2000, 1024)],
)
def test_a_large_model_is_as_large_as_its_name(name, millions, chips):
    config = load(CONFIGS / f"{name}.py")
    weights = count_weights(weight_shapes(config, sizes(config).sizes))
    assert weights == pytest.approx(millions * 1e6, rel=0.1)
    assert config.name == name
    assert check_devices(config, chips)
    per_chip = {"data.batch_size": chips, "data.text_batch_size": chips}
    assert check_devices(override(config, per_chip), chips)


STEPS = 30
RECIPES = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.py") if "sweeps" not in path.parts)
SENTENCES = {
    "de": "Der Zug nach Köln fährt heute später.",
    "en": "The train to the coast leaves at noon.",
    "es": "El tren de la mañana llega tarde.",
    "fr": "Le train du matin arrive en retard.",
    "hi": "सुबह की गाड़ी देर से आती है।",
    "it": "Il treno del mattino arriva in ritardo.",
    "nl": "De trein van vanochtend komt te laat.",
    "pl": "Poranny pociąg przyjeżdża spóźniony.",
    "pt": "O trem da manhã chega atrasado.",
    "ru": "Утренний поезд приходит поздно.",
    "tr": "Sabah treni geç geliyor.",
    "vi": "Chuyến tàu buổi sáng đến muộn.",
}


@pytest.fixture
def data(tmp_path, corpora, spoken, monkeypatch) -> Path:
    """The folders that recipes name, with the tiny corpus in each of them."""
    lines = [json.loads(line) for line in (spoken / "test.jsonl").read_text().splitlines()]
    for line in lines:
        line["audio_filepath"] = str(spoken / line["audio_filepath"])
    manifest = "".join(json.dumps(line) + "\n" for line in lines)
    foreign = "".join(
        json.dumps({**line, "language": language, "text": SENTENCES[language]}) + "\n"
        for line, language in zip(lines, [*SENTENCES] * len(lines))
    )
    texts = "".join(f"{line['text']} once more\n" for line in lines)
    for folder, splits, content in (
        ("libri", ("train", "dev-clean", "dev-other", "test-clean", "test-other"), manifest),
        ("many", ("train", "dev", "test"), foreign),
        *((f"recorded/{name}", ("train", "dev", "test"), manifest) for name in ("arctic", "speechocean762")),
        *((f"recorded/{name}", ("train", "dev", "test"), manifest) for name in ("common_voice_en", "spoken_digits")),
        ("recorded/dutch_read", ("train", "dev", "test"), manifest),
    ):
        (tmp_path / folder).mkdir(parents=True)
        for split in splits:
            (tmp_path / folder / f"{split}.jsonl").write_text(content)
    for path in ("libri/librispeech-lm-norm.txt", "recorded/common_voice_en/text_only.txt"):
        (tmp_path / path).write_text(texts)
    (tmp_path / "recorded/text/sentences").mkdir(parents=True)
    (tmp_path / "recorded/text/sentences/nl.txt").write_text(f"{SENTENCES['nl']}\n")
    (tmp_path / "recorded/text/english_novels.txt").write_text(texts)
    (tmp_path / "many/text").mkdir()
    for language, sentence in SENTENCES.items():
        (tmp_path / f"many/text/{language}.txt").write_text(f"{sentence}\n")
    monkeypatch.setenv("LIBRISPEECH", str(tmp_path / "libri"))
    monkeypatch.setenv("MULTILINGUAL", str(tmp_path / "many"))
    monkeypatch.setenv("JOINT_ST_DATA", str(tmp_path / "recorded"))
    return tmp_path


def reduced(config: Config | LmConfig, corpora: Path, cache: Path):
    """Return the recipe with less data, a narrow model and few steps: masks, dropout, types, losses and optimizer are
    its own."""
    changes = {
        "data.dev": [],
        "data.batch_size": 4,
        "data.buckets": 1,
        "data.index_cache": str(cache),
        "model.width": 32,
        "training.steps": STEPS,
        "training.log_every": 1,
        "training.evaluate_every": STEPS,
        "training.checkpoint_every": STEPS,
        "training.compilation_cache": "",
    }
    if config.data.tokenizer.kind == "sentencepiece":
        changes["data.tokenizer.vocabulary_size"] = 70
    for part in ("train", "text") if isinstance(config, Config) else ("train",):
        for n, source in enumerate(getattr(config.data, part)):
            if source.kind == "tfds":
                changes[f"data.{part}.{n}.name"] = "spoken_grammar/tiny"
                changes[f"data.{part}.{n}.data_dir"] = str(corpora)
    if isinstance(config, Config):
        changes |= {
            "data.test": {},
            "model.heads": 4,
            "training.text_first_steps": min(config.training.text_first_steps, 10),
            "evaluation.ngram_order": 0,
            "parallel.fsdp": 1,
            "parallel.cpu_devices": 1,
        }
        if config.data.text_batch_size:
            changes["data.text_batch_size"] = 4
    return override(config, changes)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_trains(recipe, data, corpora, tmp_path):
    from joint_st.training.asr import train_asr
    from joint_st.training.lm import train_lm

    lm = recipe.endswith("_lm.py")
    config = reduced(load(CONFIGS / recipe, LmConfig if lm else Config), corpora, tmp_path / "index")
    (train_lm if lm else train_asr)(config, tmp_path / "run")
    with open(tmp_path / "run" / "metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["loss"]]
    assert len(rows) == STEPS
    norms = [float(row["gradient_norm"]) for row in rows]
    assert all(math.isfinite(norm) for norm in norms), norms
    assert max(norms) < 1000, norms
    losses = [float(row["loss"]) for row in rows if lm or row["full_context_ctc"]]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5]), losses
    shutil.rmtree(tmp_path / "run")
