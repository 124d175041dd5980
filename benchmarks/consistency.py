"""Time of a training step with the consistency loss over that without it, the two taking turns on the same batches.

    python benchmarks/consistency.py [CONFIG] [--rounds 40]

Without it, everything else stays: text passes through the encoder, and both heads reconstruct it. The loss is on the
output of every shared layer. The paper (arXiv 2308.06125) reports a ratio of 1.5.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path

import jax

from joint_st.config import load, override
from joint_st.data.normalizers import normalizer
from joint_st.data.pipeline import batches
from joint_st.parallel.mesh import available_devices, make_mesh, put_batch
from joint_st.runs.directory import RunDirectory
from joint_st.training.compilation import compile_for_buckets
from joint_st.training.opening import open_data
from joint_st.training.step import make_init, make_train_step

BATCHES = 4
"""Different batches of one bucket, taken in turn."""


def compiled_step(config, data, mesh):
    """The step of the shortest bucket, and a state for it."""
    sizes = data.tokenizer.size, data.unit_count
    state = make_init(config, *sizes, mesh)()
    steps = compile_for_buckets(
        make_train_step(config, *sizes, mesh), state, data.plan.buckets, mesh, data.text_plan.buckets
    )
    return steps, state


def timed_batches(config, data, mesh):
    """Batches with their buckets, on the mesh."""
    read = batches(data.paired, data.plan, text=data.text_and_plan, read_threads=2, prefetch=2)
    for i, batch in itertools.islice(read, BATCHES):
        arrays = {name: rows for name, rows in batch.items() if name not in ("index", "text_index")}
        yield (data.plan[i].bucket, data.text_plan[i].bucket), put_batch(arrays, mesh)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", default="configs/quickstart.py")
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    every_layer = {"objective.consistency.layers": [], "training.text_first_steps": 0}
    with_it = override(load(arguments.config), every_layer)
    without = override(with_it, {"objective.consistency.weight": 0.0})
    available_devices(with_it.parallel)
    mesh = make_mesh(with_it.parallel)
    with tempfile.TemporaryDirectory() as folder, jax.set_mesh(mesh):
        data = open_data(with_it, RunDirectory(Path(folder)), normalizer(with_it.data.normalizer))
        pairs = [[*compiled_step(config, data, mesh)] for config in (without, with_it)]
        inputs = list(timed_batches(with_it, data, mesh))
        seconds = [[], []]
        for n in range(arguments.rounds + 1):
            buckets, batch = inputs[n % BATCHES]
            for pair, taken in zip(pairs, seconds):
                start = time.perf_counter()
                pair[1], metrics = pair[0][buckets](pair[1], batch)
                jax.block_until_ready(pair[1])
                taken.append(time.perf_counter() - start)
    # The first round of each warms up.
    without_it, with_it = (statistics.median(taken[1:]) for taken in seconds)
    ratios = sorted(b / a for a, b in zip(seconds[0][1:], seconds[1][1:]))
    low, high = ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]
    print(f"{arguments.config} on {mesh.size} × {mesh.devices.flat[0].device_kind}, {arguments.rounds} rounds")
    print(f"without {1e3 * without_it:.1f} ms, with {1e3 * with_it:.1f} ms a step (medians)")
    print(f"with / without: median {statistics.median(ratios):.3f}, 80 % of rounds {low:.3f}-{high:.3f}")


if __name__ == "__main__":
    main()
