"""Kinds of faults for the campaign `benchmarks/faults.py`: each module registers its own, see `trial.fault`."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before JAX is imported by any of them
