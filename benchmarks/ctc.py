"""Time, memory and gradient error of `joint_st.ops.ctc` compared with Optax's CTC, forward and backward.

    python benchmarks/ctc.py [--rounds 15] [--batch 16]

The two take turns on the same batch, so that a busy machine slows both: read the ratios, not the times.
Errors are distances from Optax in float64, over the norm of the gradient.

Measured on 2 CPU cores that others used too, batch 16, U labels; memory is what the program needs in addition to its
inputs and outputs:

       T     V    U   time, Optax / ours   memory, Optax / ours   our error   Optax's error
     250    32   64            0.8 - 1.0                    1.9      1.2e-6          1.1e-4
     500   256   64                  1.6                    3.1      6.1e-6          1.0e-3
     500  1024   64            1.2 - 1.4                    2.3      4.3e-6          1.1e-3
    1000   256  128            1.0 - 1.2                    2.5      2.0e-5          3.0e-3
    1000  4096  128            1.5 - 1.8                    2.1      1.7e-5          4.8e-3
"""

from __future__ import annotations

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from joint_st.ops.ctc import ctc_loss

SIZES = [
    # frames, vocabulary, labels
    (250, 32, 64),
    (500, 256, 64),
    (500, 1024, 64),
    (1000, 256, 128),
    (1000, 4096, 128),
]


def ours(logits, logit_lengths, labels, label_lengths):
    return ctc_loss(logits, logit_lengths, labels, label_lengths)[0].sum()


def optax_ctc(logits, logit_lengths, labels, label_lengths):
    pad_frames = jnp.arange(logits.shape[1]) >= logit_lengths[:, None]
    pad_labels = jnp.arange(labels.shape[1]) >= label_lengths[:, None]
    kind = logits.dtype
    return optax.ctc_loss(logits, pad_frames.astype(kind), labels, pad_labels.astype(kind)).sum()


def random_batch(batch, frames, vocabulary, labels):
    rng = np.random.default_rng(0)
    return (
        rng.normal(0, 3, (batch, frames, vocabulary)).astype(np.float32),
        rng.integers(3 * frames // 4, frames + 1, batch).astype(np.int32),
        rng.integers(1, vocabulary, (batch, labels)).astype(np.int32),
        rng.integers(labels // 2, labels + 1, batch).astype(np.int32),
    )


def exact_gradient(batch):
    with jax.enable_x64(True):
        return np.asarray(jax.jit(jax.grad(optax_ctc))(jnp.asarray(batch[0], jnp.float64), *batch[1:]))


def compare(batch, rounds):
    """Return median seconds, bytes of temporary memory and gradient error of each, in the order ours, Optax."""
    steps = [jax.jit(jax.value_and_grad(loss)).lower(*batch).compile() for loss in (ours, optax_ctc)]
    exact = exact_gradient(batch)
    errors = [np.linalg.norm(step(*batch)[1] - exact) / np.linalg.norm(exact) for step in steps]
    memory = [step.memory_analysis().temp_size_in_bytes for step in steps]
    seconds = [[], []]
    for _ in range(rounds):
        for step, taken in zip(steps, seconds):
            start = time.perf_counter()
            jax.block_until_ready(step(*batch))
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in seconds], memory, errors


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=16)
    arguments = parser.parse_args()
    print(f"on {jax.devices()[0].device_kind}, batch {arguments.batch}; ratios are Optax / ours")
    print("    T     V    U   ours ms  Optax ms   time   memory   ours' error  Optax's error")
    for frames, vocabulary, labels in SIZES:
        batch = jax.device_put(random_batch(arguments.batch, frames, vocabulary, labels))
        seconds, memory, errors = compare(batch, arguments.rounds)
        print(
            f"{frames:5} {vocabulary:5} {labels:4} {1e3 * seconds[0]:9.1f} {1e3 * seconds[1]:9.1f} "
            f"{seconds[1] / seconds[0]:6.2f} {memory[1] / memory[0]:8.2f} {errors[0]:13.1e} {errors[1]:14.1e}"
        )


if __name__ == "__main__":
    main()
