"""An LSTM layer (Hochreiter and Schmidhuber, 1997), with a norm before it and a residual connection around it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from joint_st.models.layer import Layer, dropout
from joint_st.ops.masks import zero_padding

FORGET_BIAS = 1.0
"""Initial bias of the forget gate, so that a fresh layer remembers (Jozefowicz et al., 2015)."""


class LstmLayer(Layer):
    """`x + lstm(norm(x))`. The state is the last output and the content of the cells: [B, D] and [B, D], float32."""

    def __init__(self, width: int, *, dropout: float, rngs: nnx.Rngs):
        self.width = width
        self.dropout = dropout
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.inputs = nnx.Linear(width, 4 * width, rngs=rngs)
        self.recurrent = nnx.Linear(
            width, 4 * width, use_bias=False, kernel_init=nnx.initializers.orthogonal(), rngs=rngs
        )

    def __call__(self, x, mask, key=None, block=None):
        del block
        x = zero_padding(x, mask)
        y, _ = self._run(x, self.init_state(len(x)))
        return x + dropout(y, self.dropout, key)

    def init_state(self, batch):
        return (jnp.zeros((batch, self.width)), jnp.zeros((batch, self.width)))

    def step(self, x, mask, state):
        x = zero_padding(x, mask)
        y, state = self._run(x, state)
        return x + y, state

    def _run(self, x, state):
        """Return the outputs of the cells at each position of `x` [B, C, D], and the state after the last."""

        def advance(state, of_input):
            output, cell = state
            # One kernel for all gates: one matrix product a step.
            entry, forget, candidate, leave = jnp.split(of_input + self.recurrent(output), 4, axis=-1)
            cell = jax.nn.sigmoid(forget + FORGET_BIAS) * cell + jax.nn.sigmoid(entry) * jnp.tanh(candidate)
            output = jax.nn.sigmoid(leave) * jnp.tanh(cell)
            return (output, cell), output

        of_inputs = jnp.swapaxes(self.inputs(self.norm(x)), 0, 1)
        state, outputs = jax.lax.scan(advance, state, of_inputs)
        return jnp.swapaxes(outputs, 0, 1), state
