"""What text adds to an hour of recorded reading: no text, reconstruction, reconstruction and consistency.

JOINT_ST_DATA=... joint-st sweep configs/sweeps/text_injection_read.py --workers 2
joint-st sweep configs/sweeps/text_injection_read.py --collect --json benchmarks/results/text_injection_read.json
"""

import dataclasses
import runpy
from pathlib import Path

BASE = "../experiments/text_injection_read.py"
REFERENCES = ("audio_only", "reconstruction")
ARMS = ("audio_only", "reconstruction", "reconstruction_consistency")
AS_MUCH_SPEECH = {"training.steps": 1_500, "training.evaluate_every": 1_500}


def runs():
    same = runpy.run_path(Path(__file__).with_name("text_injection.py"))
    for run in same["runs"]():
        if run.arm == "audio_only":
            yield dataclasses.replace(run, overrides=run.overrides | AS_MUCH_SPEECH)
        elif run.arm in ARMS:
            yield run
