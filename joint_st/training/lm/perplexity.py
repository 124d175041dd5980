"""Perplexity of a language model: how many labels, or words, equally likely ones, it would be as unsure between."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from joint_st.config import LmConfig
from joint_st.data.dataset import Dataset
from joint_st.data.pipeline import label_plan, text_batches
from joint_st.distributed.mesh import put_batch, rows_here
from joint_st.models.language_model import merge_lm


class Perplexity(NamedTuple):
    """Of texts whose ends are to be foretold too: each counts as one more label, and as one more word."""

    of_label: float
    of_word: float


class PerplexityScorer:
    """Perplexity of some texts under changing weights; compiled once."""

    def __init__(self, config: LmConfig, texts: Dataset, mesh: jax.sharding.Mesh):
        self._texts = texts
        self._mesh = mesh
        self._prefetch = config.data.prefetch_batches
        self._plan = label_plan(texts, config.data, config.seed, shuffle=False)
        self._labels = int(texts.label_lengths.sum(dtype=np.int64)) + len(texts)
        self._words = int(texts.words.sum(dtype=np.int64)) + len(texts)

        @jax.jit
        def log_prob(weights, labels, lengths, valid):
            model = merge_lm(config.model, texts.tokenizer.size, weights)
            return jnp.sum(jnp.where(valid, model.log_prob(labels, lengths), 0))

        self._log_prob = log_prob

    def __call__(self, weights) -> Perplexity:
        """Under some weights."""
        total = 0.0
        read = text_batches(self._texts, self._plan, parts=rows_here(self._mesh), prefetch=self._prefetch)
        for _, batch in read:
            names = ("text_labels", "text_label_lengths", "text_valid")
            total += float(self._log_prob(weights, *put_batch({n: batch[n] for n in names}, self._mesh).values()))
        return Perplexity(math.exp(-total / self._labels), math.exp(-total / self._words))
