"""A linear layer from embeddings to the symbols of an inventory."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx


class Projection(nnx.Module):
    """Maps embeddings [..., D] to logits [..., V] in float32."""

    def __init__(self, width: int, symbols: int, *, rngs: nnx.Rngs):
        self.linear = nnx.Linear(width, symbols, dtype=jnp.float32, rngs=rngs)

    def __call__(self, x):
        return self.linear(x.astype(jnp.float32))

    def logical_axes(self) -> dict[str, tuple[str, ...]]:
        """Return the logical axes of its weights (`joint_st.distributed.sharding`), by their dotted paths below it."""
        return {"linear.kernel": ("embed", "vocabulary"), "linear.bias": ("vocabulary",)}
