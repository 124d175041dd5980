"""Time of a training step with the consistency loss over that without it; the two take turns on the same batches.

    python benchmarks/consistency.py [CONFIG] [--rounds 40]

Everything else is the same without it: masked paired and unpaired text pass through the shared layers, and both heads
reconstruct them. The loss is on the output of every shared layer. `masked` compares speech with the paired text that
passes anyway, so that it measures the loss alone; `clean` adds a pass of the paired text without masks. The paper
(arXiv 2308.06125) reports a ratio of 1.5.

The quickstart on 2 CPU cores, 24 rounds: masked / without 0.994 (80 % of rounds 0.903-1.100), clean / without 1.103
(0.948-1.411).
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
from joint_st.data.loader import batches
from joint_st.data.normalizers import normalizer
from joint_st.distributed.mesh import available_devices, make_mesh, put_batch
from joint_st.runs.directory import RunDirectory
from joint_st.training.compilation import Programs
from joint_st.training.setup import open_data
from joint_st.training.step import make_init, make_train_step

BATCHES = 4
"""Different batches of one bucket, taken in turn."""


def compiled_step(config, data, mesh):
    """Return the step of the shortest bucket, and a state for it."""
    sizes = data.tokenizer.size, data.unit_count
    state = make_init(config, *sizes, mesh)()
    with Programs(mesh) as steps:
        steps.add(make_train_step(config, *sizes, mesh), state, data.plan.buckets, data.text_plan.buckets)
        steps.wait()
    return steps, state


def timed_batches(config, data, mesh):
    """Yield batches with their buckets, on the mesh."""
    read = batches(data.paired, data.plan, text=data.text_and_plan, read_threads=2, prefetch=2)
    for i, batch in itertools.islice(read, BATCHES):
        arrays = {name: rows for name, rows in batch.items() if name not in ("index", "text_index")}
        yield (data.plan[i].bucket, data.text_plan[i].bucket), put_batch(arrays, mesh)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", default="configs/quickstart.py")
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    common = {
        "losses.consistency.layers": [],
        "losses.consistency.text": "masked",
        "losses.reconstruction.paired": 1.0,
        "training.text_first_steps": 0,
    }
    base = override(load(arguments.config), common)
    configs = {
        "without": override(base, {"losses.consistency.weight": 0.0}),
        "masked": base,
        "clean": override(base, {"losses.consistency.text": "clean"}),
    }
    available_devices(base.parallel)
    mesh = make_mesh(base.parallel)
    with tempfile.TemporaryDirectory() as folder, jax.set_mesh(mesh):
        data = open_data(base, RunDirectory(Path(folder)), normalizer(base.data.normalizer))
        pairs = {name: [*compiled_step(config, data, mesh)] for name, config in configs.items()}
        inputs = list(timed_batches(base, data, mesh))
        seconds = {name: [] for name in configs}
        for n in range(arguments.rounds + 1):
            buckets, batch = inputs[n % BATCHES]
            for name, pair in pairs.items():
                start = time.perf_counter()
                pair[1], _ = pair[0][buckets](pair[1], batch)
                jax.block_until_ready(pair[1])
                seconds[name].append(time.perf_counter() - start)
    print(f"{arguments.config} on {mesh.size} × {mesh.devices.flat[0].device_kind}, {arguments.rounds} rounds")
    first, *others = ((name, taken[1:]) for name, taken in seconds.items())  # the first round of each warms up
    print(f"{first[0]}: {1e3 * statistics.median(first[1]):.1f} ms a step (median)")
    for name, taken in others:
        ratios = sorted(b / a for a, b in zip(first[1], taken))
        low, high = ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]
        print(
            f"{name}: {1e3 * statistics.median(taken):.1f} ms, over {first[0]}: "
            f"median {statistics.median(ratios):.3f}, 80 % of rounds {low:.3f}-{high:.3f}"
        )


if __name__ == "__main__":
    main()
