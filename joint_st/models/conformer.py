"""The conformer layer (arXiv 2005.08100): half feed-forward, attention, convolution, half feed-forward, norm."""

from __future__ import annotations

import jax
from flax import nnx

from joint_st.models.attention import Attention
from joint_st.models.convolution import ConvolutionModule
from joint_st.models.layer import Layer, dropout
from joint_st.ops.masks import zero_padding


class FeedForward(Layer):
    """Two linear maps with swish between, frame by frame."""

    def __init__(self, width: int, factor: int, *, dtype, rngs: nnx.Rngs):
        self.inner = nnx.Linear(width, factor * width, dtype=dtype, rngs=rngs)
        self.out = nnx.Linear(factor * width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x, mask, key=None, block=None):
        del key, block
        return self.out(jax.nn.silu(self.inner(zero_padding(x, mask))))

    def init_state(self, batch):
        return ()

    def step(self, x, mask, state):
        return self(x, mask), state


class ConformerLayer(Layer):
    """One conformer layer, pre-norm with a last norm: streaming with `left_context` frames, full-context with `None`.

    Attention and convolution of a streaming layer see ahead within `blocks` (`joint_st.models.layer`).
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        feed_forward: int,
        kernel: int,
        left_context: int | None,
        blocks: tuple[int, ...] = (1,),
        fused: bool = False,
        dropout: float,
        dtype,
        rngs: nnx.Rngs,
    ):
        self.look_ahead = None if left_context is None else blocks[0] - 1
        self.blocks = blocks
        causal = left_context is not None
        self.dropout = dropout
        self.modules = nnx.List(
            [
                FeedForward(width, feed_forward, dtype=dtype, rngs=rngs),
                Attention(width, heads, left_context, blocks, fused=fused, dtype=dtype, rngs=rngs),
                ConvolutionModule(width, kernel, blocks, causal=causal, dtype=dtype, rngs=rngs),
                FeedForward(width, feed_forward, dtype=dtype, rngs=rngs),
            ]
        )
        self.norms = nnx.List([nnx.LayerNorm(width, dtype=dtype, rngs=rngs) for _ in self.modules])
        self.last_norm = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.scales = (0.5, 1.0, 1.0, 0.5)

    def __call__(self, x, mask, key=None, block=None):
        x = zero_padding(x, mask)
        keys = [None] * 4 if key is None else jax.random.split(key, 4)
        for norm, module, scale, key in zip(self.norms, self.modules, self.scales, keys):
            x = x + scale * dropout(module(norm(x), mask, None, block), self.dropout, key)
        return zero_padding(self.last_norm(x), mask)

    def init_state(self, batch):
        self.check_steps()
        return tuple(module.init_state(batch) for module in self.modules)

    def step(self, x, mask, state):
        self.check_steps(x.shape[1])
        x = zero_padding(x, mask)
        states = []
        for norm, module, scale, before in zip(self.norms, self.modules, self.scales, state):
            y, after = module.step(norm(x), mask, before)
            x = x + scale * y
            states.append(after)
        return zero_padding(self.last_norm(x), mask), tuple(states)
