"""Loads a trained model, or a trained language model, from the directory of its run alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from joint_st import storage
from joint_st.config import Config, LmConfig, Source, is_language_model, load
from joint_st.data.normalizers import Normalizer, normalizer
from joint_st.data.symbols import Symbols, load_languages
from joint_st.data.text_units import Units, load_units
from joint_st.data.tokenizers import Tokenizer, load_tokenizer
from joint_st.data.vocabulary import Vocabulary
from joint_st.distributed.mesh import make_evaluation_mesh, replicated
from joint_st.distributed.peers import current
from joint_st.errors import UserError
from joint_st.heads.model import weight_shapes
from joint_st.models.functional import Weights
from joint_st.models.language_model import lm_shapes
from joint_st.runs.agreement import agreed_choice
from joint_st.runs.checkpoints import Checkpoints
from joint_st.runs.directory import METRIC, RunDirectory, check_config, existing_run, refuse_links

LM_METRIC = "perplexity"
"""Name of the metric that ranks a language model's checkpoints: the dev set's perplexity per label."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """A checkpoint and everything that is needed to use it."""

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
    other_look_ahead_ms: float | None = None
    """The look-ahead that `with_look_ahead` has set, if it is not the first that the run was trained with."""

    def with_look_ahead(self, milliseconds: float | None) -> Trained:
        """Return the same model with another look-ahead, which then comes first in its config; None: the run's own.

        Raises `UserError` where it is longer than every look-ahead that the run was trained with, or not a whole number
        of frames.
        """
        model = self.config.model
        trained_with, frame = model.look_ahead_ms, model.features.frame_ms
        if milliseconds is None or milliseconds == trained_with[0]:
            return self
        what, longest = f"--look-ahead-ms {milliseconds:g}", max(trained_with)
        if milliseconds > longest:
            how = f"with {longest:g} ms at most" if longest else "without look-ahead"
            raise UserError(f"{what}: {self.run.root} was trained {how} (model.look_ahead_ms); take no more")
        if abs(milliseconds / frame - round(milliseconds / frame)) > 1e-6:
            raise UserError(f"{what}: must be 0 or a multiple of a frame of the encoder, {frame:g} ms")
        lengths = (milliseconds, *(one for one in trained_with if one != milliseconds))
        config = self.config.model_copy(update={"model": model.model_copy(update={"look_ahead_ms": lengths})})
        return dataclasses.replace(self, config=config, other_look_ahead_ms=milliseconds)

    @property
    def look_ahead_ms(self) -> float:
        """Look-ahead of the streaming layers in decoding, in ms."""
        return self.config.model.look_ahead_ms[0]

    @property
    def tokenizer(self) -> Tokenizer:
        """The labels that the heads spell."""
        return self.symbols.labels

    @property
    def units(self) -> Units | None:
        """What the text encoder reads; None where there is no text encoder."""
        return self.symbols.units

    def splits(self, data: dict[str, Source] | None) -> dict[str, Source]:
        """Return the named sources of the option --data, or the run's test splits if there are none.

        Raises `UserError` where there are neither sources nor splits.
        """
        if not (data or self.config.data.test):
            raise UserError(f"{self.run.config}: data.test names no split; give --data NAME=SOURCE")
        return dict(data or self.config.data.test)

    def split(self, data: dict[str, Source] | None) -> tuple[str, Source]:
        """Return the name and the source of the single split of --data, or of the run's first test split.

        Raises `UserError` where there is none, and where --data names several.
        """
        splits = self.splits(data)
        if data and len(data) > 1:
            raise UserError(f"--data: takes one split at a time here, and {', '.join(data)} are {len(data)}")
        return next(iter(splits.items()))


def read_symbols(config: Config, run: RunDirectory) -> Symbols:
    """Read the inventories in a run's directory. Raises `UserError` where they are damaged."""
    run.check_inventories()
    units = load_units(run.units) if config.data.units.kind != "none" else None
    return Symbols(load_tokenizer(run.tokenizer), units, load_languages(run.root))


@dataclasses.dataclass(frozen=True)
class TrainedLm:
    """A language model's checkpoint and everything that is needed to use it."""

    run: RunDirectory
    config: LmConfig
    tokenizer: Tokenizer
    step: int
    """Step of the checkpoint."""
    weights: Weights
    """The moving average of the weights, NumPy arrays."""


def in_own_places(config: Config) -> Config:
    """Return the config of a run that may come from anyone, with the caches of the user who reads it.

    A compilation cache holds programs, which are executed: a cache that a run names would execute its author's code.
    Also, files of a cache are written wherever the config says, which may be anywhere on this machine.
    """
    training, data = config.training, config.data
    if training.compilation_cache:
        # The cache that this process uses already, as when training evaluates at its end; otherwise the one in the home
        # directory.
        own = jax.config.jax_compilation_cache_dir or type(training).model_fields["compilation_cache"].default
        training = training.model_copy(update={"compilation_cache": own})
    data = data.model_copy(update={"index_cache": ""})
    return config.model_copy(update={"training": training, "data": data})


def load_trained(workdir: Path, checkpoint: str = "best") -> Trained:
    """Load the model of checkpoint `best`, `latest` or a step of the run in `workdir`.

    Raises `UserError` where there is no such run or checkpoint, where it was trained on text of another normaliser than
    the one in its config, and where the processes of a job see different checkpoints.
    """
    run = existing_run(workdir)
    config = in_own_places(load(run.config))
    mesh = make_evaluation_mesh(config)
    symbols = read_symbols(config, run)
    normalize = normalizer(config.data.normalizer)
    with trained_checkpoints(run) as checkpoints:
        step = agreed_choice(checkpoints, checkpoint, current())
        checkpoints.check(step)
        facts = checkpoints.facts(step)
        trained_with = facts.get("normalizer")
        if trained_with != str(normalize):
            raise UserError(
                f"{run.root}: trained on text of normaliser {trained_with}, and {run.config} names {normalize}; restore it"
            )
        check_config(run, config, facts)
        shapes = weight_shapes(config, symbols.sizes)
        weights = _restore_average(checkpoints, step, shapes, replicated(mesh))
    return Trained(run, config, normalize, symbols, Vocabulary.load(run.root), mesh, step, weights)


def load_lm(workdir: Path, checkpoint: str = "best") -> TrainedLm:
    """Load the language model of checkpoint `best`, `latest` or a step of the run in `workdir`.

    Raises `UserError` where there is no such run or checkpoint, and where the processes of a job see different ones.
    """
    run = RunDirectory(storage.path(workdir))
    if not is_language_model(run.root):
        raise UserError(f"{run.root}: no run of a language model; `joint-st train-lm` makes one")
    refuse_links(run)
    config = load(run.config, LmConfig)
    everywhere = replicated(jax.sharding.Mesh(np.array(jax.devices()), ("data",)))
    with trained_checkpoints(run, LM_METRIC) as checkpoints:
        run.check_inventories()
        tokenizer = load_tokenizer(run.tokenizer)
        step = agreed_choice(checkpoints, checkpoint, current())
        checkpoints.check(step)
        check_config(run, config, checkpoints.facts(step))
        weights = _restore_average(checkpoints, step, lm_shapes(config.model, tokenizer.size), everywhere)
    return TrainedLm(run, config, tokenizer, step, jax.device_get(weights))


def trained_checkpoints(run: RunDirectory, metric: str = METRIC) -> Checkpoints:
    """Open the checkpoints of a run for reading; raises `UserError` where there are none."""
    return Checkpoints(run.checkpoints, read_only=True, metric=metric)


def _restore_average(checkpoints: Checkpoints, step: int, shapes: Any, sharding: jax.sharding.Sharding) -> Weights:
    """Restore the moving average of the weights at `step`, with `shapes` for all arrays and `sharding` for their
    placement."""
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)
    return checkpoints.restore_part(step, {"average": like})["average"]
