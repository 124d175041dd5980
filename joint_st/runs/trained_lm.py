"""A trained language model, read from the directory of its run alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np

from joint_st import storage
from joint_st.config import LmConfig, is_language_model, load
from joint_st.data.tokenizers import Tokenizer, load_tokenizer
from joint_st.distributed.mesh import replicated
from joint_st.errors import UserError
from joint_st.models.functional import Weights
from joint_st.models.language_model import lm_shapes
from joint_st.runs.checkpoints import Checkpoints
from joint_st.runs.directory import RunDirectory

METRIC = "perplexity"
"""Ranks the checkpoints of a language model: that of the dev set, for a label."""


@dataclasses.dataclass(frozen=True)
class TrainedLm:
    """A checkpoint and all that is needed to use it."""

    run: RunDirectory
    config: LmConfig
    tokenizer: Tokenizer
    step: int
    """Step of the checkpoint."""
    weights: Weights
    """The moving average of the weights, NumPy arrays."""


def load_lm(workdir: Path, checkpoint: str = "best") -> TrainedLm:
    """The language model of checkpoint `best`, `latest` or a step of the run in `workdir`.

    Raises `UserError` where there is no such run or checkpoint.
    """
    run = RunDirectory(storage.path(workdir))
    if not is_language_model(run.root):
        raise UserError(f"{run.root}: no run of a language model; `joint-st train-lm` makes one")
    config = load(run.config, LmConfig)
    if not run.checkpoints.is_dir():
        raise UserError(f"{run.checkpoints}: no complete checkpoint; train the language model first")
    tokenizer = load_tokenizer(run.tokenizer)
    everywhere = replicated(jax.sharding.Mesh(np.array(jax.devices()), ("data",)))
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere),
        lm_shapes(config.model, tokenizer.size),
    )
    with Checkpoints(run.checkpoints, read_only=True, metric=METRIC) as checkpoints:
        step = checkpoints.choose(checkpoint)
        weights = checkpoints.restore_part(step, {"average": like})["average"]
    return TrainedLm(run, config, tokenizer, step, jax.device_get(weights))
