"""The front end turns int16 samples into encoder frames: log-mel, SpecAugment, causal subsampling by four."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from joint_st.config import SUBSAMPLING, FeaturesConfig, SpecAugmentConfig
from joint_st.distributed.mesh import ambient_mesh, over_batch
from joint_st.models.convolution import StridedConvolution, nonzero_bias
from joint_st.ops.level import running_mean, start_mean
from joint_st.ops.log_mel import LEAST_POWER, mel_power, normalised_log
from joint_st.ops.masks import length_mask, zero_padding
from joint_st.ops.spec_augment import spec_augment

SEEN = 7
"""Feature frames that an encoder frame is made from, by two convolutions of 3 frames and stride 2."""


class FrontEnd(nnx.Module):
    """`audio` int16 [B, S] -> [B, T, D], where `T = S / samples_per_frame`.

    Encoder frame `t` depends only on samples before `(t + 1) * samples_per_frame`. An utterance whose length is not a
    multiple of that is padded with silence, so that the whole form and the step form agree up to its last frame.
    """

    def __init__(self, features: FeaturesConfig, width: int, *, dtype, rngs: nnx.Rngs):
        self.features = features
        self.first = StridedConvolution(features.mels, width, dtype=dtype, rngs=rngs)
        self.second = StridedConvolution(width, width, dtype=dtype, rngs=rngs)
        self.out = nnx.Linear(width, width, bias_init=nonzero_bias(width), dtype=dtype, rngs=rngs)

    def _log_mel(self, audio, past, state):
        """Return features [B, F, mels] of `audio`, and the state of the level for the next piece."""
        f = self.features

        def of_rows(audio, past=None):
            return mel_power(
                audio,
                sample_rate=f.sample_rate,
                window=f.window,
                hop=f.hop,
                mels=f.mels,
                low_hz=f.low_hz,
                high_hz=f.high_hz,
                past=past,
                remove_offset=f.remove_offset,
            )

        # Otherwise XLA would gather the rows of all devices for a Fourier transform.
        mesh = ambient_mesh(len(audio))
        power = (over_batch(of_rows, mesh) if mesh else of_rows)(audio, *([] if past is None else [past]))
        after = {}
        if f.floor_db:
            mean, after["power"] = running_mean(power.mean(axis=-1, keepdims=True), state["power"])
            x = normalised_log(power, 10 ** (-f.floor_db / 10) * mean + LEAST_POWER)
        else:
            x = normalised_log(power)
        if f.level != "none":
            heard = x.mean(axis=-1, keepdims=True) if f.level == "level" else x
            mean, after["level"] = running_mean(heard, state["level"], f.level_weight)
            x = x - mean
        return x, after

    def frame_mask(self, lengths: jax.Array, samples: int) -> jax.Array:
        """Return the mask [B, T] of the encoder frames of utterances of `lengths` [B] samples, padded to `samples`."""
        return length_mask(self.features.frames(lengths), samples // self.features.samples_per_frame)

    def __call__(
        self,
        audio: jax.Array,
        lengths: jax.Array,
        augment: SpecAugmentConfig | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Compute whole utterances; masks of `augment` are drawn when `key` is given."""
        state = self.init_state(audio.shape[0])
        x, _ = self._log_mel(zero_padding(audio, length_mask(lengths, audio.shape[1])), None, state)
        if key is not None and augment is not None:
            feature_frames = self.features.frames(lengths) * SUBSAMPLING
            x = spec_augment(x, feature_frames, key, **augment.model_dump())
        return self._subsample(x, state)[0]

    def _subsample(self, x, state):
        x, first = self.first(x, state["first"])
        x, second = self.second(x, state["second"])
        return self.out(x), {"first": first, "second": second}

    def init_state(self, batch: int):
        """Return the state before the first sample of `batch` utterances."""
        f = self.features
        state = {
            "samples": jnp.zeros((batch, f.window - f.hop), jnp.int16),
            "first": self.first.init_state(batch),
            "second": self.second.init_state(batch),
        }
        if f.floor_db:
            state["power"] = start_mean(batch, 1)
        if f.level != "none":
            state["level"] = start_mean(batch, 1 if f.level == "level" else f.mels)
        return state

    def step(self, audio: jax.Array, state):
        """Return frames [B, C, D] of the next `C * samples_per_frame` samples, and the state after them."""
        features, level = self._log_mel(audio, state["samples"], state)
        y, after = self._subsample(features, state)
        after |= level
        kept = jnp.concatenate([state["samples"], audio], axis=1)
        after["samples"] = kept[:, kept.shape[1] - state["samples"].shape[1] :]
        return y, after
