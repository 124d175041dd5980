"""The interface of every layer of the encoder, and stacks of equal layers.

A *layer* maps `x` [B, T, D] and its mask [B, T] to [B, T, D]. Its whole-sequence form is the call. A streaming
layer also has a step form, which takes the sequence in pieces of any length C and returns the same values:

    state = layer.init_state(batch)
    y, state = layer.step(x[:, a:b], mask[:, a:b], state)

`look_ahead` is the number of future frames the output at a frame depends on; `None` means the whole sequence, and
such a layer has no step form. Values under a `False` mask, NaN included, never reach a valid frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from joint_st.distributed.sharding import forget_gathered, gathered_layer, rows_apart

State = Any


class Layer(nnx.Module):
    """The interface of a layer; see the module's docstring."""

    look_ahead: int | None = 0

    def __call__(self, x: jax.Array, mask: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Compute whole sequences. `key` draws dropout; `None` means evaluation."""
        raise NotImplementedError

    def init_state(self, batch: int) -> State:
        """Return the state before the first frame of `batch` utterances."""
        raise NotImplementedError

    def step(self, x: jax.Array, mask: jax.Array, state: State) -> tuple[jax.Array, State]:
        """Return outputs [B, C, D] for the next C frames, and the state after them."""
        raise NotImplementedError

    def check_steps(self) -> None:
        """Raise `NotImplementedError` where the layer looks ahead and therefore has no step form."""
        if self.look_ahead != 0:
            raise NotImplementedError(f"{type(self).__name__} looks ahead ({self.look_ahead}): it has no step form")


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Set a share `rate` of the values of `x` to zero and scale up the rest; return `x` itself where `key` is
    `None`."""
    if key is None or not rate:
        return x
    kept = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(kept, x / (1 - rate), 0).astype(x.dtype)


class Stack(Layer):
    """`count` layers of one kind, one after the other, their parameters stacked along a first axis.

    The layers are scanned, so that compile time does not grow with their number. Weights that are cut over devices are
    gathered layer by layer, and sent as `dtype`, the type in which the layers compute.
    """

    def __init__(self, make: Callable[[nnx.Rngs], Layer], count: int, *, remat: bool, dtype=None, rngs: nnx.Rngs):
        self.count = count
        self.remat = remat
        self.dtype = dtype
        self.look_ahead = 0
        if count:

            @nnx.split_rngs(splits=count)
            @nnx.vmap(in_axes=0, out_axes=0)
            def make_all(rngs):
                return make(rngs)

            self.layers = make_all(rngs)
            self.look_ahead = None if self.layers.look_ahead is None else count * self.layers.look_ahead

    def every_layer(self, x, mask, key=None) -> jax.Array:
        """Return the outputs of all layers [L, B, T, D]; the last is the stack's output."""
        keys = None if key is None else jax.random.split(key, self.count)

        def body(x, layer_and_key):
            y = self._apply(x, mask, *layer_and_key)
            return y, y

        return jax.lax.scan(self._maybe_remat(body), x, (self.layers, keys))[1]

    def __call__(self, x, mask, key=None):
        if not self.count:
            return x
        keys = None if key is None else jax.random.split(key, self.count)

        def body(x, layer_and_key):
            return self._apply(x, mask, *layer_and_key), None

        return jax.lax.scan(self._maybe_remat(body), x, (self.layers, keys))[0]

    def _apply(self, x, mask, layer, key):
        return rows_apart(gathered_layer(layer, self.dtype)(x, mask, key))

    def _maybe_remat(self, body):
        return jax.checkpoint(body) if self.remat else forget_gathered(body)

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

        return jax.lax.scan(body, x, (self.layers, state))
