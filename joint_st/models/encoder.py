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
from joint_st.passes import FULL_CONTEXT


class Encoded(NamedTuple):
    """What the encoder makes of a batch of speech or of text."""

    streaming: jax.Array
    """Embeddings [B, T, D] that the shared streaming layers put out."""
    full_context: jax.Array
    """Embeddings [B, T, D] that the shared full-context layers put out."""
    mask: jax.Array
    """Valid frames [B, T]."""
    layers: jax.Array
    """Embeddings [1 + L, B, T, D]: what entered the shared layers, then what each of them put out."""
    units: jax.Array | None = None
    """Logits [B, T, units], float32, of the auxiliary CTC over text units; None for text, and in a model without text."""


class EncodedAudio(NamedTuple):
    """What the audio encoder makes of a batch."""

    x: jax.Array
    """Embeddings [B, T, D] that enter the shared layers."""
    mask: jax.Array
    """Valid frames [B, T]."""
    units: jax.Array | None
    """Logits [B, T, units] of the auxiliary CTC over text units, or None."""


class JointEncoder(nnx.Module):
    """Speech or text to embeddings of two passes; speech as a whole or in a stream.

    The layers named `streaming` and `full_context` are shared: they exist once, here, and whatever modality comes in
    passes through `shared`. Cascade as in arXiv 2010.14606: the full-context layers stand on the streaming ones.
    There is a text encoder once `add_text` was called.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.conditioned_by: tuple[str, ...] = ()
        self.front_end = FrontEnd(config.features, config.width, dtype=jnp.dtype(config.compute_dtype), rngs=rngs)
        self.audio = self._layers(config.audio_layers, config.left_context, rngs)
        self.streaming = self._layers(config.streaming_layers, config.left_context, rngs)
        self.full_context = self._layers(config.full_context_layers, None, rngs)

    def add_text(self, units: int, *, rngs: nnx.Rngs) -> None:
        """Add the text encoder, and the projection by which an auxiliary CTC recognises text units in speech.

        It comes after everything else, so that the rest of the model begins with the same weights with and without
        text. units: size of their inventory.
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
            return ConformerLayer(
                config.width,
                heads=config.heads,
                feed_forward=config.feed_forward,
                kernel=config.kernel,
                left_context=left_context,
                blocks=blocks,
                dropout=config.dropout,
                dtype=dtype,
                rngs=rngs,
            )

        return Stack(make, count, remat=config.remat, dtype=dtype, rngs=rngs)

    def encode_audio(
        self, audio, lengths, augment: SpecAugmentConfig | None = None, key=None, block: Block | None = None
    ) -> EncodedAudio:
        """Embeddings of `audio` int16 [B, S] with `lengths` [B] samples, and the logits of its text units.

        block: length of the blocks within which streaming layers see ahead, in frames, here and below; that of the
        config's first look-ahead where it is None.
        """
        augment_key, dropout_key = (None, None) if key is None else jax.random.split(key)
        mask = self.front_end.frame_mask(lengths, audio.shape[1])
        x = zero_padding(self.front_end(audio, lengths, augment, augment_key), mask)
        x, units = self.hear(self.audio(x, mask, dropout_key, block))
        return EncodedAudio(zero_padding(x, mask), mask, units)

    def hear(self, x):
        """From the audio layers' `x` [B, T, D] to what enters the shared layers, and the logits of the text units.

        By `config.unit_conditioning` that is `x` itself, the embeddings that text would have weighted by how likely each
        unit is (blank among them), or both added, as conditioning on intermediate CTC does (arXiv 2104.02724).
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
    ) -> EncodedText:
        """Embeddings of `units` [B, U] in `frames` text frames; see `TextEncoder` and `repetitions` in the same module."""
        return self.text(units, repetitions, frames, augment, key, augmented, block)

    def condition(self, kinds: Mapping[str, tuple[type[Conditioning], Any]], sizes, *, rngs: nnx.Rngs) -> None:
        """Add what conditions the embeddings that enter the shared layers: by name, a class and its section."""
        for name, (kind, section) in kinds.items():
            setattr(self, f"{name}_conditioning", kind(section, self.config.width, sizes, rngs=rngs))
        self.conditioned_by = tuple(kinds)

    @property
    def columns(self) -> tuple[str, ...]:
        """The fields of a batch that condition the model."""
        return tuple(column for one in self._conditionings() for column in one.columns)

    def conditioned(self, x, mask, columns: Mapping[str, jax.Array] | None = None):
        """Embeddings `x` [B, T, D] as they enter the shared layers; what `columns` do not say is not known."""
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
        """Both passes over embeddings `x` [B, T, D], of whichever modality; `columns` [B] condition them."""
        x = self.conditioned(x, mask, columns)
        keys = (None, None) if key is None else jax.random.split(key)
        streaming = self.streaming.every_layer(x, mask, keys[0], block)
        full = self.full_context.every_layer(streaming[-1], mask, keys[1])
        layers = jnp.concatenate([x[None].astype(streaming.dtype), streaming, full])
        return Encoded(streaming[-1], full[-1], mask, layers)

    def __call__(
        self,
        audio,
        lengths,
        augment: SpecAugmentConfig | None = None,
        key=None,
        columns: Mapping[str, jax.Array] | None = None,
        block: Block | None = None,
    ) -> Encoded:
        """Both passes over `audio` int16 [B, S] with `lengths` [B] samples; `key` turns dropout and SpecAugment on."""
        keys = (None, None) if key is None else jax.random.split(key)
        encoded = self.encode_audio(audio, lengths, augment, keys[0], block)
        return self.shared(encoded.x, encoded.mask, keys[1], columns, block)._replace(units=encoded.units)

    @property
    def look_ahead(self) -> int:
        """Most frames beyond its own end that a frame of the streaming pass hears, in blocks of the first length.

        All layers have the same blocks, so a frame hears no more through several of them than through one.
        """
        return max(self.audio.look_ahead, self.streaming.look_ahead)

    def init_state(self, batch: int):
        """State of a stream before its first sample, for `batch` utterances."""
        return {
            "front_end": self.front_end.init_state(batch),
            "audio": self.audio.init_state(batch),
            "streaming": self.streaming.init_state(batch),
        }

    def step(self, audio, lengths, state):
        """What the shared streaming layers put out for the next piece of audio, [B, C, D], its mask [B, C], and the
        state after it.

        `audio` is int16 [B, C * samples_per_frame], whole blocks of the config's first look-ahead; `lengths` [B] of its
        samples are valid, fewer only where an utterance ends.
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
        """`state`, with that of `other` in `rows` [B] (bool): some streams pause or begin anew while others go on."""

        def choose(batch_axis):
            def of(old, new):
                return jnp.where(jnp.expand_dims(rows, [n for n in range(old.ndim) if n != batch_axis]), new, old)

            return of

        # The states of stacked layers have the layers first.
        axes = {"front_end": 0, "audio": 1, "streaming": 1}
        return {name: jax.tree.map(choose(axis), state[name], other[name]) for name, axis in axes.items()}

    def first_pass(self, audio, lengths, columns: Mapping[str, jax.Array] | None = None):
        """What the shared streaming layers put out for whole utterances, [B, T, D], and the mask [B, T]."""
        encoded = self.encode_audio(audio, lengths)
        x = self.conditioned(encoded.x, encoded.mask, columns)
        return self.streaming(x, encoded.mask), encoded.mask

    def second_pass(self, x, mask):
        """What the full-context layers put out, [B, T, D], over what the first pass, or a stream, put out, `x`."""
        return self.full_context(x, mask)

    def pass_over(self, name: str, x, mask):
        """Embeddings [B, T, D] of the pass `name`, one of `PASSES`, over what the first pass put out, `x`."""
        return self.second_pass(x, mask) if name == FULL_CONTEXT else x
