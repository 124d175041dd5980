"""Nearly orthogonal matrices by Newton-Schulz iterations, which Muon takes as updates (Jordan et al., "Muon", 2024)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

STEPS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Factors of the odd powers of a singular value, lowest first. Five steps raise those between 0.002 and 1 to 0.68 to
1.21."""


def orthogonalised(x: jax.Array, rounded: bool = False) -> jax.Array:
    """Return matrices [K, M, N], float32, with the singular vectors of `x` and singular values near 1.

    x: [K, M, N], float32, without singular values above 1, as a matrix divided by its Frobenius norm. rounded: round the
    operands of the products to bfloat16; sums are float32.
    """
    if x.shape[1] > x.shape[2]:
        return orthogonalised(x.swapaxes(1, 2), rounded).swapaxes(1, 2)
    operands = jnp.bfloat16 if rounded else jnp.float32
    first, third, fifth = COEFFICIENTS

    def product(x, y, axis: int):
        # The axis of `y` over which to sum is named, since a transposed copy of it would take a CPU as long as the product.
        over = (((1,), (axis,)), ((), ()))
        return lax.dot_general(x.astype(operands), y.astype(operands), over, preferred_element_type=jnp.float32)

    def of_one(x):
        for _ in range(STEPS):
            gram = product(x, x, 1)
            x = first * x + product(third * gram + fifth * product(gram, gram, 0), x, 0)
        return x

    # One matrix after the other stays in the cache of a CPU, which several at once do not.
    return lax.platform_dependent(x, cpu=lambda x: lax.map(of_one, x), default=jax.vmap(of_one))
