"""The interface of every layer of the encoder, and stacks of equal layers.

A *layer* maps `x` [B, T, D] and its mask [B, T] to [B, T, D]. Its whole-sequence form is the call. A streaming
layer also has a step form, which takes the sequence in pieces of any length C and returns the same values:

    state = layer.init_state(batch)
    y, state = layer.step(x[:, a:b], mask[:, a:b], state)

`look_ahead` is the number of future frames the output at a frame depends on; `None` means the whole sequence, and
such a layer has no step form. Values under a `False` mask, NaN included, never reach a valid frame.

A streaming layer can see ahead within *blocks*: frames 0 to C - 1, C to 2 C - 1 and so on, for a length C. A frame then
sees to the end of its block and no further, however many layers there are, and the step form takes whole blocks.
`blocks` has the lengths that a layer is made for; 1 is the causal case. The step form uses the first of them, and so does
the whole-sequence form unless the call names another. A length that is drawn at random is a traced number, so that the
lengths share one compilation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from joint_st.distributed.sharding import gathered_layer, rows_apart
from joint_st.ops.attention import ATTENDED

State = Any
Block = int | jax.Array
"""Length of a block in frames: a number, or a traced scalar."""

KEPT = jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable, jax.checkpoint_policies.save_only_these_names(ATTENDED)
)
"""What a layer keeps for its gradient: the results of products with weights, and those of attention."""


def ends_of_blocks(positions: np.ndarray, block: Block):
    """Return the end of the block (its last frame plus one) that each position is in."""
    return positions - positions % block + block


class Layer(nnx.Module):
    """The interface of a layer; see the module's docstring."""

    look_ahead: int | None = 0
    blocks: tuple[int, ...] = (1,)

    def __call__(
        self, x: jax.Array, mask: jax.Array, key: jax.Array | None = None, block: Block | None = None
    ) -> jax.Array:
        """Compute whole sequences. `key` draws dropout; `None` means evaluation. `block`: one of `blocks`; `None` means
        the first."""
        raise NotImplementedError

    def init_state(self, batch: int) -> State:
        """Return the state before the first frame of `batch` utterances."""
        raise NotImplementedError

    def step(self, x: jax.Array, mask: jax.Array, state: State) -> tuple[jax.Array, State]:
        """Return outputs [B, C, D] for the next C frames, which are whole blocks, and the state after them."""
        raise NotImplementedError

    def check_steps(self, frames: int | None = None) -> None:
        """Raise `NotImplementedError` where the layer looks beyond its block and therefore has no step form, and
        `ValueError` where a piece of `frames` frames is not made of whole blocks."""
        block = self.blocks[0]
        if self.look_ahead is None or self.look_ahead >= block:
            raise NotImplementedError(f"{type(self).__name__} looks ahead ({self.look_ahead}): it has no step form")
        if frames is not None and frames % block:
            raise ValueError(f"{type(self).__name__}: a piece of {frames} frames is not made of blocks of {block}")


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Set a share `rate` of the values of `x` [..., D] to zero and scale up the rest; return `x` itself where `key` is
    `None`. The share is rounded to a multiple of 1/65,536.

    On CPU two values share a random number, since drawing the numbers is most of the work. Elsewhere the numbers are
    drawn where they are used, and to share them would take longer.
    """
    if key is None or not rate:
        return x
    share = max(round((1 - rate) * 2**16), 1) / 2**16
    return jnp.where(kept(key, x.shape, share), x * (1 / share), 0).astype(x.dtype)


def kept(key: jax.Array, shape: tuple[int, ...], share: float) -> jax.Array:
    """Draw which values dropout keeps, bool of a shape; each with the probability `share`, a multiple of 1/65,536."""
    cpu, default = (functools.partial(form, shape=shape, share=share) for form in (kept_by_halves, kept_by_numbers))
    return lax.platform_dependent(key, cpu=cpu, default=default)


def kept_by_halves(key: jax.Array, shape: tuple[int, ...], share: float) -> jax.Array:
    """Return what `kept` does; two values share a random number."""
    drawn = jax.random.bits(key, (*shape[:-1], -(-shape[-1] // 2)), jnp.uint32)
    drawn = jnp.concatenate([drawn >> 16, drawn & 0xFFFF], axis=-1)[..., : shape[-1]]
    return drawn < round(share * 2**16)


def kept_by_numbers(key: jax.Array, shape: tuple[int, ...], share: float) -> jax.Array:
    """Return what `kept` does; each value has a random number."""
    return jax.random.bernoulli(key, share, shape)


class Stack(Layer):
    """`count` layers of one kind, one after the other, their parameters stacked along a first axis.

    The layers are scanned, so that compile time does not grow with their number. Weights that are cut over devices are
    gathered layer by layer, and sent as `dtype`, the type in which the layers compute.
    """

    def __init__(
        self,
        make: Callable[[nnx.Rngs], Layer],
        count: int,
        *,
        remat: bool,
        unroll: int = 1,
        dtype=None,
        rngs: nnx.Rngs,
    ):
        """unroll: layers that one pass of the loop computes."""
        self.count = count
        self.remat = remat
        self.unroll = max(min(unroll, count), 1)
        self.dtype = dtype
        self.look_ahead = 0
        if count:

            @nnx.split_rngs(splits=count)
            @nnx.vmap(in_axes=0, out_axes=0)
            def make_all(rngs):
                return make(rngs)

            self.layers = make_all(rngs)
            self.blocks = self.layers.blocks
            self.look_ahead = None if self.layers.look_ahead is None else count * self.layers.look_ahead
            if self.layers.look_ahead is not None and self.layers.look_ahead < self.blocks[0]:
                self.look_ahead = min(self.look_ahead, self.blocks[0] - 1)

    def every_layer(self, x, mask, key=None, block=None, skip: int = 0) -> jax.Array:
        """Return the outputs of all layers but the first `skip`, [L, B, T, D]; the last is the stack's output."""
        if skip >= self.count:
            return jnp.zeros((0, *x.shape), x.dtype)
        keys = None if key is None else jax.random.split(key, self.count - skip)
        layers = jax.tree.map(lambda weight: weight[skip:], self.layers) if skip else self.layers

        def body(x, layer_and_key):
            y = self._apply(x, mask, *layer_and_key, block)
            return y, y

        return lax.scan(self._kept(body), x, (layers, keys), unroll=min(self.unroll, self.count - skip))[1]

    def __call__(self, x, mask, key=None, block=None):
        if not self.count:
            return x
        keys = None if key is None else jax.random.split(key, self.count)

        def body(x, layer_and_key):
            return self._apply(x, mask, *layer_and_key, block), None

        return lax.scan(self._kept(body), x, (self.layers, keys), unroll=self.unroll)[0]

    def _apply(self, x, mask, layer, key, block):
        return rows_apart(gathered_layer(layer, self.dtype)(x, mask, key, block))

    def _kept(self, body):
        """Return `body` such that its gradient keeps `KEPT`, or with `remat` nothing, and computes the rest again.

        Where the layers are a loop, what is kept has to be written out in one loop and read in another. This takes
        longer than to compute what lies between two products again, so to keep everything would be slower, and would
        take more than twice the memory. Weights gathered along the axis `fsdp` are gathered again.
        """
        in_a_loop = self.unroll < self.count
        # The loops of the forward and of the backward pass are apart, so XLA cannot merge what is computed twice.
        return jax.checkpoint(body, policy=None if self.remat else KEPT, prevent_cse=self.remat and not in_a_loop)

    def init_state(self, batch):
        if not self.count:
            return ()
        return jax.vmap(lambda layer: layer.init_state(batch))(self.layers)

    def step(self, x, mask, state):
        if not self.count:
            return x, state

        def body(x, layer_and_state):
            layer, state = layer_and_state
            return layer.step(x, mask, state)

        return lax.scan(body, x, (self.layers, state))
