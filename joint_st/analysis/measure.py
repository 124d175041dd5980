"""Measurements at every layer of a batch of speech, its own text and a wrong text."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from joint_st.config import Config
from joint_st.data.symbols import SymbolSizes
from joint_st.distributed.mesh import BATCH
from joint_st.heads.model import model_structure
from joint_st.models.functional import merge
from joint_st.models.text_encoder import most_frames, repetitions
from joint_st.ops.masks import length_mask, zero_padding
from joint_st.ops.matching import align, alignment_loss
from joint_st.ops.matching.alignments.random import random_monotonic
from joint_st.ops.matching.cost import comparable, pairwise_costs

DISTANCES = ("best", "frame_wise", "random", "wrong_text")
"""Distances that are measured: of audio and its own text under three alignments, and of audio and a wrong text under
the best one."""

ALIGNMENTS = DISTANCES[:3]
"""Alignments of the audio with its own text."""

SIDES = ("audio", "text")


class Measures(NamedTuple):
    """Measurements of each pair; the first axis is the layer, then the row."""

    distances: jax.Array
    """Mean over audio frames of the distance to the matched text frame, float32 [L, B, 4]: `DISTANCES`."""
    feasible: jax.Array
    """Whether such an alignment exists, bool [L, B, 4]; `step` needs as many audio frames as text frames."""
    matched: jax.Array
    """Share of the text frames that the best alignment matches, float32 [L, B]."""
    norms: jax.Array
    """Mean over frames of the embeddings' norm, float32 [L, B, 2]: `SIDES`."""
    square_norms: jax.Array
    """Mean over frames of the squared norm of what the cost compares (its `comparable`), float32 [L, B, 2]."""
    centres: jax.Array
    """Mean over frames of what the cost compares, float32 [L, B, 2, D]."""
    pooled: jax.Array
    """Mean over frames of the embeddings, float32 [L, B, 2, D]."""
    positions: jax.Array
    """The text frame matched with each audio frame, int32 [L, B, 3, T]: `ALIGNMENTS`."""


def measure(
    audio: jax.Array,
    text: jax.Array,
    wrong: jax.Array,
    audio_lengths: jax.Array,
    text_lengths: jax.Array,
    wrong_lengths: jax.Array,
    random: jax.Array,
    *,
    best: str,
    cost: str,
) -> Measures:
    """Measure `audio` [L, B, T, D], its own `text` [L, B, R, D] and a `wrong` one, each with its lengths [B].

    random: a monotonic alignment drawn beforehand, int32 [B, T]. best: an alignment that minimises the cost. cost: see
    `ConsistencyConfig`. The padding may hold anything.
    """
    lengths = (audio_lengths, text_lengths, wrong_lengths)
    masks = [length_mask(n, x.shape[2]) for n, x in zip(lengths, (audio, text, wrong))]

    def of_layer(sides):
        sides = [zero_padding(x.astype(jnp.float32), mask) for x, mask in zip(sides, masks)]
        compared = [comparable(x, mask, cost) for x, mask in zip(sides, masks)]

        def along(alignment, with_text):
            x, n = compared[with_text], lengths[with_text]
            if alignment == "given":
                position, feasible = random, (audio_lengths > 0) & (n > 0)
            else:
                position, feasible = align(compared[0], x, audio_lengths, n, moves=alignment)
            # Normalised so that a frame counts once under `dtw` too.
            return feasible, alignment_loss(compared[0], x, audio_lengths, n, alignment="given", given=position)

        feasible, found = zip(*(along(*which) for which in ((best, 1), ("frame_wise", 1), ("given", 1), (best, 2))))

        def both(function, sides):
            return jnp.stack([_mean(function(x), n) for x, n in zip(sides[:2], lengths)], axis=1)

        return Measures(
            distances=jnp.stack([each.value for each in found], axis=1),
            feasible=jnp.stack(feasible, axis=1),
            matched=found[0].coverage,
            norms=both(lambda x: jnp.linalg.norm(x, axis=-1), sides),
            square_norms=both(lambda x: jnp.sum(x**2, axis=-1), compared),
            centres=both(lambda x: x, compared),
            pooled=both(lambda x: x, sides),
            positions=jnp.stack([each.position for each in found[:3]], axis=1),
        )

    # One layer after the other: memory and compilation do not grow with depth.
    return jax.lax.map(of_layer, (audio, text, wrong))


def _mean(x: jax.Array, lengths: jax.Array) -> jax.Array:
    """Return the mean over frames of `x` [B, T, ...], which is zero in the padding."""
    return x.sum(axis=1) / jnp.maximum(lengths, 1).reshape(-1, *[1] * (x.ndim - 2))


def cost_matrix(audio: jax.Array, text: jax.Array, cost: str) -> jax.Array:
    """Return the distance of every frame of `audio` [B, T, D] from every one of `text` [B, R, D], float32 [B, T, R].

    It is meant for figures of a few utterances; no loss computes it for a batch.
    """
    everything = (jnp.ones(x.shape[:2], bool) for x in (audio, text))
    return pairwise_costs(*(comparable(x, mask, cost) for x, mask in zip((audio, text), everything)))


class Found(NamedTuple):
    """Measurements of a batch of `B` rows; `E` of them have a figure."""

    measures: Measures
    frames: jax.Array
    """Valid audio frames, int32 [B]."""
    unit: jax.Array
    """The unit that each text frame repeats, int32 [B, R]; 0 in the padding."""
    text_frames: jax.Array
    """Valid text frames, int32 [B]."""
    costs: jax.Array
    """Distance of each audio frame from each text frame in the rows with a figure, float32 [E, L, T, R]."""


def make_forward(config: Config, sizes: SymbolSizes, best: str, mesh: jax.sharding.Mesh) -> Callable:
    """Return a jitted function `(weights, batch, rows, key) -> Found`.

    batch: `audio` int16 [B, S], `audio_lengths` [B], and the `units` int32 [B, 2, U] with `unit_lengths` [B, 2] of a
    row's own text and of a wrong one (length 0 for none). rows: int32 [E], the rows with a figure. key: draws the
    random alignments. best: name of the alignment that counts as the best one.
    """
    structure = model_structure(config, sizes)
    cost = config.losses.matching.cost
    layered = PartitionSpec(None, *BATCH)

    @jax.jit
    def forward(weights, batch, rows, key):
        model = merge(structure, weights)
        x, mask, _ = model.encode_audio(batch["audio"], batch["audio_lengths"])
        # Text has no embeddings below the depth at which it enters.
        audio, frames = model.shared(x, mask).layers[config.model.text_depth :], mask.sum(axis=1, dtype=jnp.int32)

        # Both texts of a row are put side by side, so that no row leaves its device.
        units = batch["units"].reshape(-1, batch["units"].shape[2])
        repeated = repetitions(config.text, batch["unit_lengths"].reshape(-1), units.shape[1])
        encoded = model.encode_text(units, repeated, most_frames(config.text, units.shape[1]))
        layers = model.shared_of_text(encoded.x, encoded.mask).layers
        own, wrong = jnp.moveaxis(layers.reshape(*audio.shape[:2], 2, *layers.shape[2:]), 2, 0)
        unit, _ = jnp.moveaxis(encoded.unit.reshape(-1, 2, encoded.unit.shape[1]), 1, 0)
        text_frames, wrong_frames = encoded.mask.sum(axis=1, dtype=jnp.int32).reshape(-1, 2).T

        # Drawn here and not on each device, so that it does not depend on the number of devices.
        random = random_monotonic(key, frames, text_frames, audio.shape[2], own.shape[2])
        measures = jax.shard_map(
            lambda *own_rows: measure(*own_rows, best=best, cost=cost),
            mesh=mesh,
            in_specs=(layered,) * 3 + (BATCH,) * 4,
            out_specs=layered,
            check_vma=False,
        )(audio, own, wrong, frames, text_frames, wrong_frames, random)
        costs = jax.lax.map(lambda sides: cost_matrix(*sides, cost), (audio[:, rows], own[:, rows]))
        return Found(measures, frames, unit, text_frames, jnp.swapaxes(costs, 0, 1))

    return forward
