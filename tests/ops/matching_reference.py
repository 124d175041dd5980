"""Alignments computed in slow and obvious ways, in float64: by enumeration, and by the literal recursions."""

import itertools

import jax
import numpy as np

from joint_st.ops.matching import alignment_loss


def loss_and_gradient(*batch, alignment, cost="squared_l2", temperature=1.0, given=None, key=None):
    """Return the `AlignmentLoss`, and the gradient of the sum of its values for audio and for text."""
    return _loss_and_gradient(batch, temperature, given, key, alignment=alignment, cost=cost)


@jax.jit(static_argnames=("alignment", "cost"))
def _loss_and_gradient(batch, temperature, given, key, **choice):
    def total(embeddings):
        loss = alignment_loss(*embeddings, *batch[2:], temperature=temperature, given=given, key=key, **choice)
        return loss.value.sum(), loss

    gradient, loss = jax.grad(total, has_aux=True)(batch[:2])
    return loss, gradient


def distances(audio, text, cost="squared_l2"):
    """Costs [T, R] of embeddings [T, D] and [R, D], straight from their definitions."""
    audio, text = np.asarray(audio, np.float64), np.asarray(text, np.float64)
    if cost == "cosine":
        norms = np.linalg.norm(audio, axis=1)[:, None] * np.linalg.norm(text, axis=1)
        return 1 - audio @ text.T / norms
    if cost == "normalized_l2":
        audio, text = (
            (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-6) for x in (audio, text)
        )
    return ((audio[:, None] - text[None]) ** 2).sum(axis=2)


def monotonic_maps(frames, positions):
    """Return all non-decreasing maps from the first position to the last; to any position, of one frame."""
    maps = itertools.combinations_with_replacement(range(positions), frames)
    return [m for m in maps if frames == 1 or (m[0], m[-1]) == (0, positions - 1)]


def step_maps(frames, positions):
    ends = [m for m in monotonic_maps(frames, positions) if (m[0], m[-1]) == (0, positions - 1)]
    return [m for m in ends if all(b - a <= 1 for a, b in itertools.pairwise(m))]


def warping_paths(frames, positions):
    """Yield all paths of cells from the first pair to the last."""

    def onward(i, j):
        if (i, j) == (frames - 1, positions - 1):
            yield ((i, j),)
        for down, right in ((1, 0), (0, 1), (1, 1)):
            if i + down < frames and j + right < positions:
                for rest in onward(i + down, j + right):
                    yield ((i, j), *rest)

    return list(onward(0, 0))


def skip_distance(costs):
    """Least sum of costs [T, R] with any number of positions forward: the literal O(T·R²)."""
    frames, positions = costs.shape
    if frames == 1:
        return costs.min()
    best = np.full(positions, np.inf)
    best[0] = costs[0, 0]
    for i in range(1, frames):
        best = np.array([best[: j + 1].min() + costs[i, j] for j in range(positions)])
    return best[-1]


def step_distance(costs):
    best = np.full(costs.shape[1], np.inf)
    best[0] = costs[0, 0]
    for row in costs[1:]:
        best = np.minimum(best, np.concatenate([[np.inf], best[:-1]])) + row
    return best[-1]


def dtw_distance(costs):
    best = np.full(np.add(costs.shape, 1), np.inf)
    best[0, 0] = 0
    for i, j in np.ndindex(costs.shape):
        best[i + 1, j + 1] = costs[i, j] + min(best[i, j], best[i, j + 1], best[i + 1, j])
    return best[-1, -1]


def soft_minimum(costs, temperature):
    """-temperature · log of the sum over anchored monotonic maps of exp(-cost / temperature)."""
    frames, positions = costs.shape
    scores = -costs / temperature
    if frames == 1:
        return -temperature * np.logaddexp.reduce(scores[0])
    total = np.full(positions, -np.inf)
    total[0] = scores[0, 0]
    for row in scores[1:]:
        total = np.logaddexp.accumulate(total) + row
    return -temperature * total[-1]


def slope(function, x, direction, step=1e-4):
    """Central difference of `function` at `x` along `direction`, in float64."""
    x = np.asarray(x, np.float64)
    return (function(x + step * direction) - function(x - step * direction)) / (2 * step)
