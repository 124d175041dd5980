"""Distances between embeddings of audio frames, [B, T, D], and of text frames, [B, R, D].

Every cost is the squared L2 distance of embeddings that were first transformed (`comparable`), so that the rest of the
package needs one distance only. No array of size [B, T, R, D] is ever made.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import lax

from joint_st.ops.lattice import UNREACHABLE
from joint_st.ops.masks import zero_padding

COSTS = ("squared_l2", "cosine", "normalized_l2")

EPSILON = 1e-6
"""Number added to the variance in layer normalisation."""

SMALLEST_SQUARE = 1e-12
"""Smallest squared norm, so that a zero vector has a finite gradient under `cosine`."""

CHUNK = 16
"""Dimensions that `pairwise_costs` adds up at a time. With 8, a CPU takes about three times as long."""


def comparable(x: jax.Array, mask: jax.Array, cost: str) -> jax.Array:
    """Transform embeddings [B, T, D] such that their squared L2 distance is `cost`; float32, zero where `mask` [B, T]
    is `False`.

    `cosine` is 1 - cos(a, t), half the squared distance of the unit vectors: a form that stays accurate when the
    two are close. `normalized_l2` is the squared distance after layer normalisation without scale and offset.
    """
    x = zero_padding(x, mask).astype(jnp.float32)
    if cost == "cosine":
        square = jnp.sum(x * x, axis=-1, keepdims=True)
        return x * lax.rsqrt(2.0 * jnp.maximum(square, SMALLEST_SQUARE))
    if cost == "normalized_l2":
        x = x - x.mean(axis=-1, keepdims=True)
        return x * lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + EPSILON)
    return x


def matched_costs(audio: jax.Array, text: jax.Array, position: jax.Array) -> jax.Array:
    """Return ‖a_i - t_position(i)‖², float32 [B, T], by subtracting first, so that nothing cancels. position: int [B,
    T]."""
    difference = audio - jnp.take_along_axis(text, position[..., None], axis=1)
    return jnp.sum(difference * difference, axis=-1)


def path_costs(audio: jax.Array, text: jax.Array, text_mask: jax.Array, *, relative: bool) -> jax.Array:
    """Return ‖a_i - t_j‖² by one matrix product, float32 [T, B, R], for finding a path; not for the value of a loss.

    The product cancels where embeddings are close compared with their size. Moving both sides by the mean of the
    text leaves distances as they are and removes what all embeddings have in common, which is most of it.

    relative: leave out ‖a_i‖² and subtract the least cost of each frame. The best path is the same if each frame is
    matched exactly once, and sums along paths stay small.
    """
    audio, text = centred(audio, text, text_mask)
    # On a CPU a product with the batch first, moved afterwards, is faster than one that puts it second.
    products = jnp.swapaxes(jnp.einsum("btd,brd->btr", audio, text, precision="highest"), 0, 1)
    costs = jnp.sum(text * text, axis=-1) - 2.0 * products
    if relative:
        # An utterance without text must not turn the gradients of its neighbours into NaN.
        return costs - jnp.min(jnp.where(text_mask, costs, UNREACHABLE), axis=-1, keepdims=True)
    return jnp.maximum(costs + jnp.sum(audio * audio, axis=-1).T[..., None], 0.0)


def pairwise_costs(audio: jax.Array, text: jax.Array) -> jax.Array:
    """Return ‖a_i - t_j‖², float32 [B, T, R], accurate even for close embeddings, by differences of a few dimensions at
    a time.

    It needs memory for the result only, and a few times as long as the matrix product of `path_costs`.
    """
    dimensions = audio.shape[-1]
    chunks = math.ceil(dimensions / CHUNK)

    def chunked(x):
        x = jnp.pad(x, ((0, 0), (0, 0), (0, chunks * CHUNK - dimensions)))
        return jnp.moveaxis(x.reshape(*x.shape[:2], chunks, CHUNK), (2, 3), (0, 1))

    def add(costs, chunk):
        a, t = chunk
        for k in range(CHUNK):
            costs += jnp.square(a[k][:, :, None] - t[k][:, None, :])
        return costs, None

    # Made from the arrays themselves, so that it varies over the devices as they do inside `jax.shard_map`.
    zeros = jnp.zeros_like(audio[:, :, :1] * text[:, None, :, 0])
    return lax.scan(add, zeros, (chunked(audio), chunked(text)))[0]


def centred(audio: jax.Array, text: jax.Array, text_mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Subtract the mean of the utterance's text from both; the padding of the text is 0, that of the audio
    arbitrary."""
    count = jnp.maximum(text_mask.sum(axis=1), 1)[:, None, None]
    mean = jnp.sum(text, axis=1, keepdims=True) / count
    return audio - mean, zero_padding(text - mean, text_mask)


@jax.custom_vjp
def expected_cost(audio: jax.Array, text: jax.Array, text_mask: jax.Array, costs: jax.Array, plan: jax.Array):
    """Return sum_ij plan_ij ‖a_i - t_j‖², float32 [B], with the plan held constant for the gradient.

    costs: their `pairwise_costs` [B, T, R], plan: [B, T, R] >= 0, exactly 0 in the padding. The gradient goes to
    `audio` and `text`, by matrix products of the plan with the embeddings.
    """
    return jnp.sum(plan * costs, axis=(1, 2))


def _expected_forward(audio, text, text_mask, costs, plan):
    return expected_cost(audio, text, text_mask, costs, plan), (audio, text, text_mask, plan)


def _expected_backward(residuals, gradient):
    audio, text, text_mask, plan = residuals
    audio, text = centred(audio, text, text_mask)
    plan = plan * (2.0 * gradient)[:, None, None]
    to_audio = audio * plan.sum(axis=2)[..., None] - jnp.einsum("btr,brd->btd", plan, text, precision="highest")
    to_text = text * plan.sum(axis=1)[..., None] - jnp.einsum("btr,btd->brd", plan, audio, precision="highest")
    return to_audio, to_text, None, None, None


expected_cost.defvjp(_expected_forward, _expected_backward)
