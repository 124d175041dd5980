"""The arms of `configs/sweeps/recorded.py` on one GPU, and consistency under a random alignment.

    STEPS=1000 joint-st sweep benchmarks/one_gpu/recorded_sweep.py --workers 3

All arms take the same number of steps on the same speech. STEPS is that number, SEEDS (default 0) the seeds.
"""

import json
import os
import runpy
from pathlib import Path

from joint_st.sweeps import Run

BASE = "recorded.py"
SWEEP = runpy.run_path(str(Path(__file__).parents[2] / "configs" / "sweeps" / "recorded.py"))
REFERENCES = SWEEP["REFERENCES"]

STEPS = int(os.environ.get("STEPS", "1000"))
MORE = json.loads(os.environ.get("OVERRIDES") or "{}")
"""Further fields for all arms, by dotted path."""

ARMS = SWEEP["ARMS"] | {"reconstruction_consistency_random": {"losses.consistency.alignment": "random"}}


def runs():
    common = {"training.steps": STEPS, "training.checkpoint_every": max(STEPS // 4, 1), **MORE}
    for seed in map(int, os.environ.get("SEEDS", "0").split()):
        for arm, overrides in ARMS.items():
            yield Run(arm, overrides | common, seed)
