"""A sweep of what text adds to recorded speech in the architecture of arXiv 2308.06125: no text, reconstruction,
consistency.

    STEPS=1000 joint-st sweep benchmarks/one_gpu/recorded_sweep.py --workers 3

All arms take the same number of steps on the same speech. STEPS is that number, SEEDS (default 0) the seeds.
"""

import json
import os

from joint_st.sweeps import Run

BASE = "recorded.py"
REFERENCES = ("audio_only", "reconstruction")

STEPS = int(os.environ.get("STEPS", "1000"))
MORE = json.loads(os.environ.get("OVERRIDES") or "{}")
"""Further fields for all arms, by dotted path."""

WITHOUT_TEXT = {
    "data.text_batch_size": 0,
    "data.units.kind": "none",
    "losses.reconstruction.streaming": 0,
    "losses.reconstruction.full_context": 0,
    "losses.consistency.weight": 0,
}
ARMS = {
    "audio_only": WITHOUT_TEXT,
    "reconstruction": {"losses.consistency.weight": 0},
    "reconstruction_consistency": {},
    "dtw": {"losses.consistency.alignment": "dtw"},
    "random": {"losses.consistency.alignment": "random"},
}


def runs():
    common = {"training.steps": STEPS, "training.checkpoint_every": max(STEPS // 4, 1), **MORE}
    for seed in map(int, os.environ.get("SEEDS", "0").split()):
        for arm, overrides in ARMS.items():
            yield Run(arm, overrides | common, seed)
