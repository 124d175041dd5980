"""The joint encoder: audio and text encoders, and the shared streaming and full-context layers on top of both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from joint_st.config import ModelConfig, SpecAugmentConfig, TextConfig
from joint_st.models.conditioning import Conditioning
from joint_st.models.conformer import ConformerLayer
from joint_st.models.front_end import FrontEnd
from joint_st.models.layer import Block, Stack
from joint_st.models.projection import Projection
from joint_st.models.text_encoder import EncodedText, TextEncoder
from joint_st.ops.masks import length_mask, zero_padding
from joint_st.ops.product import round_products
from joint_st.ops.text_frames import ConfusionRates
from joint_st.passes import FULL_CONTEXT


class Encoded(NamedTuple):
    """The encoder's outputs for a batch of speech or of text."""

    streaming: jax.Array | None
    """Outputs [B, T, D] of the shared streaming layers; None for text that enters above them."""
    full_context: jax.Array
    """Outputs [B, T, D] of the shared full-context layers."""
    mask: jax.Array
    """Valid frames [B, T]."""
    layers: jax.Array
    """Embeddings [1 + L, B, T, D]: the input of the shared layers, then the output of each of them. For text, they begin
    at depth `text_depth`, where it enters."""
    units: jax.Array | None = None
    """Logits [B, T, units], float32, of the auxiliary CTC over text units; None for text, and in a model without
    text."""


class EncodedAudio(NamedTuple):
    """The audio encoder's outputs for a batch."""

    x: jax.Array
    """Embeddings [B, T, D] that enter the shared layers."""
    mask: jax.Array
    """Valid frames [B, T]."""
    units: jax.Array | None
    """Logits [B, T, units] of the auxiliary CTC over text units, or None."""


class JointEncoder(nnx.Module):
    """Encodes speech or text into embeddings of two passes; speech as a whole or as a stream.

    The layers named `streaming` and `full_context` are shared: they exist once, here, and both modalities pass through
    `shared`. They form a cascade as in arXiv 2010.14606: the full-context layers take the outputs of the streaming
    ones. There is a text encoder after a call of `add_text`.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.conditioned_by: tuple[str, ...] = ()
        front_end = FrontEnd(config.features, config.width, dtype=jnp.dtype(config.compute_dtype), rngs=rngs)
        self.front_end = self._with_products(front_end)
        self.audio = self._layers(config.audio_layers, config.left_context, rngs)
        self.streaming = self._layers(config.streaming_layers, config.left_context, rngs)
        self.full_context = self._layers(config.full_context_layers, None, rngs)

    def add_text(self, units: int, *, rngs: nnx.Rngs) -> None:
        """Add the text encoder, and the projection by which an auxiliary CTC recognises text units in speech.

        This is done last, so that the rest of the model has the same initial weights with and without text. units: size
        of the inventory of units.
        """
        config = self.config
        self.text = TextEncoder(
            units,
            config.width,
            self._layers(config.text_layers, config.left_context, rngs),
            positions=config.text_positions,
            blanks=config.text_blanks,
            dtype=jnp.dtype(config.compute_dtype),
            rngs=rngs,
        )
        self.unit_head = Projection(config.width, units, rngs=rngs)

    def _layers(self, count: int, left_context: int | None, rngs: nnx.Rngs) -> Stack:
        config, dtype = self.config, jnp.dtype(self.config.compute_dtype)

        blocks = (1,) if left_context is None else config.blocks

        def make(rngs):
            layer = ConformerLayer(
                config.width,
                heads=config.heads,
                feed_forward=config.feed_forward,
                kernel=config.kernel,
                left_context=left_context,
                blocks=blocks,
                fused=config.attention == "fused",
                dropout=config.dropout,
                dtype=dtype,
                rngs=rngs,
            )
            return self._with_products(layer)

        return Stack(make, count, remat=config.remat, unroll=config.unroll, dtype=dtype, rngs=rngs)

    def _with_products(self, module):
        """Return a module that multiplies by its weights as the config says."""
        return round_products(module) if self.config.products == "rounded" else module

    def encode_audio(
        self, audio, lengths, augment: SpecAugmentConfig | None = None, key=None, block: Block | None = None
    ) -> EncodedAudio:
        """Return embeddings of `audio` int16 [B, S] with `lengths` [B] samples, and the logits of its text units.

        block: length in frames of the blocks within which streaming layers see ahead, here and in the methods below;
        None: the config's first.
        """
        augment_key, dropout_key = (None, None) if key is None else jax.random.split(key)
        mask = self.front_end.frame_mask(lengths, audio.shape[1])
        x = zero_padding(self.front_end(audio, lengths, augment, augment_key), mask)
        x, units = self.hear(self.audio(x, mask, dropout_key, block))
        return EncodedAudio(zero_padding(x, mask), mask, units)

    def hear(self, x):
        """Turn the audio layers' `x` [B, T, D] into the input of the shared layers; return the logits of the text units
        too.

        Depending on `config.unit_conditioning`, the input is `x` itself, the text embeddings of all units (and of the
        blank) weighted by their posteriors, or the sum of both, as in self-conditioned CTC (arXiv 2104.02724).
        """
        if not hasattr(self, "unit_head"):
            return x, None
        units = self.unit_head(x)
        if self.config.unit_conditioning == "none":
            return x, units
        expected = jax.nn.softmax(units).astype(x.dtype) @ self.text.table()
        return (expected if self.config.unit_conditioning == "replace" else x + expected), units

    def encode_text(
        self,
        units,
        repetitions,
        frames: int,
        augment: TextConfig | None = None,
        key=None,
        augmented=None,
        block: Block | None = None,
        confusions: ConfusionRates | None = None,
    ) -> EncodedText:
        """Return embeddings of `units` [B, U] in `frames` text frames; see `TextEncoder` and `repetitions` in the same
        module. They are scaled by `text_scale`."""
        encoded = self.text(units, repetitions, frames, augment, key, augmented, block, confusions)
        scale = self.config.text_scale
        return encoded if scale == 1 else encoded._replace(x=encoded.x * scale)

    def condition(self, kinds: Mapping[str, tuple[type[Conditioning], Any]], sizes, *, rngs: nnx.Rngs) -> None:
        """Add the conditionings of the embeddings that enter the shared layers: by name, a class and its section."""
        for name, (kind, section) in kinds.items():
            setattr(self, f"{name}_conditioning", kind(section, self.config.width, sizes, rngs=rngs))
        self.conditioned_by = tuple(kinds)

    @property
    def columns(self) -> tuple[str, ...]:
        """The fields of a batch that condition the model."""
        return tuple(column for one in self._conditionings() for column in one.columns)

    def conditioned(self, x, mask, columns: Mapping[str, jax.Array] | None = None):
        """Return embeddings `x` [B, T, D] with all conditionings applied; a column that is missing in `columns` is
        unknown."""
        own = self._conditionings()
        if not own:
            return x
        unknown = jnp.zeros(x.shape[0], jnp.int32)
        for one in own:
            x = one(x, {name: (columns or {}).get(name, unknown) for name in one.columns})
        return zero_padding(x, mask)

    def _conditionings(self) -> list[Conditioning]:
        return [getattr(self, f"{name}_conditioning") for name in self.conditioned_by]

    def shared(
        self, x, mask, key=None, columns: Mapping[str, jax.Array] | None = None, block: Block | None = None
    ) -> Encoded:
        """Run both passes over embeddings `x` [B, T, D] that enter at the bottom, as speech does; `columns` [B]
        condition them."""
        return self._shared(x, mask, key, columns, block, 0)

    def shared_of_text(
        self, x, mask, key=None, columns: Mapping[str, jax.Array] | None = None, block: Block | None = None
    ) -> Encoded:
        """Run both passes over text embeddings `x` [B, R, D], which enter at depth `text_depth`."""
        return self._shared(x, mask, key, columns, block, self.config.text_depth)

    def _shared(self, x, mask, key, columns, block, depth: int) -> Encoded:
        x = self.conditioned(x, mask, columns)
        keys = (None, None) if key is None else jax.random.split(key)
        streaming = self.streaming.every_layer(x, mask, keys[0], block, skip=depth)
        first_pass = streaming[-1] if len(streaming) else x
        above = max(depth - self.streaming.count, 0)
        full = self.full_context.every_layer(first_pass, mask, keys[1], skip=above)
        layers = jnp.concatenate([x[None].astype(streaming.dtype), streaming, full])
        return Encoded(None if above else first_pass, full[-1], mask, layers)

    def __call__(
        self,
        audio,
        lengths,
        augment: SpecAugmentConfig | None = None,
        key=None,
        columns: Mapping[str, jax.Array] | None = None,
        block: Block | None = None,
    ) -> Encoded:
        """Run both passes over `audio` int16 [B, S] with `lengths` [B] samples; `key` turns dropout and SpecAugment
        on."""
        keys = (None, None) if key is None else jax.random.split(key)
        encoded = self.encode_audio(audio, lengths, augment, keys[0], block)
        return self.shared(encoded.x, encoded.mask, keys[1], columns, block)._replace(units=encoded.units)

    @property
    def look_ahead(self) -> int:
        """Look-ahead of the streaming pass in frames, in blocks of the config's first length.

        All layers have the same blocks, so several layers look no further ahead than one.
        """
        return max(self.audio.look_ahead, self.streaming.look_ahead)

    def init_state(self, batch: int):
        """Return the state before the first sample of `batch` streams."""
        return {
            "front_end": self.front_end.init_state(batch),
            "audio": self.audio.init_state(batch),
            "streaming": self.streaming.init_state(batch),
        }

    def step(self, audio, lengths, state):
        """Return the outputs of the shared streaming layers for the next piece of audio, [B, C, D], their mask [B, C],
        and the next state.

        `audio` is int16 [B, C * samples_per_frame], in whole blocks of the config's first length; `lengths` [B] of its
        samples are valid, fewer than all only at the end of an utterance.
        """
        mask = self.front_end.frame_mask(lengths, audio.shape[1])
        audio = zero_padding(audio, length_mask(lengths, audio.shape[1]))
        after = {}
        x, after["front_end"] = self.front_end.step(audio, state["front_end"])
        x, after["audio"] = self.audio.step(zero_padding(x, mask), mask, state["audio"])
        x = self.conditioned(zero_padding(self.hear(x)[0], mask), mask)
        x, after["streaming"] = self.streaming.step(x, mask, state["streaming"])
        return x, mask, after

    def replace_state(self, rows, state, other):
        """Return `state` with `rows` [B] (bool) taken from `other`, so that some streams can pause or start again while
        others continue."""

        def choose(batch_axis):
            def of(old, new):
                return jnp.where(jnp.expand_dims(rows, [n for n in range(old.ndim) if n != batch_axis]), new, old)

            return of

        # The states of stacked layers have the layers first.
        axes = {"front_end": 0, "audio": 1, "streaming": 1}
        return {name: jax.tree.map(choose(axis), state[name], other[name]) for name, axis in axes.items()}

    def first_pass(self, audio, lengths, columns: Mapping[str, jax.Array] | None = None):
        """Return the outputs of the shared streaming layers for whole utterances, [B, T, D], and the mask [B, T]."""
        encoded = self.encode_audio(audio, lengths)
        x = self.conditioned(encoded.x, encoded.mask, columns)
        return self.streaming(x, encoded.mask), encoded.mask

    def second_pass(self, x, mask):
        """Return the outputs of the full-context layers, [B, T, D], given `x`, the outputs of the first pass or of a
        stream."""
        return self.full_context(x, mask)

    def pass_over(self, name: str, x, mask):
        """Return embeddings [B, T, D] of the pass `name`, one of `PASSES`, given `x`, the outputs of the first pass."""
        return self.second_pass(x, mask) if name == FULL_CONTEXT else x
