"""Evaluates a run's latest checkpoint while it trains on, so that its final evaluation finds all programs compiled.

    python warm.py RUN [analyze]

With `analyze` it does the same for the analysis by layer.
"""

from __future__ import annotations

import sys
import time

import jax

from joint_st.analysis.analyze import analyze_run
from joint_st.cli.options import quiet_libraries
from joint_st.distributed.mesh import keep_compiled
from joint_st.evaluation.evaluate import evaluate_run
from joint_st.evaluation.scorer import Scorer
from joint_st.runs.trained import load_trained
from joint_st.training.setup import open_data


def main(run: str, *more: str) -> None:
    quiet_libraries()
    began = time.time()
    trained = load_trained(run, "latest")
    config = trained.config
    keep_compiled(config.training.compilation_cache)
    if dev := open_data(config, trained.run, trained.normalizer).dev:
        with jax.set_mesh(trained.mesh):
            print(Scorer(config, dev, trained.mesh, trained.symbols.sizes)(trained.weights, "dev"), flush=True)
    print(f"dev after {time.time() - began:.1f} s", flush=True)
    evaluate_run(run, checkpoint="latest")
    print(f"test after {time.time() - began:.1f} s", flush=True)
    if more:
        analyze_run(run, checkpoint="latest")
        print(f"analysis after {time.time() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
