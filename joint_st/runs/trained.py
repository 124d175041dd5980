"""A trained model, read from the directory of its run alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax

from joint_st.config import Config, load
from joint_st.data.normalizers import Normalizer, normalizer
from joint_st.data.symbols import Symbols, load_languages
from joint_st.data.text_units import Units, load_units
from joint_st.data.tokenizers import Tokenizer, load_tokenizer
from joint_st.data.vocabulary import Vocabulary
from joint_st.distributed.mesh import make_evaluation_mesh, replicated
from joint_st.errors import UserError
from joint_st.heads.model import weight_shapes
from joint_st.models.functional import Weights
from joint_st.runs.checkpoints import Checkpoints
from joint_st.runs.directory import RunDirectory, existing_run


@dataclasses.dataclass(frozen=True)
class Trained:
    """A checkpoint and all that is needed to use it."""

    run: RunDirectory
    config: Config
    normalizer: Normalizer
    symbols: Symbols
    vocabulary: Vocabulary
    mesh: jax.sharding.Mesh
    step: int
    """Step of the checkpoint."""
    weights: Weights
    """The moving average of the weights, on the mesh."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The labels that the heads spell."""
        return self.symbols.labels

    @property
    def units(self) -> Units | None:
        """What the text encoder reads; None where there is no text encoder."""
        return self.symbols.units


def read_symbols(config: Config, run: RunDirectory) -> Symbols:
    """The inventories that a run's directory holds."""
    units = load_units(run.units) if config.data.units.kind != "none" else None
    return Symbols(load_tokenizer(run.tokenizer), units, load_languages(run.root))


def load_trained(workdir: Path, checkpoint: str = "best") -> Trained:
    """The model of checkpoint `best`, `latest` or a step of the run in `workdir`.

    Raises `UserError` where there is no such run or checkpoint, and where it was trained on text normalised by
    another version of the normaliser than the one here.
    """
    run = existing_run(workdir)
    config = load(run.config)
    mesh = make_evaluation_mesh(config)
    symbols = read_symbols(config, run)
    normalize = normalizer(config.data.normalizer)
    if not run.checkpoints.is_dir():
        raise UserError(f"{run.checkpoints}: no complete checkpoint; train the run first")
    with Checkpoints(run.checkpoints, read_only=True) as checkpoints:
        step = checkpoints.choose(checkpoint)
        trained_with = checkpoints.facts(step)["normalizer"]
        if trained_with != str(normalize):
            raise UserError(f"{run.root}: trained on text of normaliser {trained_with}, and this is {normalize}")
        like = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated(mesh)),
            weight_shapes(config, symbols.sizes),
        )
        weights = checkpoints.restore_part(step, {"average": like})["average"]
    return Trained(run, config, normalize, symbols, Vocabulary.load(run.root), mesh, step, weights)
