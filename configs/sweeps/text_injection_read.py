"""What text adds to an hour of recorded reading: nothing, reconstruction, reconstruction and consistency.

    JOINT_ST_DATA=... joint-st sweep configs/sweeps/text_injection_read.py --workers 2
    joint-st sweep configs/sweeps/text_injection_read.py --collect --json benchmarks/results/text_injection_read.json
"""

import runpy
from pathlib import Path

BASE = "../experiments/text_injection_read.py"
REFERENCES = ("audio_only", "reconstruction")
ARMS = ("audio_only", "reconstruction", "reconstruction_consistency")


def runs():
    same = runpy.run_path(Path(__file__).with_name("text_injection.py"))
    return [run for run in same["runs"]() if run.arm in ARMS]
