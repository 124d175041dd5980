"""What is minimised, and over what: CTC given audio, reconstruction of masked text, consistency between the two.

Each loss is a value and a weight per row, `(float32 [rows], float32 [rows])`; the loss of a batch is the weighted
mean. A row for which a loss has no meaning has weight 0 there, and is counted. Weights are known before any loss is:
they follow from lengths alone.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from joint_st.config import Config
from joint_st.distributed.mesh import over_batch
from joint_st.models.joint import Outputs
from joint_st.ops.ctc import ctc_loss, frames_needed
from joint_st.training.consistency import consistency_weights
from joint_st.training.text_rows import Batch, Group, TextRows

RECONSTRUCTIONS = ("streaming_reconstruction", "full_context_reconstruction")


def loss_names(config: Config) -> tuple[str, ...]:
    """The losses of a config, by the name of their weights in `ObjectiveConfig`."""
    objective = config.objective
    optional = (*RECONSTRUCTIONS, "unit_ctc")
    chosen = [name for name in optional if getattr(objective, name)]
    return ("streaming_ctc", "full_context_ctc", *chosen, *(["consistency"] if objective.consistency.weight else []))


def loss_scales(config: Config, step: jax.Array) -> dict[str, jax.Array | float]:
    """What each loss counts in the objective at `step` (0-based)."""
    consistency = config.objective.consistency
    scales = {name: getattr(config.objective, name) for name in loss_names(config) if name != "consistency"}
    if consistency.weight:
        risen = jnp.minimum((step + 1) / consistency.warmup_steps, 1) if consistency.warmup_steps else 1.0
        scales["consistency"] = consistency.weight * risen
    return scales


def loss_totals(config: Config, groups: tuple[Group, ...], batch: Batch, speech: bool) -> dict[str, jax.Array]:
    """The sum of each loss's weights over a batch with its repetitions drawn."""
    spelled = sum(reconstruction_weights(group, batch).sum() for group in groups)
    totals = {name: spelled for name in RECONSTRUCTIONS}
    if speech:
        totals |= {name: weight.sum() for name, weight in speech_weights(config, batch).items()}
        if config.objective.consistency.weight:
            totals["consistency"] = consistency_weights(config, batch).sum()
    return {name: totals[name] for name in loss_names(config) if name in totals}


def ctc_weights(labels: jax.Array, lengths: jax.Array, valid: jax.Array, frames: jax.Array) -> jax.Array:
    """Weights [B] of CTC losses: the number of labels, or 0 where `frames` [B] cannot emit them."""
    meaningful = valid & (lengths > 0) & (frames_needed(labels, lengths) <= frames)
    return jnp.where(meaningful, lengths, 0).astype(jnp.float32)


def ctc_per_label(logits, frames, labels, lengths, mesh) -> jax.Array:
    """CTC in nats per label [B]; 0 where it is infeasible."""
    loss, _ = over_batch(ctc_loss, mesh, differentiable=True)(logits, frames, labels, lengths)
    return loss / jnp.maximum(lengths, 1)


def speech_weights(config: Config, batch: Batch) -> dict[str, jax.Array]:
    """Weights [B] of the losses on audio alone."""
    frames = config.model.features.frames(batch["audio_lengths"])
    spelled = ctc_weights(batch["labels"], batch["label_lengths"], batch["valid"], frames)
    weights = {"streaming_ctc": spelled, "full_context_ctc": spelled}
    if config.objective.unit_ctc:
        weights["unit_ctc"] = ctc_weights(batch["units"], batch["unit_lengths"], batch["valid"], frames)
    return weights


def speech_losses(config: Config, outputs: Outputs, batch: Batch, mesh) -> dict:
    """The losses on audio alone."""
    frames = outputs.mask.sum(axis=1, dtype=jnp.int32)
    weights, labels = speech_weights(config, batch), (batch["labels"], batch["label_lengths"])
    values = {
        "streaming_ctc": ctc_per_label(outputs.streaming, frames, *labels, mesh),
        "full_context_ctc": ctc_per_label(outputs.full_context, frames, *labels, mesh),
    }
    if "unit_ctc" in weights:
        values["unit_ctc"] = ctc_per_label(outputs.units, frames, batch["units"], batch["unit_lengths"], mesh)
    return {name: (value, weights[name]) for name, value in values.items()}


def reconstruction_weights(group: Group, batch: Batch) -> jax.Array:
    """Weights of the reconstructions for the rows of a group."""
    names = ("labels", "label_lengths", "valid")
    labels, lengths, valid = (batch[f"{group.prefix}{name}"] for name in names)
    frames = batch[f"{group.prefix}repetitions"].sum(axis=1)
    return group.weight * ctc_weights(labels, lengths, valid, frames)


def reconstruction_losses(config: Config, outputs: Outputs, rows: TextRows, mesh) -> dict[str, jax.Array]:
    """CTC of the labels given (masked) text, in nats per label [rows], on each head that has a weight."""
    logits = dict(zip(RECONSTRUCTIONS, (outputs.streaming, outputs.full_context)))
    frames = outputs.mask.sum(axis=1, dtype=jnp.int32)
    return {
        name: ctc_per_label(logits[name], frames, rows.labels, rows.label_lengths, mesh)
        for name in RECONSTRUCTIONS
        if name in loss_names(config)
    }
