"""The configuration of a neural language model over a run's labels; shares sections with that of a run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from joint_st.config.sections.base import Section
from joint_st.config.sections.data import NormalizerName, Source, TokenizerConfig
from joint_st.config.sections.training import LoopConfig, OptimizerConfig, ParallelConfig


class LmDataConfig(Section):
    """The texts of a language model and how they are cut into batches."""

    train: tuple[Source, ...] = Field(min_length=1)
    """Texts to train on; audio there may be is ignored. Those that are in `dev` too are left out, and counted."""
    dev: tuple[Source, ...] = ()
    """Texts whose perplexity chooses the best checkpoint; never trained on."""
    normalizer: NormalizerName = "english"
    """Text normaliser, as in `joint-st train`: that of the run whose labels the model is to score."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    """With the `path` of a run's own (`RUN/tokenizer`), the model scores the labels of that run."""
    batch_size: int = Field(default=64, ge=1)
    """Texts in a batch of the longest bucket, over all devices. A bucket that is `k` times shorter takes `k` times as
    many."""
    buckets: int = Field(default=3, ge=1)
    """Length buckets: each is one fixed shape, compiled once."""
    max_labels: int = Field(default=512, ge=1)
    """Texts of more labels are left out, and counted."""
    prefetch_batches: int = Field(default=4, ge=1)
    """Batches each host keeps ready."""
    index_cache: str = ""
    """Folder, on a disk or in a bucket (`gs://`), in which runs share what they have found out about their sources;
    a folder in the home when empty. What lies in it can be computed again."""


class LmModelConfig(Section):
    """An LSTM over labels (Hochreiter and Schmidhuber, 1997), its layers residual with a norm before each."""

    width: int = Field(default=256, ge=1)
    """Width of embeddings and layers (D)."""
    layers: int = Field(default=2, ge=1)
    """LSTM layers."""
    tied: bool = False
    """The output layer's matrix is that of the embedding (arXiv 1608.05859)."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of activations dropped in training: of the embeddings, and of the output of each layer."""


class LmConfig(Section):
    """A run that trains a language model."""

    kind: Literal["language_model"] = "language_model"
    name: str = Field(default="lm", min_length=1)
    """Name of the run in logs; the default working directory is `runs/NAME`."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the initial weights, the batch plan and dropout."""
    data: LmDataConfig
    model: LmModelConfig = LmModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: LoopConfig = LoopConfig()
    parallel: ParallelConfig = ParallelConfig()
