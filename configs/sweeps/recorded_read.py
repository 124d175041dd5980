"""What text adds to an hour of one recorded reader.

    JOINT_ST_DATA=... joint-st sweep configs/sweeps/recorded_read.py --workers 2
    python -m benchmarks.recorded configs/sweeps/recorded_read.py

The arms are those of `configs/sweeps/recorded.py`.
"""

import runpy
from pathlib import Path

ENGLISH = runpy.run_path(str(Path(__file__).with_name("recorded.py")))
BASE = "../experiments/recorded_read.py"
REFERENCES = ENGLISH["REFERENCES"]
runs = ENGLISH["runs"]
