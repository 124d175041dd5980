"""The best-alignment consistency of paired utterances (arXiv 2308.06125), and the values monitored with it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from joint_st.config import ConsistencyConfig
from joint_st.distributed.mesh import BATCH
from joint_st.losses.base import Column, Found, Loss, audio_frames, not_spelled, register_loss, text_frames
from joint_st.losses.passes import Pass
from joint_st.losses.text_rows import rows_on_device
from joint_st.ops.masks import length_mask
from joint_st.ops.matching import alignment_kind, alignment_loss
from joint_st.ops.matching.alignments.random import random_monotonic
from joint_st.ops.text_frames import position_by_durations

DISTANCE, NORM = "Consistency of speech and text", "Norms of the embeddings"


@register_loss("consistency")
class ConsistencyLoss(Loss):
    """The distance between matched embeddings: a mean over frames and over the chosen depths.

    It also monitors, as means over the chosen depths, the distance under a random alignment, the norms of both sides
    and the share of text frames that are matched, because a distance alone can be made small by shrinking everything.
    """

    columns = (
        Column(
            "consistency",
            DISTANCE,
            unit="distance per frame",
            description="Distance of the embeddings of speech and of its text under the alignment, a mean over frames "
            "and chosen layers.",
        ),
        Column(
            "random_distance",
            DISTANCE,
            unit="distance per frame",
            weighted_by="consistency",
            description="The same distance under a random monotonic alignment, for comparison.",
        ),
        Column(
            "audio_norm",
            NORM,
            weighted_by="consistency",
            description="Mean L2 norm of the embeddings of speech in the chosen layers.",
        ),
        Column(
            "text_norm",
            NORM,
            weighted_by="consistency",
            description="Mean L2 norm of the embeddings of text in the chosen layers.",
        ),
        Column(
            "coverage",
            "Share of text frames that are matched with audio",
            weighted_by="consistency",
            description="Share of text frames, from 0 to 1, with which the alignment matches at least one audio frame.",
        ),
        Column(
            "unmatched",
            kind="count",
            description="Utterances without consistency loss, because the alignment does not exist for them: they have "
            "no text units, fewer frames than the alignment needs, or no times of words where it needs these.",
        ),
    )

    @property
    def passes(self):
        return frozenset({Pass.AUDIO, self._text_pass})

    @property
    def without_gradient(self):
        return frozenset({self._text_pass}) if self.section.gradient == "audio" else frozenset()

    def scales(self, step):
        warmup, training = self.section.warmup_steps, self.config.training
        first = max(training.text_first_steps, training.text_from_step)
        risen = jnp.clip((step + 1 - first) / warmup, 0, 1) if warmup else 1.0
        return {"consistency": self.section.weight * risen}

    def weights(self, batch, available):
        """Return the weight of each utterance: its audio frames, or 0 where no alignment of the kind exists."""
        if not self.passes <= available:
            return {}
        alignment, paired = alignment_kind(self.section.alignment), batch["paired"]
        frames, of_text = audio_frames(self.config, batch), text_frames(batch, "paired")
        meaningful = paired["valid"] & alignment.feasible(frames, of_text)
        if alignment.needs_positions:
            meaningful &= paired["has_durations"]
        return {"consistency": {Pass.AUDIO: jnp.where(meaningful, frames, 0).astype(jnp.float32)}}

    def values(self, passes, batch, available, key, mesh):
        if not self.passes <= available:
            return Found({})
        section, audio, paired = self.section, passes.audio[Pass.AUDIO], batch["paired"]
        text, rows = passes.text[self._text_pass]
        depth, enters = audio.layers.shape[0], self.config.model.text_depth
        chosen = jnp.array([layer % depth for layer in section.layers] or range(enters + 1, depth))
        frames, of_text = audio.mask.sum(axis=1, dtype=jnp.int32), text_frames(batch, "paired")
        # Drawn here and not on each device, so that it does not depend on the number of devices.
        sizes = audio.mask.shape[1], text.mask.shape[1]
        random = random_monotonic(key, frames, of_text, *sizes)
        alignment, positions = alignment_kind(section.alignment), random
        if alignment.needs_key:
            positions = alignment.draw(key, frames, of_text, *sizes)
        elif alignment.needs_positions:
            positions = position_by_durations(paired["unit_frames"], paired["repetitions"], audio.mask.shape[1])
        fixed = {"audio": "text", "text": "audio"}.get(section.gradient)
        audio_side, text_side = audio.layers[chosen], text.layers[chosen - enters if enters else chosen]
        if fixed == "audio":
            audio_side = jax.lax.stop_gradient(audio_side)
        elif fixed == "text":
            text_side = jax.lax.stop_gradient(text_side)
        own = rows_on_device(rows, self._text_pass, mesh)

        def on_device(audio_side, text_side, *rows):
            return over_layers(section, audio_side, text_side[:, own], *rows)

        layered = PartitionSpec(None, *BATCH)
        found = jax.shard_map(on_device, mesh=mesh, in_specs=(layered, layered, *[BATCH] * 4), out_specs=BATCH)(
            audio_side, text_side, frames, of_text, positions, random
        )
        values = {name: {Pass.AUDIO: value} for name, value in found.items()}
        return Found({"consistency": values.pop("consistency")}, values)

    def counts(self, batch, available):
        if not self.passes <= available:
            return {}
        weights = self.weights(batch, available)["consistency"][Pass.AUDIO]
        return {"unmatched": not_spelled(batch["paired"]["valid"], weights)}

    @property
    def _text_pass(self) -> Pass:
        return Pass.PAIRED_CLEAN if self.section.text == "clean" else Pass.PAIRED_MASKED


def over_layers(config: ConsistencyConfig, audio, text, frames, text_frames, positions, random) -> dict[str, jax.Array]:
    """Return means over the layers of `audio` [L, B, T, D] and `text` [L, B, R, D]; layers are folded into the batch.

    positions: text positions int [B, T] of an alignment that is drawn or given; unused by others. random: text
    positions of a random alignment.
    """
    layers, rows = audio.shape[:2]

    def fold(x):
        return x.reshape(layers * rows, *x.shape[2:])

    def repeat(x):
        return jnp.tile(x, (layers,) + (1,) * (x.ndim - 1))

    def mean(x):
        return x.reshape(layers, rows).mean(axis=0)

    sides, lengths = (fold(audio), fold(text)), (repeat(frames), repeat(text_frames))
    kind = alignment_kind(config.alignment)
    known = kind.needs_key or kind.needs_positions
    found = alignment_loss(
        *sides,
        *lengths,
        alignment="given" if known else config.alignment,
        cost=config.cost,
        temperature=config.temperature,
        given=repeat(positions) if known else None,
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
    """Return the mean L2 norm over the first `lengths` [B] frames of `x` [B, T, D]; [B], float32."""
    squares = jnp.sum(jnp.square(x.astype(jnp.float32)), axis=-1)
    norms = jnp.where(length_mask(lengths, x.shape[1]), jnp.sqrt(squares), 0)
    return norms.sum(axis=1) / jnp.maximum(lengths, 1)
