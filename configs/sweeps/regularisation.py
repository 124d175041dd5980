"""What keeps a small model from learning an hour of recorded speech by heart: weight decay, longer time masks, both.

    JOINT_ST_DATA=... joint-st sweep configs/sweeps/regularisation.py --workers 2
    python -m benchmarks.recorded configs/sweeps/regularisation.py

The base is the arm `deep_units` of `configs/sweeps/recorded_read.py`: a reader's hour, without text, in 2,500 steps. Towards
the end its training loss still falls, and the dev set's error rate hardly moves.

- `decay` arms have stronger weight decay. The sum of the learning rates is about 5, so that the default of 0.001 shrinks
  weights by half a per cent over the whole run, and 0.1 by 40 %.
- `time` arms have two masks of up to a fifth of the utterance. An encoder frame sees seven feature frames; the recipe's
  masks, of up to eight, hide hardly one of them whole.
- `long` arms take 45 epochs, with the dropout and the masks of the arms `long` there; `long_base` is its `long_units`.
"""

import runpy
from pathlib import Path

from joint_st.sweeps import Run

READ = runpy.run_path(str(Path(__file__).with_name("recorded_read.py")))
BASE = "../experiments/recorded_read.py"
REFERENCES = ("base", "long_base")
SEEDS = range(1)

UNITS = READ["ARMS"]["deep_units"]
TIME = {"spec_augment.time_masks": 2, "spec_augment.time_share": 0.2}
ARMS = {
    "base": {},
    "decay_0.1": {"optimizer.weight_decay": 0.1},
    "decay_0.3": {"optimizer.weight_decay": 0.3},
    "time": TIME,
    "decay_0.1_time": TIME | {"optimizer.weight_decay": 0.1},
    "decay_0.3_time": TIME | {"optimizer.weight_decay": 0.3},
    "long_base": READ["LONG"],
    "long_decay_0.1": READ["LONG"] | {"optimizer.weight_decay": 0.1},
}


def runs():
    for arm, overrides in ARMS.items():
        for seed in SEEDS:
            yield Run(arm, UNITS | overrides, seed)
