"""Config files, overrides by dotted path, and the one line that each mistake gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from joint_st.cli.parser import split_overrides
from joint_st.config import (
    Config,
    DataConfig,
    FeaturesConfig,
    ManifestSource,
    ModelConfig,
    TextSource,
    TfdsSource,
    check_devices,
    describe,
    override,
    parse_source,
    show,
)
from joint_st.config.tree import leaves, paths, sections
from joint_st.errors import UserError

CONFIG = Config(
    name="small",
    data=DataConfig(
        train=(TfdsSource(name="grammar", split="train"),),
        test={"held_out": ManifestSource(path="test.jsonl")},
    ),
)


def message(function, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("value", [256, "256"])
def test_a_value_is_taken_as_is_or_parsed(value):
    assert override(CONFIG, {"model.width": value}) == Config(
        name="small", data=CONFIG.data, model=ModelConfig(width=256)
    )
    assert CONFIG.model.width == 144


@pytest.mark.parametrize(
    "path, text, value",
    [
        ("seed", "7", 7),
        ("parallel.data", "-1", -1),
        ("optimizer.peak_learning_rate", "1e-3", 1e-3),
        ("data.strict", "true", True),
        ("data.strict", "off", False),
        ("model.compute_dtype", "bfloat16", "bfloat16"),
        ("training.compilation_cache", "", ""),
        ("training.loggers", "tensorboard,wandb", ("tensorboard", "wandb")),
        ("training.loggers", '["wandb"]', ("wandb",)),
        ("training.loggers", "", ()),
        ("training.loggers", " tensorboard, wandb ,", ("tensorboard", "wandb")),
        (
            "data.train",
            "a.jsonl,tfds:b:test",
            (ManifestSource(path="a.jsonl"), TfdsSource(name="b", split="test")),
        ),
        ("data.train.0", "a.jsonl", ManifestSource(path="a.jsonl")),
        ("data.train.0", '{"kind": "text", "path": "a.txt"}', TextSource(path="a.txt")),
        ("data.train.1", "a.jsonl", ManifestSource(path="a.jsonl")),
        ("data.train.0.split", "train[:10%]", "train[:10%]"),
        ("data.test.new", "tfds:b:test", TfdsSource(name="b", split="test")),
        ("data.test.held_out.path", "b.jsonl", "b.jsonl"),
        ("model.features", '{"mels": 40}', ModelConfig(features={"mels": 40}).features),
        ("data.train.0.path", Path("a.jsonl"), None),
    ],
)
def test_strings_are_parsed_by_the_type_of_the_field(path, text, value):
    changes = {path: text} if value is not None else {"data.train.0": ManifestSource(path="x"), path: text}
    found = override(CONFIG, changes)
    for part in path.split("."):
        if isinstance(found, dict):
            found = found[part]
        else:
            found = found[int(part)] if isinstance(found, tuple) else getattr(found, part)
    assert found == (str(text) if value is None else value)


def test_changes_that_fit_only_together_may_be_given_together():
    message(override, CONFIG, {"model.heads": 5})
    message(override, CONFIG, {"model.width": 160, "model.heads": 6})
    changed = override(CONFIG, {"model.heads": 5, "model.width": 160})
    assert (changed.model.heads, changed.model.width) == (5, 160)


def test_another_kind_of_source_starts_afresh():
    changed = override(CONFIG, {"data.train.0.path": "a.jsonl", "data.train.0.kind": "manifest"})
    assert changed.data.train == (ManifestSource(path="a.jsonl"),)


@pytest.mark.parametrize(
    "changes, path, value",
    [
        ({"data.train": "a.jsonl", "data.train.0.where.speaker": "p1,p2"}, "train", {"speaker": ("p1", "p2")}),
        (
            {"data.train.0.kind": "manifest", "data.train.0.path": "a", "data.train.0.where.id": "u"},
            "train",
            {"id": ("u",)},
        ),
        (
            {"data.augmentation.0.kind": "speed", "data.augmentation.0.factors.1": "1.05"},
            "augmentation",
            (0.9, 1.05, 1.1),
        ),
        ({"data.augmentation": "speed", "data.augmentation.0.factors.3": "1.2"}, "augmentation", (0.9, 1.0, 1.1, 1.2)),
    ],
)
def test_parts_of_a_field_that_has_its_default_are_set_singly(changes, path, value):
    (section,) = getattr(override(CONFIG, changes).data, path)
    assert (section.where if path == "train" else section.factors) == value


TEXT = {
    "data.units.kind": "characters",
    "data.text": "text:a.txt",
    "data.text_batch_size": 4,
    "losses.reconstruction.streaming": 0.1,
}
"""Fields of a run that also trains on text without audio."""
WEIGHT = "losses.reconstruction.streaming or losses.reconstruction.full_context"


@pytest.mark.parametrize(
    "changes, lines",
    [
        (dict.fromkeys(TEXT), []),
        ({}, []),
        (
            {"data.text_batch_size": None},
            ["data.text: nothing trains on it; set data.text_batch_size above 0, or take it out"],
        ),
        (
            {"data.text_batch_size": None, "losses.reconstruction.streaming": None},
            [
                f"data.text: nothing trains on it; set data.text_batch_size, and {WEIGHT}, above 0, or take it out",
            ],
        ),
        (
            {"losses.reconstruction.streaming": 0},
            [
                "data.text_batch_size: 4 sentences a step, and no loss trains on them; "
                f"set {WEIGHT} above 0, or it to 0",
            ],
        ),
        ({"losses.reconstruction.streaming": 0, "losses.reconstruction.full_context": 1}, []),
        ({"losses.reconstruction.paired": 0}, []),
        (
            {"evaluation.ngram_order": 2, "data.dev": "a.jsonl", "data.test": {}},
            [
                "evaluation.ngram_order: no test split is decoded with it; name one in data.test, or set it to 0",
            ],
        ),
        (
            {"data.text": None, "data.text_batch_size": None, "losses.reconstruction.paired": 0},
            [
                "losses.reconstruction: it has a weight, and there is no text to reconstruct; "
                "set losses.reconstruction.paired or data.text_batch_size above 0, or its weights to 0",
            ],
        ),
    ],
    ids=str,
)
def test_what_nothing_uses_is_named(changes, lines):
    given = {path: value for path, value in {**TEXT, **changes}.items() if value is not None}
    assert [str(unused) for unused in override(CONFIG, given).unused] == lines


@pytest.mark.parametrize(
    "changes, line",
    [
        ({"model.widht": 3}, "model.widht: unknown key (= 3); did you mean model.width?"),
        ({"modle.width": "3"}, "modle.width: unknown key (= 3); did you mean model.width?"),
        ({"width": 3}, "width: unknown key (= 3); did you mean model.width?"),
        ({"model.batch_size": 8}, "model.batch_size: unknown key (= 8); did you mean data.batch_size?"),
        ({"train.steps": 3}, "train.steps: unknown key (= 3); did you mean training.steps?"),
        *(
            (
                {f"losses.norms{field}": 3},
                f"losses.norms{field}: unknown key (= 3); losses has ctc, cr_ctc, unit_ctc, reconstruction, "
                "consistency; a section that a Python file of your own defines is known to commands that are given the "
                "file: joint-st --with FILE COMMAND",
            )
            for field in ("", ".weight")
        ),
        ({"model.width.x": 3}, "model.width.x: unknown key (= 3); did you mean model.width?"),
        (
            {"model.features.zzz": 3},
            "model.features.zzz: unknown key (= 3); "
            "model.features has sample_rate, window_ms, hop_ms, mels, low_hz, high_hz, level, level_weight, "
            "remove_offset, floor_db",
        ),
        (
            {"data.train.0.spilt": "a"},
            "data.train.0.spilt: unknown key (= a); did you mean data.train.0.split?",
        ),
        (
            {"data.train.0.path": "a"},
            "data.train.0.path: unknown key (= a); data.train.0 has kind, name, split, data_dir",
        ),
        ({"model": {"widht": 3}}, "model.widht: unknown key (= 3); did you mean model.width?"),
        ({"model.width": "wide"}, "model.width = wide: should be a valid integer"),
        (
            {"model.width": 2.5},
            "model.width = 2.5: should be a valid integer, got a number with a fractional part",
        ),
        ({"model.width": None}, "model.width = null: should be a valid integer"),
        ({"model.dropout": "nan"}, "model.dropout = nan: should be a finite number"),
        ({"data.strict": "perhaps"}, "data.strict = perhaps: should be a valid boolean"),
        ({"model.compute_dtype": "int8"}, "model.compute_dtype = int8: should be 'float32' or 'bfloat16'"),
        ({"training.loggers": "csv"}, "training.loggers.0 = csv: should be 'tensorboard' or 'wandb'"),
        ({"optimizer.beta1": 1.0}, "optimizer.beta1 = 1.0: should be less than 1"),
        ({"name": ""}, "name = '': should have at least 1 character"),
        ({"data.train": ""}, "data.train = []: should have at least 1 item"),
        ({"data.test": "{"}, "data.test = {: not JSON at character 1"),
        (
            {"data.train.0.kind": "manifst"},
            "data.train.0.kind = manifst: should be 'manifest', 'tfds' or 'text'",
        ),
        (
            {"data.train": [{"path": "a"}]},
            "data.train.0.kind: missing; should be 'manifest', 'tfds' or 'text'",
        ),
        ({"data.train": [{"kind": "manifest"}]}, "data.train.0.path: missing"),
        ({"data.test.new.path": "a"}, "data.test.new.kind: missing; should be 'manifest', 'tfds' or 'text'"),
        ({"data.test.new": "tfds:b"}, "tfds:b: names no split; a TFDS dataset is written tfds:NAME:SPLIT"),
        ({"data.train.5": "a"}, "data.train.5: no such item; data.train has 1, counted from 0"),
        ({"model.heads": 5}, "model.heads: 5 heads must divide width 144 into even parts"),
        (
            {"model.features.high_hz": 9000},
            "model.features.high_hz: 9000.0 must lie above low_hz 20.0 and at or below half of sample_rate 16000",
        ),
        (
            {**TEXT, "training.text_first_steps": 300, "training.steps": 20},
            "training.text_first_steps: 300 must be below training.steps 20; "
            "lower it, as --training.text_first_steps 0",
        ),
        (
            {**TEXT, "training.text_from_step": 30, "training.steps": 20},
            "training.text_from_step: 30 must be below training.steps 20; lower it, as --training.text_from_step 0",
        ),
        (
            {**TEXT, "training.text_from_step": 30, "training.text_first_steps": 20},
            "training.text_from_step: 30, and training.text_first_steps is 20: text comes before speech or after it; set "
            "one of them to 0",
        ),
        (
            {**TEXT, "training.text_ramp_steps": 30, "losses.reconstruction.streaming": 0},
            "training.text_ramp_steps: 30, and no loss needs text; set a weight of losses.reconstruction above 0 (a loss of "
            "your own says by its section's needs_text that it does)",
        ),
        (
            {**TEXT, "training.text_from_step": 5, "losses.ctc": {"streaming": 0, "full_context": 0}},
            "training.text_from_step: 5 steps without text need a loss of speech, as a weight of losses.ctc",
        ),
        (
            {"model.text_depth": 4},
            "model.text_depth: 4 leaves none of the 4 shared layers for text; 3 is the largest",
        ),
        (
            {**TEXT, "model.text_depth": 3},
            "losses.reconstruction.streaming: 0.1, and text at model.text_depth 3 enters above the streaming head, which "
            "reads the output of layer 2; set it to 0, or lower the depth",
        ),
        (
            {**TEXT, "model.text_depth": 2, "losses.consistency": {"weight": 0.1, "layers": [-1, 1]}},
            "losses.consistency.layers: 1 is below model.text_depth 2, where text enters; name depths from 2 to 4",
        ),
        ({"training.accumulation": 3}, "training.accumulation: 3 parts must divide data.batch_size 16"),
        ({"parallel.data": 0}, "parallel.data: 0 devices cannot compute; -1 takes all that the other axes leave"),
        ({"parallel.tensor": -1}, "parallel.tensor: -1, and data is -1 too; give data a number: one can take the rest"),
        (
            {"seed": "x", "model.width": "y", "model.heads": "z"},
            "seed = x: should be a valid integer (and 2 more)",
        ),
        (
            {"model": "abc", "model.width": "8"},
            "model = abc: is no section, and model.width is a part of it; leave one of the two out",
        ),
        (
            {"data.train": "[1]", "data.train.0.path": "a"},
            "data.train.0 = 1: is no section, and data.train.0.path is a part of it; leave one of the two out",
        ),
        (
            {"model.look_ahead_ms": 80, "model.look_ahead_ms.1": 160},
            "model.look_ahead_ms = 80: is no list, and model.look_ahead_ms.1 is a part of it; leave one of the two out",
        ),
        (
            {"data.train.0": {"path": "a"}, "data.train.0.corpus": "b"},
            "data.train.0.kind: missing; should be 'manifest', 'tfds' or 'text'",
        ),
        (
            {"data.train.0": {"kind": ["a"]}, "data.train.0.corpus": "b"},
            "data.train.0.kind = [\"a\"]: should be 'manifest', 'tfds' or 'text'",
        ),
        (
            {"data.train.0": "caf\udce9.jsonl", "model.width": "x"},
            "data.train.0.path = caf\\xe9.jsonl: is not in UTF-8; give the file a name that is (and 1 more)",
        ),
        (
            {"data.train.0": "a.jsonl", "data.train.0.where.id": "a,caf\udce9"},
            'data.train.0.where = {"id": ["a", "caf\\udce9"]}: is not in UTF-8; give the file a name that is',
        ),
        (
            {"training.init.include": "caf\udce9"},
            'training.init.include = ["caf\\udce9"]: is not in UTF-8; give the file a name that is',
        ),
        ({"sed": 1, "model.widht": 2}, "sed: unknown key (= 1); did you mean seed? (and 1 more)"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_with_its_path_and_value(changes, line):
    assert message(override, CONFIG, changes) == line


def test_every_path_of_a_config_is_accepted_with_its_own_value():
    changes = {leaf.path: leaf.value for leaf in leaves(CONFIG)}
    assert override(CONFIG, changes) == CONFIG


@pytest.mark.parametrize(
    "spec, source",
    [
        ("corpus/test.jsonl", ManifestSource(path="corpus/test.jsonl")),
        ("text:a.txt", TextSource(path="a.txt")),
        ("tfds:grammar:train[:10%]+test", TfdsSource(name="grammar", split="train[:10%]+test")),
        ("tfds:grammar/tiny:1.0.0:test", TfdsSource(name="grammar/tiny:1.0.0", split="test")),
    ],
)
def test_sources_written_short(spec, source):
    assert parse_source(spec) == source


def test_show_marks_what_differs_from_the_defaults():
    lines = show(override(CONFIG, {"model.width": 256})).splitlines()
    rows = {line.split(" = ")[0].strip(): line.split(" = ")[1] for line in lines}
    assert rows["model.width"] == "256   # default 144"
    assert rows["model.heads"] == "4"
    assert rows["data.train.0.split"] == '"train"'
    assert rows["data.test.held_out.path"] == '"test.jsonl"'
    assert len({line.index(" = ") for line in lines}) == 1


def test_every_field_has_a_docstring_and_is_described():
    undocumented = [leaf.path for leaf in leaves(CONFIG) if not leaf.help and not leaf.path.endswith(".kind")]
    assert undocumented == []
    text = describe(CONFIG)
    groups = {path for path, _ in sections()}
    for path in paths():
        assert f"--{path} " in text or path in groups, path
    assert '--model.compute_dtype float32|bfloat16   = "float32"' in text


@pytest.mark.parametrize(
    "changes, devices, expected",
    [
        ({}, 8, 8),
        ({"parallel.data": 4}, 4, 4),
        ({"data.batch_size": 16, "training.accumulation": 2}, 8, 8),
        ({"parallel.fsdp": 4}, 8, 8),
        ({"parallel.fsdp": 2, "parallel.tensor": 2}, 8, 4),
        ({"data.batch_size": 10, "evaluation.batch_size": 10, "parallel.data": 2, "parallel.tensor": 4}, 8, 2),
        (
            {"parallel.data": 3},
            8,
            "parallel.data: data 3 × fsdp 1 × tensor 1 make 3 devices, and there are 8; they must be equal, "
            "and -1 takes what the others leave",
        ),
        (
            {"parallel.fsdp": 32},
            32,
            "model.width: 144 must be a multiple of the 32 devices of parallel.fsdp",
        ),
        (
            {"parallel.tensor": 8},
            8,
            "model.heads: 4 must be a multiple of the 8 devices of parallel.tensor",
        ),
        (
            {"data.batch_size": 12},
            8,
            "data.batch_size: 12 must be a multiple of the 8 devices that share a batch",
        ),
        (
            {"training.accumulation": 4},
            8,
            "data.batch_size: 16 / training.accumulation 4 = 4 must be a multiple of the 8 devices that share a batch",
        ),
        (
            {"evaluation.batch_size": 20},
            8,
            "evaluation.batch_size: 20 must be a multiple of the 8 devices that share a batch",
        ),
    ],
)
def test_batches_divide_over_the_devices(changes, devices, expected):
    config = override(CONFIG, changes)
    if isinstance(expected, int):
        assert check_devices(config, devices) == expected
    else:
        assert message(check_devices, config, devices) == expected


OPTIONS = {"--help": False, "--workdir": True}


@pytest.mark.parametrize(
    "arguments, overrides, others",
    [
        ("c.py --model.width 256", {"model.width": "256"}, "c.py"),
        ("--model.width=256 c.py", {"model.width": "256"}, "c.py"),
        ("c.py --parallel.data -1 --workdir w", {"parallel.data": "-1"}, "c.py --workdir w"),
        ("--optimizer.peak_learning_rate -1e-3 c.py", {"optimizer.peak_learning_rate": "-1e-3"}, "c.py"),
        ("--data.strict c.py", {"data.strict": "true"}, "c.py"),
        ("--data.strict false c.py -h", {"data.strict": "false"}, "c.py -h"),
        ("--data.strict --seed 3 c.py", {"data.strict": "true", "seed": "3"}, "c.py"),
        ("--seed 3 --seed 4 c.py", {"seed": "4"}, "c.py"),
        (
            "--workdir=w --training.compilation_cache= c.py",
            {"training.compilation_cache": ""},
            "--workdir=w c.py",
        ),
    ],
)
def test_overrides_among_arguments(arguments, overrides, others):
    assert split_overrides(arguments.split(), OPTIONS, Config) == (overrides, others.split())


@pytest.mark.parametrize(
    "arguments, line",
    [
        ("c.py --model.width", "--model.width: a value is missing"),
        ("c.py --model.width --seed 3", "--model.width: a value is missing"),
        ("c.py --workdri x", "--workdri: unknown option; did you mean --workdir?"),
    ],
)
def test_mistakes_among_arguments(arguments, line):
    assert message(split_overrides, arguments.split(), OPTIONS, Config) == line


def test_samples_frames_and_seconds():
    features = FeaturesConfig()
    assert (features.samples_per_frame, features.frame_seconds, features.frame_ms) == (640, 0.04, 40)
    assert [features.frames(samples) for samples in (0, 1, 640, 641)] == [0, 1, 1, 2]
    assert [features.nearest_frames(seconds) for seconds in (0.019, 0.021, 30)] == [0, 1, 750]
    assert [features.samples(seconds) for seconds in (0.3, 4800.000000000001 / 16_000, 0.30001)] == [4800, 4800, 4801]
    assert (features.frames_ms(25), features.seconds(8000)) == (1000, 0.5)
