"""Convolutions over time: the conformer's depthwise module, and the strided front end."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from joint_st.models.layer import Block, Layer, ends_of_blocks
from joint_st.ops.depthwise import depthwise
from joint_st.ops.masks import zero_padding


class DepthwiseConvolution(nnx.Module):
    """One filter of `kernel` frames per channel, over an input already padded: [B, T + kernel - 1, D] -> [B, T, D]."""

    def __init__(self, width: int, kernel: int, *, dtype, rngs: nnx.Rngs):
        self.dtype = dtype
        init = jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        self.filters = nnx.Param(init(rngs.params(), (kernel, width), jnp.float32))

    def __call__(self, x):
        return depthwise(x, self.filters[...].astype(self.dtype))


class ConvolutionAhead(nnx.Module):
    """One filter per channel over the `taps` frames after each frame that are in its block: [B, T, D] -> [B, T, D].

    The input begins with a block, and is zero in the padding.
    """

    def __init__(self, width: int, taps: int, deviation: float, *, dtype, rngs: nnx.Rngs):
        self.taps = taps
        self.dtype = dtype
        init = jax.nn.initializers.normal(deviation)
        self.filters = nnx.Param(init(rngs.params(), (taps, width), jnp.float32))

    def __call__(self, x, block: Block):
        frames = x.shape[1]
        taps = min(self.taps, block - 1) if isinstance(block, int) else self.taps
        positions = np.arange(frames)
        ends = ends_of_blocks(positions, block)
        filters = self.filters[...].astype(self.dtype).astype(jnp.float32)  # the sum is float32
        x = jnp.pad(x, ((0, 0), (0, taps), (0, 0)))
        # Later frames beyond the block are replaced by zeros, not multiplied by zero, because they may be NaN.
        seen = (jnp.where((positions + i < ends)[:, None], x[:, i : i + frames], 0) for i in range(1, taps + 1))
        return sum((some * filters[i] for i, some in enumerate(seen)), start=jnp.zeros(())).astype(self.dtype)


class ConvolutionModule(Layer):
    """The conformer's convolution module (arXiv 2005.08100): gate, depthwise convolution, norm, swish, projection.

    It is causal, or centred on each frame (look-ahead `kernel // 2`). Layer norm replaces batch norm, because it neither
    mixes utterances nor looks ahead.

    If it is causal and has blocks of several frames, it has further weights for the `kernel // 2` frames after each
    frame, as a centred kernel does, and a frame uses those within its block. Dynamic chunk convolution (arXiv
    2304.09325) also sets the frames after the chunk to zero, but it does so in a centred kernel: in chunks of one frame,
    half of the kernel would be left, whereas here the whole causal kernel is. A convolution that is causal whatever
    attention sees, which WeNet uses for dynamic chunks, would leave the nearest later frames to attention alone. Each
    weight belongs to one distance from the frame in blocks of every length, so one set of weights can be trained with
    lengths drawn at random.
    """

    def __init__(self, width: int, kernel: int, blocks: tuple[int, ...] = (1,), *, causal: bool, dtype, rngs: nnx.Rngs):
        self.width = width
        self.kernel = kernel
        self.blocks = blocks
        self.causal = causal
        self.dtype = dtype
        self.look_ahead = min(kernel // 2, blocks[0] - 1) if causal else kernel // 2
        self.value = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.gate = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.depthwise = DepthwiseConvolution(width, kernel, dtype=dtype, rngs=rngs)
        self.norm = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.out = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        taps = min(kernel // 2, max(blocks) - 1) if causal else 0
        self.ahead = ConvolutionAhead(width, taps, kernel**-0.5, dtype=dtype, rngs=rngs) if taps else None

    def _gated(self, x, mask):
        return zero_padding(self.value(x) * jax.nn.sigmoid(self.gate(x)), mask)

    def _finish(self, padded, mask, x, block: Block):
        """Return the output for `x` [B, T, D]. padded: `x` with the `kernel - 1` frames around it that filters span."""
        y = self.depthwise(padded)
        if self.ahead is not None:
            y = y + self.ahead(x, block)
        return zero_padding(self.out(jax.nn.silu(self.norm(y))), mask)

    def __call__(self, x, mask, key=None, block=None):
        del key
        future = 0 if self.causal else self.kernel // 2
        x = self._gated(zero_padding(x, mask), mask)
        padded = jnp.pad(x, ((0, 0), (self.kernel - 1 - future, future), (0, 0)))
        return self._finish(padded, mask, x, self.blocks[0] if block is None else block)

    def init_state(self, batch):
        self.check_steps()
        return jnp.zeros((batch, self.kernel - 1, self.width), self.dtype)

    def step(self, x, mask, state):
        self.check_steps(x.shape[1])
        x = self._gated(zero_padding(x, mask), mask)
        padded = jnp.concatenate([state, x], axis=1)
        return self._finish(padded, mask, x, self.blocks[0]), padded[:, padded.shape[1] - self.kernel + 1 :]


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
