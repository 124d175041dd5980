"""What text adds to recorded Dutch.

    JOINT_ST_DATA=... joint-st sweep configs/sweeps/recorded_dutch.py --workers 2
    python -m benchmarks.recorded configs/sweeps/recorded_dutch.py

The arms are those of `configs/sweeps/recorded.py`. Those whose names begin with `deep` take 45 epochs of the speech, and
`deep_text_first` reads the text four times before. In those whose names begin with `fine`, a frame lasts 20 ms in place of
40, as letters fill more than half of the frames of 40 ms (`joint-st data inspect`), a phoneme of text takes twice as many, and
the streaming layers see ahead by a length that is drawn for each step, as in `configs/sweeps/recorded_read.py`.
"""

import runpy
from pathlib import Path

from joint_st.sweeps import Run

ENGLISH = runpy.run_path(str(Path(__file__).with_name("recorded.py")))
BASE = "../experiments/recorded_dutch.py"
REFERENCES = (*ENGLISH["REFERENCES"], "fine_audio_only", "fine_units", "fine_text_first")
FINE = {"model.features.hop_ms": 5.0, "model.look_ahead_ms": (0, 160, 320, 640)}
REPEATED = {"text.repeat_least": 2, "text.repeat_most": 6}


def runs():
    for run in ENGLISH["runs"](steps=6_000, text_steps=1_500):
        yield run
        if run.arm.startswith("deep"):
            arm = run.arm.replace("deep", "fine", 1)
            repeated = REPEATED if run.arm.startswith("deep_text") else {}
            yield Run(arm, run.overrides | FINE | repeated, run.seed)
