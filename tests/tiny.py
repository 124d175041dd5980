"""A run of seconds: the corpus `spoken_grammar/tiny`, and the smallest model that has all of its parts."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from joint_st.config import (
    Config,
    DataConfig,
    EvaluationConfig,
    FeaturesConfig,
    ModelConfig,
    OptimizerConfig,
    SpecAugmentConfig,
    TfdsSource,
    TrainingConfig,
    override,
)

CHECKOUT = Path(__file__).resolve().parents[1]


def tiny_config(corpora: Path, changes: dict[str, Any] | None = None) -> Config:
    """Return a run of 6 steps on the corpus in `corpora`, with the fields at some dotted paths changed."""

    def split(name):
        return TfdsSource(name="spoken_grammar/tiny", split=name, data_dir=str(corpora))

    config = Config(
        name="tiny",
        data=DataConfig(
            train=(split("train"),),
            dev=(split("dev"),),
            test={"test": split("test")},
            text=(split("text"),),
            batch_size=4,
            buckets=1,
            read_threads=2,
            prefetch_batches=2,
        ),
        model=ModelConfig(
            features=FeaturesConfig(mels=16),
            width=16,
            heads=2,
            feed_forward=2,
            kernel=3,
            left_context=16,
            audio_layers=1,
            streaming_layers=1,
            full_context_layers=1,
        ),
        spec_augment=SpecAugmentConfig(frequency_width=4),
        optimizer=OptimizerConfig(warmup_steps=2),
        training=TrainingConfig(steps=6, log_every=2, evaluate_every=3, checkpoint_every=2, compilation_cache=""),
        evaluation=EvaluationConfig(batch_size=8, bootstrap_samples=100),
    )
    return override(config, changes or {})


CONFIG_FILE = '''"""A small config.

WER 3 %."""
from joint_st.config import Config, DataConfig, TfdsSource

def config():
    return Config(name="small", data=DataConfig(train=[TfdsSource(name="grammar", split="train")]))
'''


def small_config(folder: Path) -> Path:
    """Write a config file that commands read and nothing trains on; return its path."""
    file = folder / "small.py"
    file.write_text(CONFIG_FILE)
    return file


def untrained_run(config: Config, folder: Path) -> Path:
    """Return a run with text units that has a checkpoint of its initial weights, as of step 3; returns its
    directory."""
    import jax

    from joint_st.data.normalizers import normalizer
    from joint_st.distributed.mesh import make_mesh
    from joint_st.runs.checkpoints import Checkpoints
    from joint_st.runs.directory import open_run
    from joint_st.training.setup import open_symbols
    from joint_st.training.step import make_init

    run = open_run(folder, config)
    sizes = open_symbols(config, run).sizes
    mesh = make_mesh(config.parallel)
    with jax.set_mesh(mesh), Checkpoints(run.checkpoints, keep_latest=1, keep_best=1) as checkpoints:
        facts = {"normalizer": str(normalizer(config.data.normalizer)), "step": 3, "wer": 1.0}
        checkpoints.save(3, make_init(config, sizes, mesh)(), facts, 1.0)
    return run.root


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of a subprocess that finds the package wherever it runs."""
    return {**os.environ, "PYTHONPATH": str(CHECKOUT), **changes}


def call_on_eight_devices(function: str, flags: str = "") -> None:
    """Call a function, `module:name`, in a process whose CPU counts as eight devices; it must succeed. flags: further
    XLA_FLAGS."""
    module, _, name = function.partition(":")
    flags = f"{flags} --xla_force_host_platform_device_count=8".strip()
    command = [sys.executable, "-c", f"from {module} import {name}; {name}()"]
    done = subprocess.run(command, env=environment(XLA_FLAGS=flags), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


UNOPTIMISED = "--xla_backend_optimization_level=0"
"""Flag by which XLA compiles faster, and to slower code."""


def joint_st(*arguments: Any, **options) -> subprocess.CompletedProcess:
    """`joint-st ARGUMENTS` in a process of its own, its output captured as text."""
    command = [sys.executable, "-m", "joint_st", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), **options)


def saved_arrays(run: Path, step: int) -> dict[str, np.ndarray]:
    """Return all arrays of a checkpoint, by dotted path, as Orbax alone reads them."""
    import jax
    import orbax.checkpoint as ocp

    folder = (run / "checkpoints" / str(step) / "state").resolve()
    with contextlib.closing(ocp.PyTreeCheckpointer()) as reader:
        # On whatever devices it was saved: there may be fewer here.
        tree = reader.metadata(folder).item_metadata.tree
        kinds = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        state = reader.restore(folder, restore_args=kinds)
    named = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(x) for path, x in named}


def untimed(rows) -> list[dict]:
    """Rows of an evaluation without how long decoding took."""
    return [{key: value for key, value in row.items() if key != "real_time_factor"} for row in rows]
