"""A run whose weights are cut over four devices, and its checkpoints on other meshes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from joint_st.config import Config, load, override, save
from joint_st.distributed.mesh import make_mesh
from joint_st.evaluation.evaluate import evaluate_run
from joint_st.runs.checkpoints import Checkpoints
from joint_st.runs.trained import load_trained
from joint_st.training.setup import open_state
from joint_st.training.step import state_shapes
from tests.tiny import environment, tiny_config


def named(tree) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(x) for path, x in leaves}


def check_restored(run: Path, config: Config, saved: dict[str, np.ndarray]) -> None:
    """Check that the state is restored as it was saved, onto the mesh of another config."""
    model, mesh = load_trained(run), make_mesh(config.parallel)
    with jax.set_mesh(mesh), Checkpoints(run / "checkpoints") as checkpoints:
        state = open_state(config, model.symbols, mesh, checkpoints).state
        like = state_shapes(config, model.symbols.sizes, mesh)
        for array, shape in zip(jax.tree.leaves(state), jax.tree.leaves(like)):
            assert array.sharding.is_equivalent_to(shape.sharding, array.ndim)
    found = named(state)
    assert found.keys() == saved.keys()
    for name in saved:
        np.testing.assert_array_equal(found[name], saved[name], err_msg=name)
    for name, weight in named(model.weights).items():
        np.testing.assert_array_equal(weight, saved[f"average.{name}"], err_msg=name)


def on_four_devices(run: Path):
    """Trains, and restores the checkpoint along another axis."""
    from joint_st.training.asr import train_asr

    kept, save = {}, Checkpoints.save

    def saving(self, step, state, facts, wer):
        kept.update(named(state))
        cut = state.params["streaming"]["layers"]["modules"][0]["inner"]["kernel"]
        assert cut.addressable_shards[0].data.shape == (cut.shape[0], cut.shape[1] // 2, cut.shape[2] // 2)
        save(self, step, state, facts, wer)

    Checkpoints.save = saving
    config = load(run.parent / "config.json")
    train_asr(config, run)
    np.savez(run.parent / "saved.npz", **kept)
    check_restored(run, override(config, {"parallel.fsdp": 1, "parallel.tensor": 1, "parallel.data": 4}), kept)


@pytest.mark.slow
def test_trained_in_parts_and_restored_on_other_meshes(corpora, tmp_path):
    run, changes = tmp_path / "run", {"data.dev": [], "data.test": {}, "training.steps": 2, "optimizer.kind": "muon"}
    parallel = {"parallel.fsdp": 2, "parallel.tensor": 2, "parallel.cpu_devices": 4}
    config = tiny_config(corpora, changes | parallel)
    save(config, tmp_path / "config.json")
    program = "import sys, pathlib; from tests.training.test_sharded_run import on_four_devices as f; "
    program += "f(pathlib.Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", program, str(run)], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "devices  4 × cpu: fsdp 2, tensor 2\n" in done.stderr

    # This process has one device.
    saved = dict(np.load(tmp_path / "saved.npz"))
    alone = override(config, {"parallel.fsdp": 1, "parallel.tensor": 1, "parallel.cpu_devices": 1})
    check_restored(run, alone, saved)
    rows = evaluate_run(run, data={"test": tiny_config(corpora).data.test["test"]})
    assert {row["head"] for row in rows} == {"streaming", "full_context"}
