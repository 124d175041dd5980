"""What text adds to recorded Dutch.

    JOINT_ST_DATA=... joint-st sweep configs/sweeps/recorded_dutch.py --workers 2
    python -m benchmarks.recorded configs/sweeps/recorded_dutch.py

The arms are those of `configs/sweeps/recorded.py`. Those whose names begin with `deep` take 45 epochs of the speech, and
`deep_text_first` reads the text four times before.
"""

import runpy
from pathlib import Path

ENGLISH = runpy.run_path(str(Path(__file__).with_name("recorded.py")))
BASE = "../experiments/recorded_dutch.py"
REFERENCES = ENGLISH["REFERENCES"]


def runs():
    return ENGLISH["runs"](steps=6_000, text_steps=1_500)
