"""From a batch of speech, its text and a wrong text to what is measured of their embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from joint_st.analysis.measure import Measures, cost_matrix, measure
from joint_st.config import Config
from joint_st.data.symbols import SymbolSizes
from joint_st.distributed.mesh import BATCH
from joint_st.heads.model import model_structure
from joint_st.models.functional import merge
from joint_st.models.text_encoder import most_frames, repetitions
from joint_st.ops.matching.fixed import random_monotonic


class Found(NamedTuple):
    """Of a batch of `B` rows, `E` of which are looked at."""

    measures: Measures
    frames: jax.Array
    """Valid audio frames, int32 [B]."""
    unit: jax.Array
    """The unit that each text frame repeats, int32 [B, R]; 0 in the padding."""
    text_frames: jax.Array
    """Valid text frames, int32 [B]."""
    costs: jax.Array
    """Distance of each audio frame from each text frame in the rows looked at, float32 [E, L, T, R]."""


def make_forward(config: Config, sizes: SymbolSizes, best: str, mesh: jax.sharding.Mesh) -> Callable:
    """Jitted `(weights, batch, rows, key) -> Found`.

    batch: `audio` int16 [B, S], `audio_lengths` [B], and the `units` int32 [B, 2, U] with `unit_lengths` [B, 2] of the
    own text and of the wrong one (length 0 for none). rows: int32 [E], the rows looked at. key: draws the random
    alignments. best: the alignment that is called so.
    """
    structure = model_structure(config, sizes)
    cost = config.losses.matching.cost
    layered = PartitionSpec(None, *BATCH)

    @jax.jit
    def forward(weights, batch, rows, key):
        model = merge(structure, weights)
        x, mask, _ = model.encode_audio(batch["audio"], batch["audio_lengths"])
        audio, frames = model.shared(x, mask).layers, mask.sum(axis=1, dtype=jnp.int32)

        # Both texts of a row side by side, so that no row leaves its device.
        units = batch["units"].reshape(-1, batch["units"].shape[2])
        repeated = repetitions(config.text, batch["unit_lengths"].reshape(-1), units.shape[1])
        encoded = model.encode_text(units, repeated, most_frames(config.text, units.shape[1]))
        layers = model.shared(encoded.x, encoded.mask).layers
        own, wrong = jnp.moveaxis(layers.reshape(*audio.shape[:2], 2, *layers.shape[2:]), 2, 0)
        unit, _ = jnp.moveaxis(encoded.unit.reshape(-1, 2, encoded.unit.shape[1]), 1, 0)
        text_frames, wrong_frames = encoded.mask.sum(axis=1, dtype=jnp.int32).reshape(-1, 2).T

        # Drawn here, and not on each device, so that it does not depend on their number.
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
