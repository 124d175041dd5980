"""Where consistency matters: one factor at a time from one base with audio and text in every step; 29 arms, 49 runs.

    joint-st sweep configs/sweeps/consistency.py --workers 2
    python -m benchmarks.kept_runs configs/sweeps/consistency.py

Arms whose names begin with `without` have no consistency: `without` is the reference of the base, and `without_hour` that
of `hour`. The base has `dtw`. The paper (arXiv 2308.06125) says that the best alignment is far from a random one, that the
frame-wise one comes near to it, that deeper layers align better, and that speech that is scarce gains more. `add` and
`replace` are what enters the shared layers for speech; `half_an_hour` and `hour` take that much of the 4.8 hours of
speech. Two arms take two of what helped most in the first seed together: `layer_0_weight_0.03` and `layer_0_add`.

The output of a layer has a scale that is learnt, and the squared distance falls where that shrinks. In `normalized` arms each
embedding is normalised before it is compared (`normalized_l2`), so that there is nothing to shrink. What enters the shared
layers from text has a fixed scale, and does not need it.

What the page claims is to have three seeds, and everything else one: the seeds of an arm are in `SEEDS`.
"""

from joint_st.sweeps import Run

BASE = "../experiments/text_and_speech.py"
REFERENCES = (
    "base",
    "without",
    "random",
    "layer_0_random",
    "random_normalized",
    "without_add",
    "without_replace",
    "without_half_an_hour",
    "without_hour",
)

WITHOUT = {"losses.consistency.weight": 0}
ADD, REPLACE = ({"model.unit_conditioning": kind} for kind in ("add", "replace"))
HALF_AN_HOUR, HOUR = ({"data.train.0.split": f"train[:{percent}%]"} for percent in (10, 21))
NORMALIZED = {"losses.consistency.cost": "normalized_l2"}
ARMS = {
    "base": {},
    "without": WITHOUT,
    "skip": {"losses.consistency.alignment": "skip"},
    "frame_wise": {"losses.consistency.alignment": "frame_wise"},
    "random": {"losses.consistency.alignment": "random"},
    "add": ADD,
    "without_add": ADD | WITHOUT,
    "replace": REPLACE,
    "without_replace": REPLACE | WITHOUT,
    "layer_0": {"losses.consistency.layers": [0]},
    "layer_4": {"losses.consistency.layers": [4]},
    "weight_0.003": {"losses.consistency.weight": 0.003},
    "weight_0.03": {"losses.consistency.weight": 0.03},
    "warm_up": {"losses.consistency.warmup_steps": 1_000},
    "gradient_text": {"losses.consistency.gradient": "text"},
    "gradient_both": {"losses.consistency.gradient": "both"},
    "half_an_hour": HALF_AN_HOUR,
    "without_half_an_hour": HALF_AN_HOUR | WITHOUT,
    "hour": HOUR,
    "without_hour": HOUR | WITHOUT,
    "layer_0_weight_0.03": {"losses.consistency.layers": [0], "losses.consistency.weight": 0.03},
    "normalized": NORMALIZED,
    "layer_4_normalized": NORMALIZED | {"losses.consistency.layers": [4]},
    "random_normalized": NORMALIZED | {"losses.consistency.alignment": "random"},
    "skip_normalized": NORMALIZED | {"losses.consistency.alignment": "skip"},
    "layer_0_random": {"losses.consistency.layers": [0], "losses.consistency.alignment": "random"},
    "layer_0_add": ADD | {"losses.consistency.layers": [0]},
    "layer_0_weight_0.1": {"losses.consistency.layers": [0], "losses.consistency.weight": 0.1},
    "layer_0_replace": REPLACE | {"losses.consistency.layers": [0]},
}
THRICE = (
    "base",
    "without",
    "skip",
    "random",
    "add",
    "without_add",
    "layer_0",
    "weight_0.03",
    "layer_0_weight_0.03",
    "layer_0_add",
)
SEEDS = {arm: range(3 if arm in THRICE else 1) for arm in ARMS}


def runs():
    for arm, changes in ARMS.items():
        for seed in SEEDS[arm]:
            yield Run(arm, changes, seed)
