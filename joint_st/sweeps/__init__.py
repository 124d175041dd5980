"""Sweeps: many runs of one base config, from a Python file to a table that compares them.

A sweep file (`configs/sweeps/*.py`) defines `BASE` and `runs()`; `joint-st sweep FILE` trains what is not finished,
each run in a process of its own, and collects their evaluations. This package imports no JAX: the process that
waits for trainings must not hold the accelerator they need.
"""

from joint_st.sweeps.search import arm_name, choice, grid, integers, log_uniform, sample, uniform
from joint_st.sweeps.sweep import Job, Run, Sweep, load_sweep

__all__ = [
    "Job",
    "Run",
    "Sweep",
    "arm_name",
    "choice",
    "grid",
    "integers",
    "load_sweep",
    "log_uniform",
    "sample",
    "uniform",
]
