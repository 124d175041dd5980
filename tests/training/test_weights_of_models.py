"""The joint model and the language model begin with the weights of another run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from joint_st.cli import main
from joint_st.config import Config, LmConfig, override, save
from joint_st.distributed.mesh import make_mesh
from joint_st.runs.checkpoints import Checkpoints
from joint_st.runs.directory import RunDirectory
from joint_st.runs.trained import read_symbols
from joint_st.training.setup import open_state
from joint_st.training.step import make_init, state_shapes
from tests.tiny import environment, saved_arrays, tiny_config, untrained_run
from tests.training.toy_run import arrays, assert_from

# Orbax is told no shardings when it reads arrays for comparison.
pytestmark = pytest.mark.filterwarnings("ignore:Sharding info not provided")


@pytest.fixture(scope="module")
def joint_source(tmp_path_factory, corpora) -> Path:
    """A run of the joint model, as of step 3."""
    return untrained_run(joint_config(corpora, {}), tmp_path_factory.mktemp("joint") / "run")


def joint_config(corpora, changes) -> Config:
    return tiny_config(corpora, {"data.dev": [], "data.test": {}, **changes})


@pytest.mark.slow
def test_a_run_trains_on_from_the_weights_of_another(corpora, joint_source, tmp_path, capfd):
    """It says so, and keeps it in its checkpoints."""
    # The first step has a learning rate of 0, so it leaves the weights as they were.
    config = joint_config(corpora, {"training.steps": 1, "optimizer.warmup_steps": 2, "seed": 9})
    save(config, tmp_path / "mine.json")
    command = ["train", str(tmp_path / "mine.json"), "--workdir", str(tmp_path / "run")]
    command += ["--training.init.run", str(joint_source), "--training.init.exclude", "streaming_head"]
    assert main(command) == 0
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("weights  ")]
    assert len(lines) == 1
    assert f"are those of step 3 of {joint_source}; drawn from the seed: streaming_head." in lines[0]

    found, stored = saved_arrays(tmp_path / "run", 1), saved_arrays(joint_source, 3)
    params = {name.removeprefix("params."): x for name, x in found.items() if name.startswith("params.")}
    own = {name for name in params if name.startswith("streaming_head.")}
    assert len(own) == 2 and len(params) > 50
    assert_from(params, stored, "average.", params.keys() - own)
    symbols, mesh = read_symbols(config, RunDirectory(joint_source)), make_mesh(config.parallel)
    with jax.set_mesh(mesh):
        fresh = arrays(make_init(config, symbols.sizes, mesh)().params)
    assert_from(params, fresh, "", own)
    assert any(not np.array_equal(stored[f"average.{name}"], fresh[name]) for name in own)

    with Checkpoints(tmp_path / "run" / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.facts(1)["init"] == {"run": str(joint_source), "step": 3}


def test_a_language_model_takes_weights_too(tmp_path, capfd):
    (tmp_path / "text.txt").write_text("a house is red\nthe red house\nis it\n")
    data = {"train": [{"kind": "text", "path": str(tmp_path / "text.txt")}], "batch_size": 2, "buckets": 1}
    config = LmConfig(data=data, model={"width": 8, "layers": 1})
    changes = {"training.steps": 1, "training.compilation_cache": "", "optimizer.warmup_steps": 0}
    save(override(config, changes), tmp_path / "lm.json")
    command = ["train-lm", str(tmp_path / "lm.json"), "--workdir"]
    assert main([*command, str(tmp_path / "a")]) == 0
    more = ["--training.init.run", str(tmp_path / "a"), "--optimizer.warmup_steps", "2", "--seed", "3"]
    assert main([*command, str(tmp_path / "b"), *more]) == 0
    assert "weights  " in capfd.readouterr().err
    found, stored = saved_arrays(tmp_path / "b", 1), saved_arrays(tmp_path / "a", 1)
    params = {name.removeprefix("params."): x for name, x in found.items() if name.startswith("params.")}
    assert len(params) > 5
    assert_from(params, stored, "average.")
    (tmp_path / "text.txt").write_text("quite other letters\n")
    assert main([*command, str(tmp_path / "c"), *more]) == 2
    assert f"set data.tokenizer.path to {tmp_path / 'a' / 'tokenizer'}" in capfd.readouterr().err


def on_two_devices(run: Path, folder: Path, corpora: Path) -> None:
    """Weights of one device are taken onto two, and no weight that can be cut is whole on either."""
    changes = {"training.init.run": str(run), "training.init.exclude": ["audio"], "parallel.fsdp": 2}
    config = joint_config(corpora, {**changes, "parallel.data": 1})
    symbols, mesh = read_symbols(config, RunDirectory(run)), make_mesh(config.parallel)
    with jax.set_mesh(mesh), Checkpoints(folder / "checkpoints") as checkpoints:
        state = open_state(config, symbols, mesh, checkpoints).state
        like = state_shapes(config, symbols.sizes, mesh)
        fresh = arrays(make_init(config, symbols.sizes, mesh)().params)
    assert jax.tree.structure(state) == jax.tree.structure(like)
    for array, shape in zip(jax.tree.leaves(state), jax.tree.leaves(like)):
        assert (array.shape, array.dtype) == (shape.shape, shape.dtype)
        assert array.sharding.is_equivalent_to(shape.sharding, array.ndim)
    kernel = state.params["streaming"]["layers"]["modules"][0]["inner"]["kernel"]
    assert kernel.addressable_shards[0].data.size == kernel.size // 2
    for part in (state.params, state.average):
        params = arrays(part)
        own = {name for name in params if name.startswith("audio.")}
        assert_from(params, fresh, "", own)
        assert_from(params, saved_arrays(run, 3), "average.", params.keys() - own)


def test_weights_are_taken_onto_a_mesh(corpora, joint_source, tmp_path):
    program = (
        "import sys; from pathlib import Path; from tests.training.test_weights_of_models import on_two_devices; "
        "on_two_devices(*map(Path, sys.argv[1:]))"
    )
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-c", program, joint_source, tmp_path, corpora],
        env=environment(XLA_FLAGS=flags),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
