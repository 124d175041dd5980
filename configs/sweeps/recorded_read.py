"""What text adds to an hour of one recorded reader, injected or spoken by a machine.

    joint-st data synthesize configs/experiments/recorded_read.py --most 1700 --out runs/spoken_novels
    JOINT_ST_DATA=... joint-st sweep configs/sweeps/recorded_read.py --workers 2
    python -m benchmarks.recorded configs/sweeps/recorded_read.py

The arms are those of `configs/sweeps/recorded.py`, and `synthetic`, which is `audio_units` with 1.3 hours of the same
novels, spoken by espeak-ng in many voices, in batches twice as long: as many utterances are recorded as in the others.
"""

import runpy
from pathlib import Path

from joint_st.sweeps import Run

ENGLISH = runpy.run_path(str(Path(__file__).with_name("recorded.py")))
BASE = "../experiments/recorded_read.py"
REFERENCES = ENGLISH["REFERENCES"]
RECORDED, SPOKEN = "manifest:$JOINT_ST_DATA/arctic/train.jsonl", "manifest:runs/spoken_novels/manifest.jsonl"
ARMS = ENGLISH["ARMS"] | {
    "synthetic": ENGLISH["WITHOUT_TEXT"] | {"data.train": [RECORDED, SPOKEN], "data.batch_size": 16},
}


def runs():
    for seed in ENGLISH["SEEDS"]:
        for arm, overrides in ARMS.items():
            yield Run(arm, overrides, seed)
