"""Kinds of faults for the campaign `benchmarks/faults.py`: each module registers its own, see `trial.fault`."""
