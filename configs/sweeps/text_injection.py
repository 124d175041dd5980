"""What text adds to the same paired speech and steps: nothing, reconstruction, and consistency under each alignment.

    joint-st sweep configs/sweeps/text_injection.py --workers 2
    joint-st sweep configs/sweeps/text_injection.py --collect --json benchmarks/results/text_injection.json
"""

from joint_st.experiments import Run

BASE = "../experiments/text_injection.py"
REFERENCES = ("audio_only", "reconstruction")
SEEDS = range(3)

AUDIO_ONLY = {
    "data.units.kind": "none",
    "data.text_batch_size": 0,
    "objective.streaming_reconstruction": 0,
    "objective.full_context_reconstruction": 0,
    "objective.consistency.weight": 0,
}
ALIGNMENT = "objective.consistency.alignment"
ARMS = {
    "audio_only": AUDIO_ONLY,
    "reconstruction": {"objective.consistency.weight": 0},
    "reconstruction_consistency": {},
    "skip": {ALIGNMENT: "skip"},
    "step": {ALIGNMENT: "step"},
    "soft": {ALIGNMENT: "soft"},
    "optimal_transport": {ALIGNMENT: "optimal_transport"},
    "frame_wise": {ALIGNMENT: "frame_wise"},
    "random": {ALIGNMENT: "random"},
    "given": {ALIGNMENT: "given"},
}


def runs():
    for seed in SEEDS:
        for arm, overrides in ARMS.items():
            yield Run(arm, overrides, seed)
