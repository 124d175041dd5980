"""Log-mel features of int16 audio, causal: a feature frame ends with the hop it belongs to.

Feature frame `f` is the window of `window` samples that ends at sample `(f + 1) * hop`; samples before the start
are zero. So a stream that delivers one hop delivers one feature frame, with no look-ahead.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

FLOOR = 1e-6
"""Power added to the mel power before the logarithm; about 20 dB above the quantisation noise of int16."""

LEAST_POWER = 1e-10
"""Smallest floor of the mel power if the floor follows the level; no int16 signal has less power."""

MEAN, SCALE = -6.0, 4.0
"""Fixed normalisation of the logarithm, so that speech at a usual level lies within about ±2."""


def hertz_to_mel(hertz):
    """Convert to the mel scale of O'Shaughnessy: `2595 log10(1 + f / 700)`."""
    return 2595.0 * np.log10(1.0 + np.asarray(hertz) / 700.0)


def mel_matrix(sample_rate: int, fft: int, mels: int, low_hz: float, high_hz: float) -> np.ndarray:
    """Return triangular filters [fft // 2 + 1, mels], evenly spaced in mel, with a peak of 1.

    A filter that is so narrow that it lies between two bins of the transform takes the nearest bin.
    """
    edges = np.linspace(hertz_to_mel(low_hz), hertz_to_mel(high_hz), mels + 2)
    bins = hertz_to_mel(np.arange(fft // 2 + 1) * sample_rate / fft)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0.0, np.minimum(rising, falling))
    (empty,) = np.nonzero(filters.max(axis=0) == 0)
    filters[np.abs(bins - edges[1:-1]).argmin(axis=0)[empty], empty] = 1.0
    return filters.astype(np.float32)


def normalised_log(power: jax.Array, floor: jax.Array | float = FLOOR) -> jax.Array:
    """Return the logarithm of power [B, F, mels] above a floor (a number, or [B, F, 1]), normalised by fixed
    numbers."""
    return (jnp.log(power + floor) - MEAN) / SCALE


def mel_power(
    audio: jax.Array,
    *,
    sample_rate: int,
    window: int,
    hop: int,
    mels: int,
    low_hz: float,
    high_hz: float,
    past: jax.Array | None = None,
    remove_offset: bool = False,
) -> jax.Array:
    """Return the power in mel channels [B, F, mels], float32, of `audio` int16 [B, F * hop], full scale being 1.

    `past` int16 [B, window - hop] holds the samples before `audio`; zeros when it is `None`. With `remove_offset` a
    constant is subtracted from each window, so that the weighted window has no power at 0 Hz.
    """
    batch, samples = audio.shape
    if past is None:
        past = jnp.zeros((batch, window - hop), audio.dtype)
    padded = jnp.concatenate([past, audio], axis=1).astype(jnp.float32) / 32768.0
    frames = samples // hop
    index = np.arange(frames)[:, None] * hop + np.arange(window)
    fft = 1 << (window - 1).bit_length()
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    windows, taper = padded[:, index], taper.astype(np.float32)
    if remove_offset:
        windows = windows - jnp.einsum("bfw,w->bf", windows, taper / taper.sum(), precision="highest")[..., None]
    spectrum = jnp.fft.rfft(windows * taper, n=fft)
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    return jnp.einsum("bfk,km->bfm", power, mel_matrix(sample_rate, fft, mels, low_hz, high_hz), precision="highest")
