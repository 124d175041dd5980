"""Every field of the configuration changes something that can be observed.

`FIELDS` maps the dotted path of each field to another value of it and to a probe. A probe does with a config
what the program does (or the part of it that the field is for), and returns a fingerprint of what came out.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import pytest

from joint_st.config import AugmentationConfig, Config, ManifestSource, MixtureConfig, Section, override, register
from joint_st.config.registry import unregister
from joint_st.config.sections.data import Source
from joint_st.config.tree import kinds, leaves
from joint_st.data import augmentation, mixture
from joint_st.data.tokenizers import Characters
from joint_st.heads.base import HEADS, register_head
from joint_st.heads.ctc import CtcHead
from tests.field_probes import beginning, confused, evaluation, forward, loss, sources, step, training, updates
from tests.tiny import tiny_config
from tests.training import toy_run


@pytest.fixture(scope="module", autouse=True)
def louder():
    """Another kind of head to name, registered as long as these tests last."""

    @register("heads.louder")
    class LouderConfig(Section):
        """A kind of head of the tests' own."""

    @register_head("louder")
    class Louder(CtcHead):
        """CTC with logits twice as large."""

        def __call__(self, x):
            return 2 * super().__call__(x)

    yield
    unregister("heads.louder")
    HEADS.forget("louder")


@pytest.fixture(scope="module", autouse=True)
def other_kinds():
    """Register a second mixture and a second augmentation as long as these tests last."""

    class Twice(MixtureConfig):
        kind: Literal["twice"] = "twice"

    @mixture.mixes("twice")
    class TwiceMixture(mixture.EveryRowOnce):
        def size(self, rows):
            return 2 * len(rows)

        def draw(self, rows, random):
            return random.permutation(np.tile(rows, 2))

    class Softer(AugmentationConfig):
        kind: Literal["softer"] = "softer"

    @augmentation.augments("softer")
    class SofterSpeech(augmentation.Unchanged):
        def __call__(self, speech, random):
            return speech._replace(audio=speech.audio // 2)

    yield
    Twice.forget()
    Softer.forget()
    mixture.KINDS.forget("twice")
    augmentation.KINDS.forget("softer")


# The table


class Field(NamedTuple):
    value: Any
    """Another value than the base's. `{place}` in a string is a folder with the manifest `other.jsonl`."""
    probe: Callable
    given: dict = {}
    """What else must be set, before and after, for the field to matter."""


WORDPIECES = {"data.tokenizer.kind": "sentencepiece", "data.tokenizer.vocabulary_size": 40}
OTHER = {"kind": "manifest", "path": "{place}/other.jsonl"}

UNITS_AND_TEXT = {"data.units.kind": "characters", "data.text_batch_size": 4}
JOINT = UNITS_AND_TEXT | {"losses.reconstruction.full_context": 0.5, "losses.consistency.weight": 0.1}
TAKEN = {"training.init.run": "{place}/begun"}

FIELDS = {
    "name": Field("other", training),
    "seed": Field(1, training),
    "data.train.0.kind": Field({"data.train.0": OTHER}, training),
    "data.train.0.name": Field("spoken_grammar/huge", training),
    "data.train.0.split": Field("train[:12]", training),
    "data.train.0.data_dir": Field("{place}", training),
    "data.train.1.kind": Field({"data.train.1": {"kind": "text", "path": "{place}/a.txt"}}, training),
    "data.train.1.path": Field("{place}/other.jsonl", training),
    "data.train.1.corpus": Field("mine", sources),
    "data.train.1.where": Field({"text": ["nobody says this"]}, training),
    "data.dev": Field([OTHER], training, {"data.dev": []}),
    "data.test": Field({"test": OTHER}, training),
    "data.text.0.kind": Field({"data.text.0": OTHER}, training),
    "data.text.0.path": Field("{place}/b.txt", training),
    "data.text.0.language": Field("de", sources),
    "data.text.0.leave_out": Field("longer", training, {"data.text.0.path": "{place}/long_and_short.txt"}),
    "data.normalizer": Field("none", training),
    "data.tokenizer.kind": Field("sentencepiece", training, {"data.tokenizer.vocabulary_size": 40}),
    "data.tokenizer.vocabulary_size": Field(44, training, WORDPIECES),
    "data.tokenizer.path": Field("{place}/tokenizer", training),
    "data.units.kind": Field("phonemes", training),
    "data.units.vocabulary_size": Field(44, training, {"data.units": {"kind": "sentencepiece", "vocabulary_size": 40}}),
    "data.units.boundaries": Field(False, training, {"data.units.kind": "phonemes"}),
    "data.units.language": Field("de", training, {"data.units.kind": "phonemes", "data.text.0.language": ""}),
    "data.mixture.kind": Field("twice", training),
    "data.text_mixture.kind": Field("twice", training, UNITS_AND_TEXT),
    "data.augmentation": Field([{"kind": "softer"}], training),
    "data.index_cache": Field("{place}/index", training),
    "data.min_seconds": Field(2.5, training),
    "data.max_seconds": Field(2.5, training),
    "data.batch_size": Field(8, training),
    "data.buckets": Field(3, training),
    "data.text_batch_size": Field(2, training, UNITS_AND_TEXT),
    "data.max_text_units": Field(20, training, UNITS_AND_TEXT),
    "data.text_buckets": Field(2, training, UNITS_AND_TEXT | {"data.text.0.path": "{place}/long_and_short.txt"}),
    "data.read_threads": Field(3, training),
    "data.prefetch_batches": Field(3, training),
    "data.keep_audio_gib": Field(0.5, training),
    "data.length_tolerance": Field(0.1, training, {"data.train.1.path": "{place}/late.jsonl"}),
    "data.read_timeout_seconds": Field(300.0, training),
    "data.strict": Field(True, training),
    "model.features.sample_rate": Field(8_000, forward, {"model.features.high_hz": 3_800}),
    "model.features.window_ms": Field(20, forward),
    "model.features.hop_ms": Field(12.5, forward),
    "model.features.mels": Field(12, forward),
    "model.features.low_hz": Field(60, forward),
    "model.features.high_hz": Field(7_000, forward),
    "model.features.level": Field("none", forward),
    "model.features.level_weight": Field(3.0, forward),
    "model.features.remove_offset": Field(False, forward),
    "model.features.floor_db": Field(40.0, forward),
    "model.width": Field(16, forward),
    "model.heads": Field(4, forward),
    "model.feed_forward": Field(3, forward),
    "model.kernel": Field(5, forward),
    "model.left_context": Field(5, forward),
    "model.look_ahead_ms": Field([80], forward),
    "model.audio_layers": Field(1, forward),
    "model.streaming_layers": Field(2, forward),
    "model.full_context_layers": Field(2, forward),
    "model.text_layers": Field(1, loss, JOINT),
    "model.text_positions": Field("sinusoidal", loss, JOINT),
    "model.text_depth": Field(1, loss, JOINT),
    "model.text_scale": Field(0.5, loss, JOINT),
    "model.text_blanks": Field(True, loss, JOINT),
    "model.unit_conditioning": Field("replace", loss, JOINT | {"losses.unit_ctc.weight": 0.3}),
    "model.dropout": Field(0.2, forward),
    "model.compute_dtype": Field("bfloat16", forward),
    "model.products": Field("rounded", forward),
    "model.remat": Field(True, step),
    "model.attention": Field("fused", loss, {"model.compute_dtype": "bfloat16", "model.width": 16, "model.heads": 2}),
    "model.unroll": Field(2, step, {"model.streaming_layers": 2}),
    "heads.streaming": Field("louder", loss),
    "heads.full_context": Field("louder", loss),
    "losses.ctc.streaming": Field(0.4, loss),
    "losses.ctc.full_context": Field(0.4, loss),
    "losses.reconstruction.streaming": Field(0.3, loss, UNITS_AND_TEXT),
    "losses.reconstruction.full_context": Field(0.3, loss, UNITS_AND_TEXT),
    "losses.reconstruction.paired": Field(0.3, loss, JOINT),
    "losses.cr_ctc.weight": Field(0.2, loss),
    "losses.unit_ctc.weight": Field(0.3, loss, UNITS_AND_TEXT),
    "losses.consistency.weight": Field(0.2, loss, JOINT),
    "losses.consistency.warmup_steps": Field(5, loss, JOINT),
    "losses.consistency.alignment": Field("dtw", loss, JOINT),
    "losses.consistency.cost": Field("cosine", loss, JOINT),
    "losses.consistency.temperature": Field(2.0, loss, JOINT | {"losses.consistency.alignment": "soft"}),
    "losses.consistency.gradient": Field("audio", step, JOINT),
    "losses.consistency.layers": Field([0], loss, JOINT),
    "losses.consistency.text": Field("masked", loss, JOINT),
    "text.repetition": Field("fixed", loss, JOINT),
    "text.repeat_least": Field(2, loss, JOINT),
    "text.repeat_most": Field(4, loss, JOINT),
    "text.mask_share": Field(0.3, loss, JOINT),
    "text.mask_span": Field(3, loss, JOINT),
    "text.substituted_share": Field(0.2, loss, JOINT),
    "text.confusions": Field("{place}/absent.json", training, JOINT),
    "text.confusion_scale": Field(2.0, confused, JOINT),
    "text.noise": Field(0.5, loss, JOINT),
    "spec_augment.frequency_masks": Field(1, loss),
    "spec_augment.frequency_width": Field(3, loss),
    "spec_augment.time_masks": Field(1, loss),
    "spec_augment.time_share": Field(0.1, loss),
    "optimizer.kind": Field("muon", updates),
    "optimizer.peak_learning_rate": Field(1e-3, updates),
    "optimizer.warmup_steps": Field(3, updates),
    "optimizer.final_share": Field(0.5, updates),
    "optimizer.beta1": Field(0.8, updates),
    "optimizer.beta2": Field(0.9, updates),
    "optimizer.weight_decay": Field(0.1, updates),
    "optimizer.clip_norm": Field(0.1, updates),
    "optimizer.skip_above": Field(10.0, updates),
    "optimizer.skip_window": Field(64, updates, {"optimizer.skip_above": 10.0}),
    "optimizer.ema_decay": Field(0.9, step),
    "training.steps": Field(7, training),
    "training.text_first_steps": Field(2, training, JOINT),
    "training.text_from_step": Field(2, training, JOINT),
    "training.text_ramp_steps": Field(3, loss, JOINT),
    "training.accumulation": Field(2, step),
    "training.log_every": Field(3, training),
    "training.evaluate_every": Field(5, training),
    "training.checkpoint_every": Field(5, training),
    "training.keep_latest": Field(3, training),
    "training.keep_best": Field(2, training),
    "training.loggers": Field(["tensorboard"], training),
    "training.compilation_cache": Field("{place}/compiled", training),
    "training.init.run": Field("{place}/begun", beginning),
    "training.init.checkpoint": Field("latest", beginning, TAKEN),
    "training.init.average": Field(False, beginning, TAKEN),
    "training.init.rename": Field({"audio": "shared", "shared": "audio"}, beginning, TAKEN),
    "training.init.include": Field(["audio"], beginning, TAKEN),
    "training.init.exclude": Field(["audio"], beginning, TAKEN),
    "training.init.allow": Field(["shared", "spare"], beginning, TAKEN | {"training.init.rename": {"shared": "spare"}}),
    "evaluation.batch_size": Field(4, training),
    "evaluation.bootstrap_samples": Field(200, evaluation),
    "evaluation.ngram_order": Field(2, training, {"data.test": {"test": OTHER}}),
    "evaluation.rank_by": Field("cer", training),
    "parallel.data": Field(2, training),
    "parallel.fsdp": Field(2, training),
    "parallel.tensor": Field(2, training),
    "parallel.slices": Field(2, training),
    "parallel.cpu_devices": Field(2, training),
}


def base_config(corpora: Path, place: Path) -> Config:
    """Return a tiny run with a source of every kind, one utterance of which cannot be read."""
    smaller = {
        "model.width": 8,
        "model.audio_layers": 0,
        "model.features.mels": 8,
        "model.left_context": 4,
    }
    train = tiny_config(corpora).data.train
    text = [{"kind": "text", "path": str(place / "a.txt")}]
    manifest = ManifestSource(path=str(place / "some.jsonl"))
    return override(
        tiny_config(corpora, smaller),
        {"data.train": [*train, manifest], "data.dev": [manifest], "data.test": {}, "data.text": text},
    )


# Sources have paths of their own; a config of none has these as fields.
BASE = override(base_config(Path("x"), Path("x")), {"data.dev": []})
PATHS = [leaf.path for leaf in leaves(BASE)]


@pytest.fixture(scope="session")
def place(once, spoken) -> Path:
    """The files and folders that the values above name."""

    def make(folder):
        folder.mkdir()
        lines = (spoken / "test.jsonl").read_text().replace('"audio_filepath": "', f'"audio_filepath": "{spoken}/')
        lines = lines.splitlines(keepends=True)
        absent = '{"audio_filepath": "absent.wav", "duration": 1.5, "text": "nothing"}\n'
        (folder / "some.jsonl").write_text("".join(lines[:4]) + absent)
        late = [{**one, "duration": one["duration"] + 0.2} for one in map(json.loads, lines)]
        (folder / "late.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in late))
        (folder / "other.jsonl").write_text("".join(lines[2:]))
        (folder / "a.txt").write_text("A sentence, only read.\n")
        (folder / "long_and_short.txt").write_text("Short.\n" * 40 + "A sentence that is a good deal longer.\n" * 40)
        (folder / "b.txt").write_text("Another one; it has 12 words.\n")
        Characters(" 'abcdefghijklmnopqrstuvwxyz_").save(folder / "tokenizer")
        toy_run.save_run(folder / "begun", {1: 10, 2: 20}, {1: 0.1, 2: 0.2})

    return once("fields", make)


_known = {}


def fingerprint(probe, config, folder):
    """Return the probe's fingerprint; it is cached, because many fields share the one without the change."""
    key = probe.__name__, config.model_dump_json()
    if key not in _known:
        folder.mkdir()
        _known[key] = probe(config, folder)
    return _known[key]


def filled(value, place):
    """Return the value with `{place}` filled in."""
    if isinstance(value, str):
        return value.replace("{place}", str(place))
    if isinstance(value, dict):
        return {key: filled(inner, place) for key, inner in value.items()}
    return [filled(inner, place) for inner in value] if isinstance(value, list) else value


def case(path: str):
    """Return the parameter of a field's test; those that trace a step or a model take minutes of a core together."""
    traced = path in FIELDS and FIELDS[path].probe in (forward, loss, step)
    return pytest.param(path, marks=pytest.mark.slow) if traced else path


@pytest.mark.parametrize("path", [case(path) for path in PATHS])
def test_every_field_changes_something(path, corpora, place, tmp_path):
    assert path in FIELDS, f"{path} is new: say in FIELDS what it changes"
    field = FIELDS[path]
    jax.devices()  # `parallel.cpu_devices` must come too late for this process
    before = override(base_config(corpora, place), filled(field.given, place))
    value = filled(field.value, place)
    changes = value if path.endswith(".kind") and isinstance(value, dict) else {path: value}
    after = override(before, changes)
    assert after != before
    without, with_change = (
        fingerprint(field.probe, config, tmp_path / name) for config, name in ((before, "a"), (after, "b"))
    )
    assert with_change != without


def test_the_table_names_fields_alone():
    assert set(FIELDS) == set(PATHS)
    used = {source.kind for source in (*BASE.data.train, *BASE.data.text)}
    assert used == set(kinds(Source)), "sources of every kind have their fields in the table"


@pytest.mark.parametrize("probe", [forward, loss, step, updates, sources, training, beginning, evaluation])
def test_probes_repeat_themselves(probe, corpora, place, tmp_path):
    """A probe that gives another fingerprint each time would prove nothing."""
    config = base_config(corpora, place)
    first = fingerprint(probe, config, tmp_path / "a")
    again = tmp_path / "b"
    again.mkdir()
    assert probe(config, again) == first
