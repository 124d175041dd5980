"""The best-alignment consistency of a paired batch (arXiv 2308.06125), and what to watch beside it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from joint_st.config import Config, ConsistencyConfig
from joint_st.distributed.mesh import BATCH
from joint_st.models.joint import Outputs
from joint_st.ops.masks import length_mask
from joint_st.ops.matching import alignment_loss
from joint_st.ops.matching.fixed import random_monotonic
from joint_st.ops.text_frames import position_by_durations
from joint_st.training.text_rows import Batch

WATCHED = ("random_distance", "audio_norm", "text_norm", "coverage")


def consistency_weights(config: Config, batch: Batch) -> jax.Array:
    """Weights [B] of the loss: audio frames, or 0 where there is no alignment of the kind asked for."""
    alignment = config.objective.consistency.alignment
    frames = config.model.features.frames(batch["audio_lengths"])
    text_frames = batch["repetitions"].sum(axis=1)
    meaningful = batch["valid"] & (frames > 0) & (text_frames > 0)
    if alignment == "step":
        meaningful &= frames >= text_frames
    if alignment == "given":
        meaningful &= batch["lasting"].sum(axis=1) > 0
    return jnp.where(meaningful, frames, 0).astype(jnp.float32)


def consistency_losses(config: Config, audio: Outputs, text: Outputs, batch: Batch, key, mesh) -> dict[str, jax.Array]:
    """The mean distance [B] of matched embeddings over frames and the chosen depths, `consistency`, and `WATCHED`.

    `text` holds the rows of `gather_rows`, of which each device's first are those of the paired batch. Watched, as
    means over the chosen depths too, are the distance under a random alignment, the norms of both sides and the share
    of text frames that are matched: a distance alone can be made small by shrinking everything.
    """
    consistency, depth = config.objective.consistency, audio.layers.shape[0]
    chosen = jnp.array([layer % depth for layer in consistency.layers] or range(1, depth))
    frames, text_frames = audio.mask.sum(axis=1, dtype=jnp.int32), batch["repetitions"].sum(axis=1)
    # Drawn here, and not on each device, so that it does not depend on their number.
    random = random_monotonic(key, frames, text_frames, audio.mask.shape[1], text.mask.shape[1])
    given = random
    if consistency.alignment == "given":
        given = position_by_durations(batch["lasting"], batch["repetitions"], audio.mask.shape[1])
    fixed = {"audio": "text", "text": "audio"}.get(consistency.gradient)
    audio_side, text_side = audio.layers[chosen], text.layers[chosen]
    if fixed == "audio":
        audio_side = jax.lax.stop_gradient(audio_side)
    elif fixed == "text":
        text_side = jax.lax.stop_gradient(text_side)

    def on_device(audio_side, text_side, *rows):
        return over_layers(consistency, audio_side, text_side[:, : audio_side.shape[1]], *rows)

    layered = PartitionSpec(None, *BATCH)
    return jax.shard_map(on_device, mesh=mesh, in_specs=(layered, layered, *[BATCH] * 4), out_specs=BATCH)(
        audio_side, text_side, frames, text_frames, given, random
    )


def over_layers(config: ConsistencyConfig, audio, text, frames, text_frames, given, random) -> dict[str, jax.Array]:
    """Means over the layers of `audio` [L, B, T, D] and `text` [L, B, R, D]; layers are folded into the batch."""
    layers, rows = audio.shape[:2]

    def fold(x):
        return x.reshape(layers * rows, *x.shape[2:])

    def repeat(x):
        return jnp.tile(x, (layers,) + (1,) * (x.ndim - 1))

    def mean(x):
        return x.reshape(layers, rows).mean(axis=0)

    sides, lengths = (fold(audio), fold(text)), (repeat(frames), repeat(text_frames))
    alignment = "given" if config.alignment == "random" else config.alignment
    found = alignment_loss(
        *sides,
        *lengths,
        alignment=alignment,
        cost=config.cost,
        temperature=config.temperature,
        given=repeat(given) if alignment == "given" else None,
    )
    still = jax.lax.stop_gradient(sides)
    by_chance = alignment_loss(*still, *lengths, alignment="given", cost=config.cost, given=repeat(random))
    return {
        "consistency": mean(found.value),
        "random_distance": mean(by_chance.value),
        "audio_norm": mean(mean_norm(still[0], lengths[0])),
        "text_norm": mean(mean_norm(still[1], lengths[1])),
        "coverage": mean(found.coverage),
    }


def mean_norm(x: jax.Array, lengths: jax.Array) -> jax.Array:
    """Mean L2 norm over the first `lengths` [B] frames of `x` [B, T, D]; [B], float32."""
    squares = jnp.sum(jnp.square(x.astype(jnp.float32)), axis=-1)
    norms = jnp.where(length_mask(lengths, x.shape[1]), jnp.sqrt(squares), 0)
    return norms.sum(axis=1) / jnp.maximum(lengths, 1)
