"""Log-mel features of int16 audio, causal: a feature frame ends with the hop it belongs to.

Feature frame `f` is the window of `window` samples that ends at sample `(f + 1) * hop`; samples before the start
are zero. So a stream that delivers one hop delivers one feature frame, with no look-ahead.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

FLOOR = 1e-6
"""Power added to the mel power before the logarithm: with the default filters, that of white noise 86 dB below full scale,
and 10 to 20 dB (high and low channels) above the quantisation noise of int16."""

LEAST_POWER = 1e-10
"""Smallest floor of the mel power if the floor follows the level, far below the quantisation noise of int16."""

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


def fft_size(window: int) -> int:
    """Return the samples of the transform of a window, a power of two."""
    return 1 << (window - 1).bit_length()


def taper_of(window: int) -> np.ndarray:
    """Return the Hann window [window]."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)


def power_by_fft(padded: jax.Array, window: int, hop: int, remove_offset: bool) -> jax.Array:
    """Return the power [B, F, bins] of the windows of `padded` [B, window - hop + F * hop] by a fast Fourier
    transform."""
    frames = (padded.shape[1] - window) // hop + 1
    windows, taper = padded[:, np.arange(frames)[:, None] * hop + np.arange(window)], taper_of(window)
    if remove_offset:
        weights = (taper / taper.sum()).astype(np.float32)
        windows = windows - jnp.einsum("bfw,w->bf", windows, weights, precision="highest")[..., None]
    spectrum = jnp.fft.rfft(windows * taper.astype(np.float32), n=fft_size(window))
    return jnp.square(spectrum.real) + jnp.square(spectrum.imag)


def power_by_products(padded: jax.Array, window: int, hop: int, remove_offset: bool) -> jax.Array:
    """Return what `power_by_fft` does, by products of hops and the cosines and sines of the transform.

    A window is a few whole hops, of which the first may count in part. So the audio is cut into hops once, and the
    windows are hops side by side, which a compiler need not write out.
    """
    hops = -(-window // hop)
    before = hops * hop - window
    matrix = np.pad(fourier_matrix(window, remove_offset), ((before, 0), (0, 0))).astype(np.float32)
    cut = jnp.pad(padded, ((0, 0), (before, 0))).reshape(len(padded), -1, hop)
    frames = cut.shape[1] - hops + 1
    windows = jnp.concatenate([cut[:, i : i + frames] for i in range(hops)], axis=-1)
    real, imaginary = jnp.split(jnp.einsum("bfh,hk->bfk", windows, matrix, precision="highest"), 2, axis=-1)
    return jnp.square(real) + jnp.square(imaginary)


def fourier_matrix(window: int, remove_offset: bool) -> np.ndarray:
    """Return the matrix [window, 2 * bins], float64, that maps a window to the real and the imaginary part of the
    transform of the window without its offset, weighted by the Hann window."""
    size, taper = fft_size(window), taper_of(window)
    angle = 2 * np.pi / size * np.outer(np.arange(window), np.arange(size // 2 + 1))
    matrix = taper[:, None] * np.concatenate([np.cos(angle), -np.sin(angle)], axis=1)
    # The offset of a window is a weighted sum of its samples; every sample has it subtracted.
    return matrix - np.outer(taper / taper.sum(), matrix.sum(axis=0)) if remove_offset else matrix


FORMS = MappingProxyType({"fft": power_by_fft, "products": power_by_products})
"""The forms of the Fourier transform. A TPU has no unit for the first, whose program is long and takes minutes to compile;
the second takes few passes over the data there (`benchmarks/tpu_forms.py`). On CPU the first is faster."""


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
    form: Literal["fft", "products"] | None = None,
) -> jax.Array:
    """Return the power in mel channels [B, F, mels], float32, of `audio` int16 [B, F * hop], full scale being 1.

    `past` int16 [B, window - hop] holds the samples before `audio`; zeros when it is `None`. With `remove_offset` a
    constant is subtracted from each window, so that the weighted window has no power at 0 Hz. form: how to compute the
    Fourier transform, by default the faster way on each platform.
    """
    if past is None:
        past = jnp.zeros((audio.shape[0], window - hop), audio.dtype)
    padded = jnp.concatenate([past, audio], axis=1).astype(jnp.float32) / 32768.0

    def by(name: str) -> Callable[[jax.Array], jax.Array]:
        return lambda padded: FORMS[name](padded, window, hop, remove_offset)

    power = by(form)(padded) if form else lax.platform_dependent(padded, tpu=by("products"), default=by("fft"))
    filters = mel_matrix(sample_rate, fft_size(window), mels, low_hz, high_hz)
    return jnp.einsum("bfk,km->bfm", power, filters, precision="highest")
