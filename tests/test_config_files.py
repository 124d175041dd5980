"""Config files in Python and in JSON, and the one line that each mistake in them gets."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest

import joint_st.config.file
import joint_st.config.neighbours
from joint_st.cli import main
from joint_st.cli.parser import split_overrides
from joint_st.config import (
    AugmentationConfig,
    Config,
    LmConfig,
    LossConfig,
    Section,
    Source,
    TfdsSource,
    describe,
    load,
    override,
    register,
    registered,
    save,
)
from joint_st.config.file import extend, extensions, from_python
from joint_st.config.registry import unregister
from joint_st.errors import UserError
from tests.test_config import CONFIG, message

PREAMBLE = "from joint_st.config import *\n"
SOURCES = "train=[TfdsSource(name='a', split='train')]"


def test_a_python_file_is_run(tmp_path):
    file = tmp_path / "good.py"
    file.write_text(PREAMBLE + f"def config():\n    return Config(data=DataConfig({SOURCES}))\n")
    assert load(file).data.train == (TfdsSource(name="a", split="train"),)
    wide = tmp_path / "wide.py"
    wide.write_text(
        "from pathlib import Path\n" + PREAMBLE + "def config():\n"
        "    return override(load(Path(__file__).with_name('good.py')), {'model.width': 256})\n"
    )
    assert load(wide).model.width == 256


def test_annotations_of_a_python_file_may_be_postponed(tmp_path):
    file = tmp_path / "later.py"
    file.write_text(
        "from __future__ import annotations\n"
        "import dataclasses\n"
        + PREAMBLE
        + "@dataclasses.dataclass\nclass Sizes:\n    width: ClassVar[int] | int = 256\n\n"
        "from typing import ClassVar, Literal\n"
        "class Echo(AugmentationConfig):\n    kind: Literal['echo'] = 'echo'\n\n"
        f"def config():\n    return Config(data=DataConfig({SOURCES}), model=ModelConfig(width=Sizes().width))\n"
    )
    assert load(file).model.width == 256
    AugmentationConfig.registered["echo"].forget()
    names = {name for name in sys.modules if name.startswith("joint_st_file_")}
    file.write_text("raise ValueError('no')\n")
    with pytest.raises(UserError, match="later.py:1: ValueError: no"):
        load(file)
    assert {name for name in sys.modules if name.startswith("joint_st_file_")} == names


@pytest.mark.parametrize(
    "text, line",
    [
        ("x = 3\n", "{file}: defines no function config(); it should return a joint_st.config.Config"),
        ("def config():\n    return 3\n", "{file}: config() returned int, not joint_st.config.Config"),
        ("def config(:\n", "{file}:1: invalid syntax"),
        ("\nimport nothing_like_it\n", "{file}:2: ModuleNotFoundError: No module named 'nothing_like_it'"),
        (
            "def config():\n    return 1 // 0\n",
            "{file}:2: ZeroDivisionError: integer division or modulo by zero",
        ),
        (
            "import json\ndef config():\n    return json.loads('')\n",
            "{file}:3: JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
        ),
        (
            PREAMBLE + "def config():\n    return Config(model=ModelConfig(widht=3))\n",
            "{file}:3: model.widht: unknown key (= 3); did you mean model.width?",
        ),
        (
            PREAMBLE + "def config():\n    return Config(model=ModelConfig(features=FeaturesConfig(mels='x')))\n",
            "{file}:3: model.features.mels = x: should be a valid integer",
        ),
        (
            PREAMBLE + "def config():\n    return ModelConfig(features={'hihg_hz': 8000})\n",
            "{file}:3: model.features.hihg_hz: unknown key (= 8000); did you mean model.features.high_hz?",
        ),
        (
            PREAMBLE + "def config():\n    return ModelConfig(width=100, heads=3)\n",
            "{file}:3: model.heads: 3 heads must divide width 100 into even parts",
        ),
        (
            PREAMBLE + "def config():\n    return TfdsSource(name='a', spilt='b')\n",
            "{file}:3: TfdsSource.spilt: unknown key (= b); did you mean TfdsSource.split?",
        ),
        (PREAMBLE + "def config():\n    return Config()\n", "{file}:3: data: missing"),
        (
            PREAMBLE + "def config():\n    return Config(data=DataConfig(train=ManifestSource(path='a')))\n",
            "{file}:3: data.train: one source; write (source,)",
        ),
        (
            PREAMBLE
            + "def config():\n    m = ManifestSource(path='a')\n    return Config(data=DataConfig(train=(m,), test=m))\n",
            '{file}:4: data.test: one source; write {{"NAME": source}}',
        ),
        (
            PREAMBLE + "def config():\n    return Config(data=DataConfig(augmentation=Identity(), train=()))\n",
            "{file}:3: data.augmentation: one augmentation; write (augmentation,)",
        ),
        (
            PREAMBLE + "def config():\n    return Config(dta=3)\n",
            "{file}:3: dta: unknown key (= 3); did you mean data?",
        ),
        (
            PREAMBLE + f"def config():\n    return Config(data=dict({SOURCES}), model={{'kernel': 4}})\n",
            "{file}:3: model.kernel: 4 must be odd: full-context layers centre it on a frame",
        ),
    ],
)
def test_a_mistake_in_a_python_file_is_named_with_its_line(tmp_path, text, line):
    file = tmp_path / "bad.py"
    file.write_text(text)
    assert message(load, file) == line.format(file=file)


def test_files_that_are_no_config(tmp_path):
    (tmp_path / "quickstart.py").touch()
    (tmp_path / "notes.txt").touch()
    missing, folder = tmp_path / "quikstart.py", tmp_path / "folder"
    folder.mkdir()
    assert message(load, missing) == f"{missing}: no such file; did you mean {tmp_path / 'quickstart.py'}?"
    assert message(load, tmp_path / "other" / "x.py") == f"{tmp_path / 'other' / 'x.py'}: no such file"
    assert message(load, folder) == (
        f"{folder}: a folder without config.json; give a config file or the directory of a run"
    )
    assert message(load, tmp_path / "notes.txt") == (
        f"{tmp_path / 'notes.txt'}: a config is a Python file, a JSON file or the directory of a run"
    )


def test_json_brings_back_the_same_config(tmp_path):
    save(CONFIG, tmp_path / "config.json")
    assert load(tmp_path / "config.json") == load(tmp_path) == CONFIG
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]


def test_a_mistake_in_json(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text('{"data": {"train": [{"kind": "manifest", "path": "a"}]}, "sede": 3}')
    assert message(load, file) == f"{file}: sede: unknown key (= 3); did you mean seed?"
    file.write_text('{"data": {"train": [{"kind": "manifest", "path": "a"}]}, "losses": {"norms": {"weight": 1}}}')
    assert message(load, file).startswith(f'{file}: losses.norms: unknown key (= {{"weight": 1}}); losses has ctc, ')
    file.write_text("{")
    assert message(load, file) == f"{file}: not JSON: EOF while parsing an object at line 1 column 1"


def test_a_file_that_registers_a_section_makes_it_known_to_the_json_of_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(joint_st.config.file, "_extensions", {})
    own, run = tmp_path / "mine.py", tmp_path / "run.json"
    own.write_text(
        """
from joint_st.config import LossConfig, override, register, Config

@register("losses.squares")
class SquaresConfig(LossConfig):
    weight: float = 0.0

def config():
    return override(BASE, {"losses.squares.weight": 0.5})
""".replace("BASE", f"Config.model_validate_json({CONFIG.model_dump_json()!r})")
    )
    run.write_text('{"data": {"train": [{"kind": "manifest", "path": "a"}]}, "losses": {"squares": {"weight": 1}}}')
    assert message(load, run).endswith("given the file: joint-st --with FILE COMMAND")
    extend(own)
    try:
        extend(tmp_path / "." / "mine.py")  # would register the section a second time
        assert load(run).losses.squares.weight == 1
        assert load(own).losses.squares.weight == 0.5
        assert extensions() == [str(own)]
    finally:
        unregister("losses.squares")

    assert message(extend, tmp_path / "other.py").startswith(f"{tmp_path / 'other.py'}: no such file")
    (tmp_path / "other.py").write_text("x = 1\nx.y\n")
    assert message(extend, tmp_path / "other.py").startswith(f"{tmp_path / 'other.py'}:2: AttributeError: ")
    assert extensions() == [str(own)]


@pytest.fixture
def two_folders(tmp_path):
    """Two config files that import modules of the same names from their own folders, and from the other's."""
    before = set(sys.modules), list(sys.path)
    for name, width in (("one", 64), ("two", 128)):
        (tmp_path / name / "sizes_of_mine").mkdir(parents=True)
        (tmp_path / name / "sizes_of_mine" / "__init__.py").touch()
        (tmp_path / name / "sizes_of_mine" / "widths.py").write_text(f"WIDTH = {width}\n")
        (tmp_path / name / "steps_of_mine.py").write_text(f"STEPS = {width}\n")
        (tmp_path / name / "mine.py").write_text(
            PREAMBLE + "from pathlib import Path\nfrom sizes_of_mine.widths import WIDTH\n\n"
            "def config():\n    from steps_of_mine import STEPS\n"
            f"    data = DataConfig({SOURCES})\n"
            "    return Config(data=data, model=ModelConfig(width=WIDTH), training=TrainingConfig(steps=STEPS))\n"
        )
        (tmp_path / name / "both.py").write_text(
            PREAMBLE
            + "from pathlib import Path\n\ndef config():\n"
            "    other = load(Path(__file__).parents[1] / OTHER / 'mine.py')\n"
            "    from steps_of_mine import STEPS\n"
            "    return override(other, {'training.steps': STEPS})\n".replace(
                "OTHER", repr({"one": "two", "two": "one"}[name])
            )
        )
    yield tmp_path / "one", tmp_path / "two"
    assert sys.path == before[1]
    for name in set(sys.modules) - before[0]:
        if "_of_mine" in name:
            del sys.modules[name]


def test_a_file_imports_the_modules_of_its_own_folder(two_folders, monkeypatch):
    monkeypatch.setattr(joint_st.config.neighbours, "_imported", {})
    one, two = two_folders

    def sizes(file):
        config = load(file)
        return config.model.width, config.training.steps

    assert [sizes(folder / "mine.py") for folder in (one, two, one, two)] == [(64, 64), (128, 128)] * 2
    assert sizes(one / "both.py") == (128, 64) and sizes(two / "both.py") == (64, 128)
    (one / "bad.py").write_text("\nimport absent_of_mine\n")
    assert message(load, one / "bad.py") == f"{one / 'bad.py'}:2: ModuleNotFoundError: No module named 'absent_of_mine'"


def test_a_sweep_imports_the_modules_of_its_own_folder(two_folders, monkeypatch):
    monkeypatch.setattr(joint_st.config.neighbours, "_imported", {})
    for folder, steps in zip(two_folders, (64, 128)):
        (folder / "sweep.py").write_text("from steps_of_mine import STEPS\ndef runs():\n    yield STEPS\n")
        assert from_python(folder / "sweep.py", lambda module: list(module.runs())) == [steps]


@pytest.fixture
def own_fields():
    """A section with fields of types that no section of the package has."""

    class Part(Section):
        """A section that may be absent."""

        size: int = 1

    @register("losses.own_fields")
    class OwnFields(LossConfig):
        """Fields of many types."""

        weight: float = 0.0
        some: tuple[int, ...] | None = None
        few: tuple[int, ...] | None = (1,)
        listed: list[int] = [1]
        listed_or_none: Annotated[list[float] | None, "a comment"] = None
        any_list: list = []
        pair: tuple[int, str] = (1, "a")
        named: dict[str, float] | None = None
        flag: bool | None = None
        part: Part | None = None
        parts: list[Part] = []
        source: Source | None = None

    yield lambda name, value: override(CONFIG, {f"losses.own_fields.{name}": value})
    unregister("losses.own_fields")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("some", "1,2", (1, 2)),
        ("some", "[1, 2]", (1, 2)),
        ("some", "", ()),
        ("some.0", "3", (3,)),
        ("few", "none", None),
        ("few.1", "2", (1, 2)),
        ("few", (1, 2), (1, 2)),
        ("listed", "1,2", [1, 2]),
        ("listed", "[1, 2]", [1, 2]),
        ("listed.1", "2", [1, 2]),
        ("listed_or_none", "0.5", [0.5]),
        ("any_list", "a,b", ["a", "b"]),
        ("pair", "2,b", (2, "b")),
        ("named.a", "2", {"a": 2.0}),
        ("named", '{"a": 2}', {"a": 2.0}),
        ("flag", "true", True),
        ("flag", "none", None),
        ("part.size", "2", {"size": 2}),
        ("part", '{"size": 2}', {"size": 2}),
        ("parts.0.size", "2", [{"size": 2}]),
        ("source", "a.txt", {"kind": "manifest", "path": "a.txt", "corpus": "", "where": {}}),
    ],
)
def test_a_field_of_any_type_is_set_by_text(own_fields, name, text, value):
    found = own_fields(name, text).losses.own_fields
    first = name.partition(".")[0]
    assert found.model_dump()[first] == value and type(found.model_dump()[first]) is type(value)


def test_mistakes_in_fields_of_many_types_have_their_paths(own_fields):
    path = "losses.own_fields"
    assert message(own_fields, "part.sise", "2") == (
        f"{path}.part.sise: unknown key (= 2); did you mean {path}.part.size?"
    )
    assert message(own_fields, "part.size", "x") == f"{path}.part.size = x: should be a valid integer"
    assert message(own_fields, "listed", "1,x") == f"{path}.listed.1 = x: should be a valid integer"
    assert message(own_fields, "listed.3", "1") == f"{path}.listed.3: no such item; {path}.listed has 1, counted from 0"
    described = describe(own_fields("part.size", "2"))
    for line in (
        "some INTEGER,...|none   = null",
        "listed INTEGER,...   = [1]",
        "listed_or_none NUMBER,...|none   = null",
        "named {NAME: NUMBER}|none   = null",
        "flag true|false|none   = null",
        'part JSON|none   = {"size": 2}',
        "source SOURCE|none   = null",
    ):
        assert f"  --{path}.{line}\n" in described
    overrides, others = split_overrides([f"--{path}.flag", "--name", "x"], {}, Config)
    assert (overrides, others) == ({f"{path}.flag": "true", "name": "x"}, [])


def test_a_flag_of_a_files_own_section_needs_no_value(tmp_path, capsys):
    own = tmp_path / "mine.py"
    own.write_text(
        PREAMBLE + "@register('losses.squares')\n"
        "class SquaresConfig(LossConfig):\n    weight: float = 0.0\n    flag: bool = False\n\n"
        f"def config():\n    return Config.model_validate_json({CONFIG.model_dump_json()!r})\n"
    )
    train = ["train", str(own), "--print-config"]
    try:
        for arguments, line in (
            (["--losses.squares.flag"], ""),
            (["--losses.squares.flag", "--losses.squares.weight"], "--losses.squares.weight: a value is missing"),
            (["--losses.squares.flga"], "losses.squares.flga: unknown key (= ''); did you mean losses.squares.flag?"),
        ):
            # The section is not known when the arguments are split.
            if "squares" in registered("losses"):
                unregister("losses.squares")
            status = main([*train, *arguments])
            printed, said = capsys.readouterr()
            if line:
                assert (status, said) == (2, f"joint-st: error: {line}\n")
            else:
                assert status == 0 and re.search(r"losses.squares.flag += true", printed)
    finally:
        unregister("losses.squares")


@pytest.mark.parametrize("config", [CONFIG, LmConfig(data={"train": [{"kind": "text", "path": "x.txt"}]})])
def test_a_seed_has_32_bits(config):
    assert override(config, {"seed": 2**32 - 1}).seed == np.uint32(2**32 - 1)
    for seed, what in (
        (2**32, "less than 4294967296"),
        (10**20, "less than 4294967296"),
        (-1, "greater than or equal to 0"),
    ):
        assert message(override, config, {"seed": str(seed)}) == f"seed = {seed}: should be {what}"


CONFIGS = sorted(path for path in (Path(__file__).parents[1] / "configs").rglob("*.py") if path.parent.name != "sweeps")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_repositorys_configs_load(path):
    config = load(path, LmConfig if path.stem.endswith("_lm") else Config)
    assert config.name == path.stem
    assert override(config, {}) == config
