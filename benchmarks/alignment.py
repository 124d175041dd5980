"""Time of each alignment of `joint_st.ops.matching` over that of `skip`, forward and backward.

    python benchmarks/alignment.py [--rounds 30]

For comparison there are `literal`, the O(T·R²) form of `skip` in arXiv 2308.06125, and, if it is installed, ott-jax's
soft-DTW (with every utterance at full length, since it has no masks). All take turns on the same batch, and the fastest
round of each counts, since other jobs only ever add time: read the ratios, not the times.
"""

from __future__ import annotations

import argparse
import importlib.util
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from joint_st.ops.masks import length_mask
from joint_st.ops.matching import alignment_loss
from joint_st.ops.matching.cost import path_costs

SIZES = [
    # utterances times layers, audio frames, text frames, width
    (24, 75, 100, 96),
    (16, 250, 64, 256),
    (16, 250, 250, 256),
]

CHOICES = ["step", "dtw", "soft", "optimal_transport", "frame_wise", "random", "given"]


def ours(alignment):
    def total(audio, text, audio_lengths, text_lengths):
        extra = {}
        if alignment == "random":
            extra["key"] = jax.random.key(0)
        if alignment == "given":
            extra["given"] = jnp.broadcast_to(jnp.arange(audio.shape[1]) // 4, audio.shape[:2])
        # One nat for each dimension, about what temperatures are good for.
        temperature = float(audio.shape[2])
        loss = alignment_loss(
            audio, text, audio_lengths, text_lengths, alignment=alignment, temperature=temperature, **extra
        )
        return loss.value.sum()

    return total


def literal_path(costs, audio_lengths, text_lengths):
    """Return the path of `skip_path`, with a minimum over all earlier positions for each position."""
    positions = costs.shape[2]
    earlier = np.tri(positions, dtype=bool)

    def forward(best, cost):
        candidates = jnp.where(earlier, best[:, None, :], 1e30)
        return candidates.min(axis=2) + cost, candidates.argmin(axis=2)

    def back(position, frame):
        came_from, i = frame
        before = jnp.take_along_axis(came_from, position[:, None], axis=1)[:, 0]
        return jnp.where(i < audio_lengths, before, position), position

    first = jnp.where(jnp.arange(positions) == 0, costs[0], 1e30)
    _, came_from = lax.scan(forward, first, costs[1:])
    frames = jnp.arange(1, costs.shape[0])
    beginning, others = lax.scan(back, text_lengths - 1, (came_from, frames), reverse=True)
    return jnp.concatenate([beginning[:, None], others.T], axis=1)


def literal(audio, text, audio_lengths, text_lengths):
    mask = length_mask(text_lengths, text.shape[1])
    costs = path_costs(lax.stop_gradient(audio), lax.stop_gradient(text), mask, relative=True)
    path = literal_path(costs, audio_lengths, text_lengths)
    return alignment_loss(audio, text, audio_lengths, text_lengths, alignment="given", given=path).value.sum()


def ott_soft_dtw(audio, text, audio_lengths, text_lengths):
    from ott.geometry.costs import SoftDTW

    return jax.vmap(SoftDTW(gamma=float(audio.shape[2])))(audio, text).sum()


def random_batch(batch, frames, positions, width):
    rng = np.random.default_rng(0)
    return (
        rng.normal(size=(batch, frames, width)).astype(np.float32),
        rng.normal(size=(batch, positions, width)).astype(np.float32),
        rng.integers(3 * frames // 4, frames + 1, batch).astype(np.int32),
        rng.integers(positions // 2, positions + 1, batch).astype(np.int32),
    )


def fastest(losses, batch, rounds):
    """Return the seconds of the fastest round of each."""
    steps = [jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).lower(*batch).compile() for loss in losses]
    seconds = [float("inf")] * len(steps)
    for _ in range(rounds):
        for i, step in enumerate(steps):
            start = time.perf_counter()
            jax.block_until_ready(step(*batch))
            seconds[i] = min(seconds[i], time.perf_counter() - start)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    losses = {"skip": ours("skip"), "literal": literal} | {name: ours(name) for name in CHOICES}
    if importlib.util.find_spec("ott"):
        losses["ott soft-DTW"] = ott_soft_dtw
    print(f"on {jax.devices()[0].device_kind}; ratios to skip, forward and backward")
    for size in SIZES:
        seconds = fastest(losses.values(), jax.device_put(random_batch(*size)), arguments.rounds)
        print(f"{' x '.join(map(str, size))}: skip {1e3 * seconds[0]:.1f} ms")
        for name, taken in zip(list(losses)[1:], seconds[1:]):
            print(f"  {name:<18} {taken / seconds[0]:6.2f}")


if __name__ == "__main__":
    main()
