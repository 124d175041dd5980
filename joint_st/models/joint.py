"""The joint encoder: audio and text encoders, shared streaming and full-context layers, a CTC head on each."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from joint_st.config import ModelConfig, SpecAugmentConfig, TextConfig
from joint_st.models.conformer import ConformerLayer
from joint_st.models.front_end import FrontEnd
from joint_st.models.layer import Stack
from joint_st.models.text_encoder import EncodedText, TextEncoder
from joint_st.ops.masks import length_mask, zero_padding


class Outputs(NamedTuple):
    """What the heads say of a batch, and the embeddings on the way there."""

    streaming: jax.Array
    """Logits [B, T, V], float32, of the streaming head."""
    full_context: jax.Array
    """Logits [B, T, V], float32, of the full-context head."""
    mask: jax.Array
    """Valid frames [B, T]."""
    layers: jax.Array
    """Embeddings [1 + L, B, T, D]: what entered the shared layers, then what each of them put out."""
    units: jax.Array | None = None
    """Logits [B, T, units], float32, of the text units heard; None for text, and in a model without text."""


class EncodedAudio(NamedTuple):
    """What the audio encoder makes of a batch."""

    x: jax.Array
    """Embeddings [B, T, D] that enter the shared layers."""
    mask: jax.Array
    """Valid frames [B, T]."""
    units: jax.Array | None
    """Logits [B, T, units] of the text units heard, or None."""


class Head(nnx.Module):
    """Logits [B, T, V] in float32, blank at 0, of embeddings [B, T, D]."""

    def __init__(self, width: int, vocabulary: int, *, rngs: nnx.Rngs):
        self.linear = nnx.Linear(width, vocabulary, dtype=jnp.float32, rngs=rngs)

    def __call__(self, x):
        return self.linear(x.astype(jnp.float32))


class JointModel(nnx.Module):
    """Speech or text to logits on two heads; speech as a whole or in a stream.

    `units` is the size of the text units' inventory; with 0 there is no text encoder. The layers named `streaming`
    and `full_context` are shared: they exist once, here, and whatever modality comes in passes through `shared`.
    Cascade as in arXiv 2010.14606: the full-context layers stand on the streaming ones.
    """

    def __init__(self, config: ModelConfig, vocabulary: int, units: int = 0, *, rngs: nnx.Rngs):
        self.config = config
        dtype = jnp.dtype(config.compute_dtype)

        def layers(count, left_context):
            def make(rngs):
                return ConformerLayer(
                    config.width,
                    heads=config.heads,
                    feed_forward=config.feed_forward,
                    kernel=config.kernel,
                    left_context=left_context,
                    dropout=config.dropout,
                    dtype=dtype,
                    rngs=rngs,
                )

            return Stack(make, count, remat=config.remat, dtype=dtype, rngs=rngs)

        self.front_end = FrontEnd(config.features, config.width, dtype=dtype, rngs=rngs)
        self.audio = layers(config.audio_layers, config.left_context)
        self.streaming = layers(config.streaming_layers, config.left_context)
        self.full_context = layers(config.full_context_layers, None)
        self.streaming_head = Head(config.width, vocabulary, rngs=rngs)
        self.full_context_head = Head(config.width, vocabulary, rngs=rngs)
        # Last, so that what is there without text begins with the same weights beside it.
        if units:
            text_layers = layers(config.text_layers, config.left_context)
            self.text = TextEncoder(
                units,
                config.width,
                text_layers,
                positions=config.text_positions,
                blanks=config.text_blanks,
                dtype=dtype,
                rngs=rngs,
            )
            self.unit_head = Head(config.width, units, rngs=rngs)

    def encode_audio(self, audio, lengths, augment: SpecAugmentConfig | None = None, key=None) -> EncodedAudio:
        """Embeddings of `audio` int16 [B, S] with `lengths` [B] samples, and the units heard in it."""
        augment_key, dropout_key = (None, None) if key is None else jax.random.split(key)
        mask = self.front_end.frame_mask(lengths, audio.shape[1])
        x = zero_padding(self.front_end(audio, lengths, augment, augment_key), mask)
        x, units = self.hear(self.audio(x, mask, dropout_key))
        return EncodedAudio(zero_padding(x, mask), mask, units)

    def hear(self, x):
        """From the audio layers' `x` [B, T, D] to what enters the shared layers, and the logits of the units heard.

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
        self, units, repetitions, frames: int, augment: TextConfig | None = None, key=None, augmented=None
    ) -> EncodedText:
        """Embeddings of `units` [B, U] in `frames` text frames; see `TextEncoder`, and `repetitions` beside it."""
        return self.text(units, repetitions, frames, augment, key, augmented)

    def shared(self, x, mask, key=None) -> Outputs:
        """Both heads' logits of embeddings `x` [B, T, D], of whichever modality."""
        keys = (None, None) if key is None else jax.random.split(key)
        streaming = self.streaming.every_layer(x, mask, keys[0])
        full = self.full_context.every_layer(streaming[-1], mask, keys[1])
        layers = jnp.concatenate([x[None].astype(streaming.dtype), streaming, full])
        return Outputs(self.streaming_head(streaming[-1]), self.full_context_head(full[-1]), mask, layers)

    def __call__(self, audio, lengths, augment: SpecAugmentConfig | None = None, key=None) -> Outputs:
        """Logits of `audio` int16 [B, S] with `lengths` [B] samples; `key` turns dropout and SpecAugment on."""
        keys = (None, None) if key is None else jax.random.split(key)
        encoded = self.encode_audio(audio, lengths, augment, keys[0])
        return self.shared(encoded.x, encoded.mask, keys[1])._replace(units=encoded.units)

    @property
    def latency_ms(self) -> float:
        """Time the streaming head lags behind the audio: one frame, and the look-ahead of its layers."""
        frames = 1 + self.audio.look_ahead + self.streaming.look_ahead
        return frames * 1000 * self.config.features.samples_per_frame / self.config.features.sample_rate

    def init_state(self, batch: int):
        """State of a stream before its first sample, for `batch` utterances."""
        return {
            "front_end": self.front_end.init_state(batch),
            "audio": self.audio.init_state(batch),
            "streaming": self.streaming.init_state(batch),
        }

    def step(self, audio, lengths, state):
        """Streaming logits [B, C, V] and mask [B, C] of the next piece of audio, and the state after it.

        `audio` is int16 [B, C * samples_per_frame]; `lengths` [B] of its samples are valid, fewer only where an
        utterance ends.
        """
        x, mask, after = self.step_embeddings(audio, lengths, state)
        return self.streaming_head(x), mask, after

    def step_embeddings(self, audio, lengths, state):
        """As `step`, but what the shared streaming layers put out, [B, C, D], in place of the logits."""
        mask = self.front_end.frame_mask(lengths, audio.shape[1])
        audio = zero_padding(audio, length_mask(lengths, audio.shape[1]))
        after = {}
        x, after["front_end"] = self.front_end.step(audio, state["front_end"])
        x, after["audio"] = self.audio.step(zero_padding(x, mask), mask, state["audio"])
        x, after["streaming"] = self.streaming.step(zero_padding(self.hear(x)[0], mask), mask, state["streaming"])
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

    def first_pass(self, audio, lengths):
        """What the shared streaming layers put out for whole utterances, [B, T, D], and the mask [B, T]."""
        encoded = self.encode_audio(audio, lengths)
        return self.streaming(encoded.x, encoded.mask), encoded.mask

    def second_pass(self, x, mask):
        """Full-context logits [B, T, V] of what the first pass, or a stream, put out for utterances, `x` [B, T, D]."""
        return self.full_context_head(self.full_context(x, mask))
