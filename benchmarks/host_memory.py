"""Time of a training step with the memory settings of `joint_st.parallel.host_memory` over that without them.

    python benchmarks/host_memory.py [CONFIG] [--rounds 3] [--seconds 10]

glibc reads its settings when a process starts, so each way has processes of its own, in turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from joint_st.parallel.host_memory import TUNABLES, VARIABLE

WAYS = {"without": "", "with": TUNABLES}


def step_seconds(config_path: str, seconds: float) -> float:
    """Median time of a step on one batch, in this process."""
    import jax
    from consistency import compiled_step, timed_batches

    from joint_st.config import load, override
    from joint_st.data.normalizers import normalizer
    from joint_st.parallel.mesh import available_devices, make_mesh
    from joint_st.runs.compilation import keep_compiled
    from joint_st.runs.directory import RunDirectory
    from joint_st.training.opening import open_data

    config = override(load(config_path), {"training.text_first_steps": 0})
    keep_compiled(config.training.compilation_cache)
    available_devices(config.parallel)
    mesh = make_mesh(config.parallel)
    with tempfile.TemporaryDirectory() as folder, jax.set_mesh(mesh):
        data = open_data(config, RunDirectory(Path(folder)), normalizer(config.data.normalizer))
        steps, state = compiled_step(config, data, mesh)
        buckets, batch = next(iter(timed_batches(config, data, mesh)))
        taken, end = [], time.perf_counter() + seconds
        while time.perf_counter() < end:
            start = time.perf_counter()
            state, _ = steps[buckets](state, batch)
            jax.block_until_ready(state)
            taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", default="configs/quickstart.py")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(step_seconds(arguments.config, arguments.seconds))
        return
    command = [sys.executable, __file__, arguments.config, "--seconds", str(arguments.seconds), "--child"]
    ratios = []
    for _ in range(arguments.rounds):
        taken = {}
        for way, value in WAYS.items():
            child = subprocess.run(command, env={**os.environ, VARIABLE: value}, capture_output=True, text=True)
            if child.returncode:
                sys.exit(child.stderr)
            taken[way] = float(child.stdout.split()[-1])
        ratios.append(taken["with"] / taken["without"])
        without, with_them = (1e3 * taken[way] for way in WAYS)
        print(f"without {without:.1f} ms, with {with_them:.1f} ms: {ratios[-1]:.3f}", flush=True)
    print(f"with / without: median {statistics.median(ratios):.3f} of {arguments.rounds}")


if __name__ == "__main__":
    main()
