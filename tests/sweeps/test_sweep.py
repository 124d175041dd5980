"""Sweep files: their runs, and the errors about mistakes in them."""

from __future__ import annotations

import json
import re
import sys
import types
from pathlib import Path

import pytest

import joint_st.config
from joint_st.cli import main
from joint_st.config import load, override
from joint_st.errors import UserError
from joint_st.sweeps import load_sweep
from joint_st.sweeps.collect import differing_fields
from joint_st.sweeps.runner import train_command
from tests.sweeps.conftest import write_sweep
from tests.tiny import CHECKOUT

GRID = """\
for width in (16, 32):
    for seed in range(2):
        yield Run(f"width_{width}", {"model.width": width, "data.text": []}, seed=seed)"""


def test_runs_have_names_configs_and_places(tmp_path):
    sweep = load_sweep(write_sweep(tmp_path, GRID, 'REFERENCE = "width_16"'), tmp_path / "out")
    assert sweep.summary == "A few runs." and sweep.references == ("width_16",)
    assert sweep.arms == ("width_16", "width_32")
    assert [job.name for job in sweep.jobs] == [f"width_{w}/seed_{s}" for w in (16, 32) for s in (0, 1)]
    job = sweep.jobs[3]
    assert (job.config.model.width, job.config.seed, job.config.name) == (32, 1, "width_32/seed_1")
    assert job.directory.root == tmp_path / "out" / "width_32" / "seed_1"
    assert job.log == tmp_path / "out" / "width_32" / "seed_1.log"
    assert load_sweep(sweep.file).directory == Path("runs/sweeps/few")
    assert sweep.only(["width_32"]) == sweep.jobs[2:] and sweep.only([]) == sweep.jobs


def test_references_may_be_several(tmp_path):
    names = ("width_32", "width_16")
    assert load_sweep(write_sweep(tmp_path, GRID, f"REFERENCES = {names}")).references == names
    assert load_sweep(write_sweep(tmp_path, GRID)).references == ()


VALUES = """{
    "data.text": (TextSource(path="a, b.txt", language="de"),),
    "data.test.more": "tfds:grammar:test[:9]",
    "data.strict": True,
    "data.tokenizer.path": Path("pieces and more"),
    "model": ModelConfig(width=24, heads=3),
    "optimizer.peak_learning_rate": 1e-05,
    "training.loggers": ("wandb", "tensorboard"),
    "losses.consistency.layers": (-1, 2),
}"""


def test_the_command_line_says_the_same_as_the_overrides(tmp_path, monkeypatch, capsys):
    """Values of every kind pass through the arguments of `joint-st train` unharmed."""
    names = "from pathlib import Path\nfrom joint_st.config import ModelConfig, TextSource"
    file = write_sweep(tmp_path, "yield Run('a', VALUES, 7)", f"{names}\nVALUES = {VALUES}")
    (job,) = load_sweep(file, tmp_path / "out").jobs
    values = {**eval(VALUES, {**vars(joint_st.config), "Path": Path}), "name": "a/seed_7", "seed": 7}
    assert job.config == override(load(tmp_path / "base.py"), values)

    seen = []
    stub = types.ModuleType("joint_st.training.asr")
    stub.train_asr = lambda *arguments: seen.append(arguments)
    monkeypatch.setitem(sys.modules, stub.__name__, stub)
    assert main(train_command(job)[3:]) == 0
    assert seen == [(job.config, job.directory.root, None)]
    # Once the base is edited, the same arguments train nothing, and still show what there is now.
    base = job.base.read_text()
    job.base.write_text(base.replace("steps=4", "steps=40"))
    capsys.readouterr()
    assert main(train_command(job)[3:]) == 2
    assert len(seen) == 1 and capsys.readouterr().err == (
        f"joint-st: error: {job.base}: resolves to another config than when the sweep began (--fingerprint): it has changed, "
        "or differs on this machine; start the sweep again\n"
    )
    assert main([*train_command(job)[3:], "--print-config"]) == 0
    assert re.search("training.steps += 40", capsys.readouterr().out)


@pytest.mark.parametrize(
    "runs, more, line",
    [
        ("yield Run('a', {'model.widht': 3})", "", "{file}: a/seed_0: model.widht: unknown key (= 3); did you mean"),
        ("yield Run('a', {'model.heads': 5})", "", "{file}: a/seed_0: model.heads: 5 heads must divide width 144"),
        (
            "yield Run('a', {'name': object})",
            "",
            "{file}: a/seed_0: name: a value of type type cannot be written on a command line",
        ),
        (
            "yield Run('a', {1: 2})",
            "",
            "{file}: overrides of a/seed_0 hold 1; a field is named by its dotted path, as text",
        ),
        ("yield Run('a', {'seed': 1})", "", "{file}: overrides of a/seed_0 hold seed; write Run(..., seed=1)"),
        ("yield Run('a', seed=-1)", "", "{file}: a/seed_-1: seed = -1: should be greater than or equal to 0"),
        ("yield Run('a', seed=1.0)", "", "{file}: seed of a is 1.0; give a whole number"),
        ("yield Run('a', seed=True)", "", "{file}: seed of a is true; give a whole number"),
        ("yield Run('a', seed='1')", "", "{file}: seed of a is 1; give a whole number"),
        (
            "yield Run('a', {'training.compilation_cache': None})",
            "",
            "{file}: a/seed_0: training.compilation_cache = null: should be a valid string",
        ),
        ("yield Run('a', {'data.dev': None})", "", "{file}: a/seed_0: data.dev = null: should be a valid tuple"),
        ("yield Run('a', ['b'])", "", "{file}: overrides of a/seed_0 should be a dict of values by dotted path"),
        ("yield Run('a')\nyield Run('a')", "", "{file}: two runs are called a/seed_0; give them other arms or seeds"),
        ("yield Run('../a')", "", "{file}: arm '../a': a name is a letter or digit, then"),
        ("yield 'a'", "", "{file}: runs() yields str; it should yield joint_st.sweeps.Run"),
        ("return None", "", "{file}: runs() returned NoneType; it should yield joint_st.sweeps.Run"),
        ("return []", "", "{file}: runs() yields no run"),
        ("yield Run('a')\n1 / 0", "", "{file}:9: ZeroDivisionError: division by zero"),
        ("yield Run('a'", "", "{file}:8: '(' was never closed"),
        ("yield Run('a')", "runs = BASE = None", "{file}: BASE is missing; it should be the path of a config file"),
        ("yield Run('a')", "BASE = 'bose.py'", "{folder}/bose.py: no such file; did you mean {folder}/base.py?"),
        (
            "yield Run('alone')",
            "REFERENCE = 'alnoe'",
            "{file}: REFERENCE names 'alnoe', which is not an arm; did you mean alone?",
        ),
        ("yield Run('a')", "REFERENCES = REFERENCE = 'a'", "{file}: has both REFERENCE and REFERENCES; keep one"),
        ("yield Run('a', {'data.test': {}})", "", "{file}: a/seed_0: data.test names no split, and a sweep compares"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, runs, more, line):
    file = write_sweep(tmp_path, runs, more)
    with pytest.raises(UserError) as caught:
        load_sweep(file)
    assert str(caught.value).startswith(line.format(file=file, folder=tmp_path))
    assert "\n" not in str(caught.value)


def test_a_seed_of_numpy_is_a_number(tmp_path):
    seeds = [
        job.run.seed
        for job in load_sweep(
            write_sweep(tmp_path, "import numpy\nyield from (Run('a', {}, seed) for seed in numpy.arange(2))")
        ).jobs
    ]
    assert json.dumps(seeds) == "[0, 1]"


def test_files_that_are_no_sweep(tmp_path):
    file = write_sweep(tmp_path, "yield Run('a')")
    with pytest.raises(UserError, match=f"{tmp_path}/fwe.py: no such file; did you mean {file}?"):
        load_sweep(tmp_path / "fwe.py")
    with pytest.raises(UserError, match="not a sweep; a sweep is a Python file that defines BASE and runs()"):
        load_sweep(tmp_path)
    with pytest.raises(UserError, match="base.py: BASE is missing"):
        load_sweep(tmp_path / "base.py")
    with pytest.raises(UserError, match="b: neither an arm nor a run of .*few.py; it has a"):
        load_sweep(file).only(["b"])


def test_the_sweep_of_weights_varies_nothing_else():
    sweep = load_sweep(CHECKOUT / "configs" / "sweeps" / "consistency_weight.py")
    configs = {arm: [job.config for job in sweep.jobs if job.run.arm == arm] for arm in sweep.arms}
    assert len(sweep.jobs) == 8 and sweep.references == ("weight_0",)
    assert differing_fields(configs) == {
        f"weight_{weight}": {"losses.consistency.weight": weight} for weight in (0, 0.003, 0.01, 0.03)
    }
    assert sorted(config.seed for config in configs["weight_0"]) == [0, 1]
