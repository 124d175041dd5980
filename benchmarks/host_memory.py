"""Time of a training step with the memory settings of `joint_st.distributed.host_memory` over that without them.

    python -m benchmarks.host_memory [CONFIG] [--rounds 3] [--seconds 10]

glibc reads its settings when a process starts, so each way has processes of its own, in turns. `compiled here` is the
step, with the settings, of a process that compiled it itself (`joint_st.training.compile_subprocess` says why that is slower); the
others read it from the cache. The batch is a random one, as large as the config's, with the lengths of the
quickstart's.

The quickstart on 2 CPU cores, one round, on a batch of its corpus: without 310 ms, with 233 ms (0.752), compiled here
388 ms (1.254).
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

from benchmarks.machine import CHECKOUT
from joint_st.distributed.host_memory import TUNABLES, VARIABLE

WAYS = {"without": "", "with": TUNABLES, "compiled here": TUNABLES}


def step_seconds(config_path: str, seconds: float, cache: str) -> float:
    """Median time of a step on one batch, in this process; compiled in it where `cache`, a folder, has no programs."""
    from benchmarks.joint_step import SIZES
    from benchmarks.timed_step import TimedStep
    from joint_st.config import load, override
    from joint_st.distributed.mesh import available_devices, keep_compiled

    config = override(load(config_path), {"training.text_first_steps": 0})
    keep_compiled(cache or config.training.compilation_cache)
    available_devices(config.parallel)
    size = SIZES["quickstart"]
    batch = size.batch._replace(utterances=config.data.batch_size, texts=config.data.text_batch_size)
    step = TimedStep(config, size.sizes, batch)
    taken, end = [], time.perf_counter() + seconds
    while len(taken) < 2 or time.perf_counter() < end:
        taken.append(step.steps(1))
    return statistics.median(taken[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", default="configs/quickstart.py")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--child", nargs="?", const="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        print(step_seconds(arguments.config, arguments.seconds, arguments.child))
        return
    command = [
        sys.executable,
        "-m",
        "benchmarks.host_memory",
        str(Path(arguments.config).resolve()),
        "--seconds",
        str(arguments.seconds),
        "--child",
    ]
    ratios = {way: [] for way in WAYS}
    for _ in range(arguments.rounds):
        taken = {}
        for way, value in WAYS.items():
            with tempfile.TemporaryDirectory() as folder:
                where = [folder] * (way == "compiled here")
                environment = {**os.environ, VARIABLE: value}
                child = subprocess.run(
                    [*command, *where], cwd=CHECKOUT, env=environment, capture_output=True, text=True
                )
            if child.returncode:
                sys.exit(child.stderr)
            taken[way] = float(child.stdout.split()[-1])
            ratios[way].append(taken[way] / taken["without"])
        print(", ".join(f"{way} {1e3 * seconds:.1f} ms" for way, seconds in taken.items()), flush=True)
    for way in ("with", "compiled here"):
        print(f"{way} / without: median {statistics.median(ratios[way]):.3f} of {arguments.rounds}")


if __name__ == "__main__":
    main()
