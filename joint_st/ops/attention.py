"""Scaled dot-product attention under a mask, with a gradient of its own.

The gradient of the softmax needs only the weights and, for each query, the product of the output with the output's
gradient (as in FlashAttention, arXiv 2205.14135, appendix B.2): fewer passes over all pairs of frames than the one that
JAX derives, and on CPU 1.5 to 1.7 times as fast forward and backward.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

ATTENDED = "attended"
"""Name by which a policy of `jax.checkpoint` keeps the output of attention."""

LOWEST = -1e30
"""Score of a key that a query may not see. It is finite, so a query that may see none gets the mean of the values."""


@jax.custom_vjp
def attend(q: jax.Array, k: jax.Array, v: jax.Array, allowed: jax.Array) -> jax.Array:
    """Attend with `q` [B, C, H, E] to `k`, `v` [B, S, H, E]; `allowed` bool [B, C or 1, S]. Returns [B, C, H, E].

    Scores and weights are computed in float32, and the products take and give the type of `v`.
    """
    return _forward(q, k, v, allowed)[0]


def _forward(q, k, v, allowed):
    q, k, v = (x.transpose(0, 2, 1, 3) for x in (q, k, v))
    scores = jnp.einsum("bhce,bhse->bhcs", q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    scores = jnp.where(allowed[:, None], scores, LOWEST)
    weights = jnp.exp(scores - scores.max(axis=-1, keepdims=True))
    weights = (weights * (1 / weights.sum(axis=-1, keepdims=True))).astype(v.dtype)
    y = checkpoint_name(jnp.einsum("bhcs,bhse->bhce", weights, v), ATTENDED)
    return y.transpose(0, 2, 1, 3), (q, k, v, weights, y, allowed)


def _backward(saved, g):
    q, k, v, weights, y, allowed = saved
    g = g.transpose(0, 2, 1, 3)
    of_v = jnp.einsum("bhcs,bhce->bhse", weights, g)
    of_weights = jnp.einsum("bhce,bhse->bhcs", g, v, preferred_element_type=jnp.float32)
    mean = jnp.sum(g.astype(jnp.float32) * y.astype(jnp.float32), axis=-1, keepdims=True)
    of_scores = weights.astype(jnp.float32) * (of_weights - mean) * q.shape[-1] ** -0.5
    of_scores = jnp.where(allowed[:, None], of_scores, 0).astype(q.dtype)
    of_q = jnp.einsum("bhcs,bhse->bhce", of_scores, k)
    of_k = jnp.einsum("bhcs,bhce->bhse", of_scores, q)
    return *(x.transpose(0, 2, 1, 3) for x in (of_q, of_k, of_v)), None


attend.defvjp(_forward, _backward)
