"""An autoregressive language model over labels: an LSTM, computed for whole sequences or label by label.

The blank, label 0, is in no text: as an input it means the beginning, as an output the end.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from joint_st.config import LmModelConfig
from joint_st.distributed.sharding import Axes
from joint_st.models.functional import Weights, merge, own_axes
from joint_st.models.layer import Stack, dropout
from joint_st.models.lstm import LstmLayer
from joint_st.models.projection import Projection
from joint_st.ops.masks import length_mask

OUTPUT_LAYERS = frozenset({"label_head.linear.kernel"})
"""Dotted paths of the weights of the output layer, which Muon leaves to AdamW."""

EDGE = 0
"""The label before the first one and after the last one."""


class LanguageModel(nnx.Module):
    """An LSTM that gives the log probabilities [V] of the next label; natural logarithms, float32."""

    def __init__(self, config: LmModelConfig, vocabulary: int, *, rngs: nnx.Rngs):
        self.dropout = config.dropout
        self.tied = config.tied
        self.embed = nnx.Embed(vocabulary, config.width, rngs=rngs)

        def make(rngs):
            return LstmLayer(config.width, dropout=config.dropout, rngs=rngs)

        self.lstm = Stack(make, config.layers, remat=False, rngs=rngs)
        self.norm = nnx.LayerNorm(config.width, rngs=rngs)
        if config.tied:
            self.label_bias = nnx.Param(jnp.zeros(vocabulary))
        else:
            self.label_head = Projection(config.width, vocabulary, rngs=rngs)

    def next_log_probs(self, labels: jax.Array, lengths: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Return log probabilities [B, L + 1, V] of the first label and of what follows each of `labels` [B, L].

        `lengths` [B] labels are valid; the padding does not change the results up to there. `key` draws dropout.
        """
        mask = length_mask(lengths + 1, labels.shape[1] + 1)
        inputs = jnp.pad(labels, ((0, 0), (1, 0)), constant_values=EDGE)
        embed_key, layers_key = (None, None) if key is None else jax.random.split(key)
        x = dropout(self.embed(jnp.where(mask, inputs, EDGE)), self.dropout, embed_key)
        return self._log_probs(self.lstm(x, mask, layers_key))

    def log_prob(self, labels: jax.Array, lengths: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Return the log probability [B] of `labels` [B, L], `lengths` [B] of them, and of the end after them."""
        inside = length_mask(lengths, labels.shape[1])
        targets = jnp.pad(jnp.where(inside, labels, EDGE), ((0, 0), (0, 1)), constant_values=EDGE)
        log_probs = self.next_log_probs(labels, lengths, key)
        of_targets = jnp.take_along_axis(log_probs, targets[..., None], axis=2)[..., 0]
        return jnp.sum(jnp.where(length_mask(lengths + 1, targets.shape[1]), of_targets, 0), axis=1)

    def init_state(self, batch: int) -> Any:
        """Return the state before the first label: a tree of [layers, B, D]."""
        return self.lstm.init_state(batch)

    def step(self, labels: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        """Return log probabilities [B, V] of what follows `labels` [B] (`EDGE` at the beginning), and the next
        state."""
        x = self.embed(labels)[:, None]
        x, state = self.lstm.step(x, jnp.ones(x.shape[:2], bool), state)
        return self._log_probs(x)[:, 0], state

    def logical_axes(self) -> Axes:
        """Return the logical axes of the weights that are not in a layer."""
        return {"embed.embedding": ("vocabulary", "embed")} | ({"label_bias": ("vocabulary",)} if self.tied else {})

    def _log_probs(self, x):
        x = self.norm(x)
        if self.tied:
            logits = self.embed.attend(x) + self.label_bias[...]
        else:
            logits = self.label_head(x)
        return jax.nn.log_softmax(logits.astype(jnp.float32))


def init_lm(config: LmModelConfig, vocabulary: int, seed: int | jax.Array) -> Weights:
    """Make the initial weights of a language model."""
    return nnx.to_pure_dict(nnx.state(LanguageModel(config, vocabulary, rngs=nnx.Rngs(jax.random.key(seed)))))


def lm_shapes(config: LmModelConfig, vocabulary: int) -> Weights:
    """Return shapes and types of the weights; nothing is computed."""
    return jax.eval_shape(lambda: init_lm(config, vocabulary, 0))


def merge_lm(config: LmModelConfig, vocabulary: int, weights: Weights) -> LanguageModel:
    """Return the model of some weights, inside a jitted function."""
    return merge(nnx.graphdef(_abstract(config, vocabulary)), weights)


def lm_axes(config: LmModelConfig, vocabulary: int) -> Axes:
    """Return the logical axes that the model and its modules declare."""
    return own_axes(_abstract(config, vocabulary))


def _abstract(config: LmModelConfig, vocabulary: int) -> LanguageModel:
    return nnx.eval_shape(lambda: LanguageModel(config, vocabulary, rngs=nnx.Rngs(0)))
