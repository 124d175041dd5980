"""The text encoder turns units into text frames. Without layers of its own it is an embedding (JOIST, arXiv
2210.07353)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from joint_st.config import TextConfig
from joint_st.models.layer import Block, Stack
from joint_st.ops.masks import zero_padding
from joint_st.ops.text_frames import (
    ConfusionRates,
    cover_missed,
    draw_insertions,
    draw_repetitions,
    draw_spans,
    draw_substitutes,
    draw_up_to,
    even_repetitions,
    frames_bound,
    unit_of_frame,
)


class EncodedText(NamedTuple):
    """The text encoder's outputs for a batch."""

    x: jax.Array
    """Embeddings [B, R, D]."""
    mask: jax.Array
    """Valid text frames [B, R]."""
    unit: jax.Array
    """The unit each text frame repeats, int32 [B, R]."""


class TextEncoder(nnx.Module):
    """Embeds units, repeats them, masks spans in training, and passes them through streaming layers of its own."""

    def __init__(self, units: int, width: int, layers: Stack, *, positions: str, blanks: bool, dtype, rngs: nnx.Rngs):
        self.positions = positions
        self.blanks = blanks
        self.dtype = dtype
        # In float32, because the gradients of all frames of a unit are added up in this type.
        self.embed = nnx.Embed(units, width, dtype=jnp.float32, rngs=rngs)
        # Both modalities enter at one scale, the initial scale of the audio encoder's last norm. A learnt scale grew
        # during steps on text alone, and norms then dominated the distances to the audio.
        self.norm = nnx.LayerNorm(width, use_scale=False, use_bias=False, dtype=dtype, rngs=rngs)
        self.masked = nnx.Param(jax.random.normal(rngs.params(), (width,), jnp.float32))
        self.layers = layers

    def logical_axes(self) -> dict[str, tuple[str, ...]]:
        """Return the logical axes (`joint_st.distributed.sharding`) of the weights that are not in a layer."""
        return {"embed.embedding": ("vocabulary", "embed"), "masked": ("vector",)}

    def table(self) -> jax.Array:
        """Return the embedding of each unit before repetition, [units, D]."""
        return self.norm(self.embed.embedding[...])

    def __call__(
        self,
        units: jax.Array,
        repetitions: jax.Array,
        frames: int,
        augment: TextConfig | None = None,
        key: jax.Array | None = None,
        augmented: jax.Array | None = None,
        block: Block | None = None,
        confusions: ConfusionRates | None = None,
    ) -> EncodedText:
        """Return text frames of `units` [B, U]; unit `u` takes `repetitions` [B, U] (0 in the padding) of the `frames`.

        `augment` says what is masked and substituted and how much noise is added. It has an effect only if `key` is
        given, and only in the rows `augmented` [B], if given; `key` also draws dropout. block: length in text frames of
        the blocks within which the layers see ahead. confusions: how units are confused, in the same rows.
        """
        span_key, noise_key, layers_key, other_key = (None,) * 4 if key is None else jax.random.split(key, 4)
        augments = key is not None and augment is not None
        unit, mask = unit_of_frame(repetitions, frames)
        if augments and augment.substituted_share:
            others = draw_substitutes(other_key, units, augment.substituted_share, self.embed.num_embeddings)
            units = others if augmented is None else jnp.where(augmented[:, None], others, units)
        confuses = augments and confusions is not None
        if confuses:
            heard_key, where_key, which_key = jax.random.split(other_key, 3)
            others = draw_up_to(heard_key, jnp.asarray(confusions.heard)[units])
            if not self.blanks:
                others = cover_missed(others, units)
            units = others if augmented is None else jnp.where(augmented[:, None], others, units)
            rows = mask if augmented is None else mask & augmented[:, None]
            inserted = draw_insertions(where_key, unit, rows, confusions.insertion_rate, within=self.blanks)
        frame_units = jnp.take_along_axis(units, unit, axis=1)
        if self.blanks:
            repeated = jnp.pad(unit[:, 1:] == unit[:, :-1], ((0, 0), (1, 0)))
            frame_units = jnp.where(repeated, 0, frame_units)
        if confuses:
            up_to = jnp.broadcast_to(jnp.asarray(confusions.inserted), (*unit.shape, len(confusions.inserted)))
            frame_units = jnp.where(inserted, draw_up_to(which_key, up_to), frame_units)
        x = self.norm(self.embed(frame_units))
        if augments:
            where = mask if augmented is None else mask & augmented[:, None]
            if augment.noise:
                # JAX draws only 128 different numbers in bfloat16, whose mean is not 0.
                noise = augment.noise * jax.random.normal(noise_key, x.shape, jnp.float32)
                x = x + zero_padding(noise, where).astype(self.dtype)
            if augment.mask_share:
                spans = draw_spans(span_key, where, augment.mask_share, augment.mask_span)
                x = jnp.where(spans[..., None], self.masked[...].astype(self.dtype), x)
        if self.positions == "sinusoidal":
            x = x + sinusoids(frames, x.shape[-1]).astype(self.dtype)
        return EncodedText(self.layers(zero_padding(x, mask), mask, layers_key, block), mask, unit)


def sinusoids(frames: int, width: int) -> np.ndarray:
    """Return sines and cosines of positions [R, D], float32 (arXiv 1706.03762)."""
    half = -(-width // 2)
    angle = np.arange(frames)[:, None] * (10_000.0 ** (-np.arange(half) / half))
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=-1)[:, :width].astype(np.float32)


def repetitions(text: TextConfig, lengths: jax.Array, units: int, key: jax.Array | None = None) -> jax.Array:
    """Return how often each unit of texts of `lengths` [B] is repeated, int32 [B, U], 0 in the padding.

    The numbers are drawn if `text` says so and `key` is given; otherwise they are the mean of the range.
    """
    if text.repetition in ("none", "fixed"):
        times = text.repeat_most if text.repetition == "fixed" else 1
        return even_repetitions(lengths, units, times, times)
    if key is None:
        return even_repetitions(lengths, units, text.repeat_least, text.repeat_most)
    return draw_repetitions(key, lengths, units, text.repeat_least, text.repeat_most)


def most_frames(text: TextConfig, units: int) -> int:
    """Return a number of text frames that `repetitions` of texts of up to `units` units never exceed."""
    if text.repetition in ("none", "fixed"):
        return units * (text.repeat_most if text.repetition == "fixed" else 1)
    return frames_bound(units, text.repeat_least, text.repeat_most)
