"""Scaled dot-product attention under a mask, with a gradient that computes the weights again.

The weights, a number for each pair of frames, are not kept for the gradient. On CPU the gradient of the softmax is
computed from the weights and, for each query, the product of the output with the output's gradient (as in FlashAttention,
arXiv 2205.14135, appendix B.2): fewer passes over all pairs than the one that JAX derives, which takes 1.5 times as long.
There, a batch is also computed in groups of as many rows as the cache holds the scores of: long rows then take half the time.
Other platforms have JAX's own attention and its gradient: a TPU's compiler merges those passes, and its program then moves
fewer bytes.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

ATTENDED = "attended"
"""Name by which a policy of `jax.checkpoint` keeps the output of attention."""

CACHED_BYTES = 2**21
"""Bytes of the scores of the rows that a CPU takes together, unless a single one has more."""

LOWEST = -1e30
"""Score of a key that a query may not see. It is finite, so a query that may see none gets the mean of the values."""


@jax.custom_vjp
def attend(q: jax.Array, k: jax.Array, v: jax.Array, allowed: jax.Array) -> jax.Array:
    """Attend with `q` [B, C, H, E] to `k`, `v` [B, S, H, E]; `allowed` bool [B, C or 1, S]. Returns [B, C, H, E].

    Scores and weights are computed in float32, and the products take and give the type of `v`.
    """
    return lax.platform_dependent(q, k, v, allowed, cpu=_attend_on_cpu, default=_jaxs_own)


def _forward(q, k, v, allowed):
    y = checkpoint_name(attend(q, k, v, allowed), ATTENDED)
    return y, (q, k, v, allowed, y)


def _backward(saved, g):
    gradients = lax.platform_dependent(*saved, g, cpu=_gradient_on_cpu, default=_gradient_of_jaxs_own)
    return *gradients, None


attend.defvjp(_forward, _backward)


def _jaxs_own(q, k, v, allowed):
    return jax.nn.dot_product_attention(q, k, v, mask=allowed[:, None])


def _gradient_of_jaxs_own(q, k, v, allowed, y, g):
    del y
    return jax.vjp(lambda q, k, v: _jaxs_own(q, k, v, allowed), q, k, v)[1](g)


def _heads_first(x):
    """Exchange the two axes between the first and the last: frames and heads."""
    return x.transpose(0, 2, 1, 3)


def _weights(q, k, allowed):
    """Return the weights [B, H, C, S], float32, of `q` [B, H, C, E] and `k` [B, H, S, E]."""
    scores = jnp.einsum("bhce,bhse->bhcs", q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    scores = jnp.where(allowed[:, None], scores, LOWEST)
    weights = jnp.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights * (1 / weights.sum(axis=-1, keepdims=True))


def _in_groups(of_rows: Callable, q, k, *more):
    """Apply a function of rows to groups of them, one group after the other."""
    rows, queries, heads, _ = q.shape
    bytes_of_row = 4 * queries * k.shape[1] * heads
    # A loop over rows that lie on several devices would have to gather them.
    alone = jax.sharding.get_abstract_mesh().size <= 1
    together = [n for n in range(1, rows + 1) if rows % n == 0 and n * bytes_of_row <= CACHED_BYTES]
    count = max(together, default=1) if alone and rows else rows
    if count == rows:
        return of_rows(q, k, *more)
    groups = tuple(x.reshape(-1, count, *x.shape[1:]) for x in (q, k, *more))
    found = lax.map(lambda group: of_rows(*group), groups)
    return jax.tree.map(lambda x: x.reshape(rows, *x.shape[2:]), found)


def _attend_on_cpu(*arrays):
    return _in_groups(_attend_rows, *arrays)


def _gradient_on_cpu(*arrays):
    return _in_groups(_gradient_of_rows, *arrays)


def _attend_rows(q, k, v, allowed):
    q, k, v = map(_heads_first, (q, k, v))
    return _heads_first(jnp.einsum("bhcs,bhse->bhce", _weights(q, k, allowed).astype(v.dtype), v))


def _gradient_of_rows(q, k, v, allowed, y, g):
    q, k, v, y, g = map(_heads_first, (q, k, v, y, g))
    weights = _weights(q, k, allowed)
    of_v = jnp.einsum("bhcs,bhce->bhse", weights.astype(v.dtype), g)
    of_weights = jnp.einsum("bhce,bhse->bhcs", g, v, preferred_element_type=jnp.float32)
    mean = jnp.sum(g.astype(jnp.float32) * y.astype(jnp.float32), axis=-1, keepdims=True)
    of_scores = weights * (of_weights - mean) * q.shape[-1] ** -0.5
    of_scores = jnp.where(allowed[:, None], of_scores, 0).astype(q.dtype)
    of_q = jnp.einsum("bhcs,bhse->bhce", of_scores, k)
    of_k = jnp.einsum("bhcs,bhce->bhse", of_scores, q)
    return tuple(map(_heads_first, (of_q, of_k, of_v)))
