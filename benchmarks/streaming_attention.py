"""Time of streaming attention in tiles and over all pairs of frames, forward and backward.

    python benchmarks/streaming_attention.py [--rounds 9] [--batch 4] [--tile 16 32 64]

The forms take turns on the same batch, so that a busy machine slows all of them: read the ratios, not the times. Each
line has the median over the rounds of the time over all pairs over that in tiles of so many frames, and whether
`Attention` would take tiles there; its own tile is marked by a star. Look-ahead changes the mask alone.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from joint_st.models.attention import allowed_pairs, tile_frames, tiled_attention, tiles_pay
from joint_st.ops.attention import attend
from joint_st.ops.masks import length_mask

FRAMES = (100, 400, 1600)
LEFT_CONTEXTS = (6, 64)
HEADS, HEAD_WIDTH = 4, 36
BLOCK = 8


def random_batch(batch: int, frames: int):
    """Queries, keys and values of utterances of half the frames to all of them, and their mask."""
    rng = np.random.default_rng(0)
    shape = (batch, frames, HEADS, HEAD_WIDTH)
    lengths = np.linspace(frames // 2, frames, batch).astype(np.int32)
    return *(rng.normal(size=shape).astype(np.float32) for _ in range(3)), length_mask(lengths, frames)


def all_pairs(q, k, v, mask, block, left_context: int):
    return attend(q, k, v, allowed_pairs(mask, left_context, block))


def compiled(form, batch):
    """The loss and its gradient, in blocks of a length that is known only when they run, compiled."""

    def loss(q, k, v, mask, block):
        return jnp.sum(jnp.where(mask[..., None, None], form(q, k, v, mask, block=block), 0) ** 2)

    return jax.jit(jax.value_and_grad(loss, (0, 1, 2))).lower(*batch, jnp.int32(BLOCK)).compile()


def ratios(forms, batch, rounds: int):
    """Median seconds of the first form, and the median ratio of its time to that of each other one."""
    steps = [compiled(form, batch) for form in forms]
    block = jnp.int32(BLOCK)
    found = [jax.block_until_ready(step(*batch, block)) for step in steps]
    for other in found[1:]:
        for a, b in zip(jax.tree.leaves(found[0]), jax.tree.leaves(other)):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    seconds = np.zeros((rounds, len(steps)))
    for one in seconds:
        for i, step in enumerate(steps):
            start = time.perf_counter()
            jax.block_until_ready(step(*batch, block))
            one[i] = time.perf_counter() - start
    return statistics.median(seconds[:, 0]), np.median(seconds[:, :1] / seconds[:, 1:], axis=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--tile", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--frames", type=int, nargs="+", default=FRAMES)
    arguments = parser.parse_args()
    print(f"on {jax.devices()[0].device_kind}; time over all pairs over time in tiles, forward and backward")
    for left_context in LEFT_CONTEXTS:
        own = tile_frames(left_context, (BLOCK,))
        for frames in arguments.frames:
            tiles = sorted({own, *(-(-tile // BLOCK) * BLOCK for tile in arguments.tile)})
            forms = [functools.partial(all_pairs, left_context=left_context)]
            forms += [functools.partial(tiled_attention, left_context=left_context, tile=tile) for tile in tiles]
            seconds, found = ratios(forms, jax.device_put(random_batch(arguments.batch, frames)), arguments.rounds)
            named = "  ".join(f"{tile}{'*' * (tile == own)}: {x:.2f}" for tile, x in zip(tiles, found))
            taken = "tiles" if tiles_pay(frames, left_context, own) else "all pairs"
            print(
                f"left context {left_context:>2}, T {frames:>4}: {1e3 * seconds:7.1f} ms;  {named}  ({taken})",
                flush=True,
            )


if __name__ == "__main__":
    main()
