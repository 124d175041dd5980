"""Inputs that are nearly valid, given to every reader of files: `benchmarks/fault_kinds/inputs.py` runs them."""
