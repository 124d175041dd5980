"""Convolutions over time: the conformer's depthwise module, and the strided front end."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from joint_st.models.layer import Layer
from joint_st.ops.masks import zero_padding


class DepthwiseConvolution(nnx.Module):
    """One filter of `kernel` frames per channel, over an input already padded: [B, T + kernel - 1, D] -> [B, T, D].

    It is written as shift and add, because the gradient of XLA's grouped convolution inside a scan is many times slower
    on CPU.
    """

    def __init__(self, width: int, kernel: int, *, dtype, rngs: nnx.Rngs):
        self.kernel = kernel
        self.dtype = dtype
        init = jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        self.filters = nnx.Param(init(rngs.params(), (kernel, width), jnp.float32))

    def __call__(self, x):
        frames = x.shape[1] - self.kernel + 1
        filters = self.filters[...].astype(self.dtype)
        return sum(x[:, i : i + frames] * filters[i] for i in range(self.kernel))


class ConvolutionModule(Layer):
    """The conformer's convolution module (arXiv 2005.08100): gate, depthwise convolution, norm, swish, projection.

    It is causal (look-ahead 0), or centred on each frame (look-ahead `kernel // 2`). Layer norm replaces batch norm,
    because it neither mixes utterances nor looks ahead.
    """

    def __init__(self, width: int, kernel: int, *, causal: bool, dtype, rngs: nnx.Rngs):
        self.width = width
        self.kernel = kernel
        self.causal = causal
        self.dtype = dtype
        self.look_ahead = 0 if causal else kernel // 2
        self.value = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.gate = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.depthwise = DepthwiseConvolution(width, kernel, dtype=dtype, rngs=rngs)
        self.norm = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.out = nnx.Linear(width, width, dtype=dtype, rngs=rngs)

    def _gated(self, x, mask):
        return zero_padding(self.value(x) * jax.nn.sigmoid(self.gate(x)), mask)

    def _finish(self, x, mask):
        return zero_padding(self.out(jax.nn.silu(self.norm(self.depthwise(x)))), mask)

    def __call__(self, x, mask, key=None):
        del key
        future = 0 if self.causal else self.kernel // 2
        x = self._gated(zero_padding(x, mask), mask)
        x = jnp.pad(x, ((0, 0), (self.kernel - 1 - future, future), (0, 0)))
        return self._finish(x, mask)

    def init_state(self, batch):
        self.check_steps()
        return jnp.zeros((batch, self.kernel - 1, self.width), self.dtype)

    def step(self, x, mask, state):
        self.check_steps()
        x = jnp.concatenate([state, self._gated(zero_padding(x, mask), mask)], axis=1)
        return self._finish(x, mask), x[:, x.shape[1] - self.kernel + 1 :]


def nonzero_bias(inputs: int):
    """Initializer of the biases of a layer in the front end: uniform in ±1/√inputs.

    A time mask of SpecAugment sets the front end's input to zero. With biases that start at zero, outputs that depend
    on masked frames only would be exactly zero, and every layer norm multiplies the gradient of such a frame by
    1/√epsilon = 1,000: a mask at an utterance's start made the gradient overflow within a few layers.
    """
    bound = inputs**-0.5

    def init(key, shape, dtype=jnp.float32, **_):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class StridedConvolution(nnx.Module):
    """A causal convolution of 3 frames and stride 2, with swish: [B, 2 T, in] -> [B, T, out].

    Output `t` sees inputs `2 t - 1`, `2 t` and `2 t + 1`. `past` [B, 1, in] is the input before the first.
    """

    def __init__(self, inputs: int, outputs: int, *, dtype, rngs: nnx.Rngs):
        self.inputs = inputs
        self.dtype = dtype
        self.linear = nnx.Linear(3 * inputs, outputs, bias_init=nonzero_bias(3 * inputs), dtype=dtype, rngs=rngs)

    def init_state(self, batch):
        return jnp.zeros((batch, 1, self.inputs), self.dtype)

    def __call__(self, x, past):
        x = x.astype(self.dtype)
        pairs = x.reshape(x.shape[0], x.shape[1] // 2, 2 * self.inputs)
        before = jnp.concatenate([past.astype(self.dtype), pairs[:, :-1, self.inputs :]], axis=1)
        return jax.nn.silu(self.linear(jnp.concatenate([before, pairs], axis=-1))), x[:, -1:]
