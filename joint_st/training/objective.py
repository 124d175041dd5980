"""What is minimised: CTC of the labels given audio, on both heads.

Each loss is a value and a weight per utterance, `(float32 [B], float32 [B])`; the loss of a batch is the weighted
mean. An utterance for which a loss has no meaning has weight 0 there, and is counted.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from joint_st.config import ObjectiveConfig
from joint_st.models.joint import Outputs
from joint_st.ops.ctc import ctc_loss, frames_needed
from joint_st.parallel.mesh import over_batch

Batch = dict[str, jax.Array]


def ctc_weights(batch: Batch, frames: jax.Array) -> jax.Array:
    """Weights [B] of the CTC losses: the number of labels, or 0 where `frames` [B] cannot emit them."""
    needed = frames_needed(batch["labels"], batch["label_lengths"])
    meaningful = batch["valid"] & (batch["label_lengths"] > 0) & (needed <= frames)
    return jnp.where(meaningful, batch["label_lengths"], 0).astype(jnp.float32)


def ctc_per_label(logits: jax.Array, frames: jax.Array, batch: Batch, mesh) -> jax.Array:
    """CTC in nats per label [B]; 0 where the weight is."""
    loss, _ = over_batch(ctc_loss, mesh)(logits, frames, batch["labels"], batch["label_lengths"])
    return loss / jnp.maximum(batch["label_lengths"], 1)


def losses(outputs: Outputs, batch: Batch, mesh) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Value and weight per utterance of each loss, by the name of its weight in `ObjectiveConfig`."""
    frames = outputs.mask.sum(axis=1, dtype=jnp.int32)
    weights = ctc_weights(batch, frames)
    return {
        "streaming_ctc": (ctc_per_label(outputs.streaming, frames, batch, mesh), weights),
        "full_context_ctc": (ctc_per_label(outputs.full_context, frames, batch, mesh), weights),
    }


def weighted(sums: dict[str, jax.Array], config: ObjectiveConfig) -> jax.Array:
    """The objective, given the mean of each loss."""
    return sum(getattr(config, name) * value for name, value in sums.items())
