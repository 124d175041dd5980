"""A linear layer from embeddings to the symbols of an inventory."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx


class Projection(nnx.Module):
    """Logits [..., V] in float32 of embeddings [..., D]."""

    def __init__(self, width: int, symbols: int, *, rngs: nnx.Rngs):
        self.linear = nnx.Linear(width, symbols, dtype=jnp.float32, rngs=rngs)

    def __call__(self, x):
        return self.linear(x.astype(jnp.float32))

    def logical_axes(self) -> dict[str, tuple[str, ...]]:
        """The logical axes of its weights (`joint_st.distributed.sharding`), by their dotted paths below it."""
        return {"linear.kernel": ("embed", "vocabulary"), "linear.bias": ("vocabulary",)}
