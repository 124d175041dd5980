"""Where a result comes from: the commit, the machine, its processors. Nothing here imports JAX before `device` needs it."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from joint_st import versions

CHECKOUT = Path(__file__).resolve().parents[1]
RESULTS = CHECKOUT / "benchmarks" / "results"


def commit() -> str:
    """Return the checkout's commit, and whether anything but results has changed since."""
    git = ["git", "-C", str(CHECKOUT)]
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    others = ["--porcelain", "-uno", "--", ".", ":!benchmarks/results"]
    changed = subprocess.run([*git, "status", *others], capture_output=True, text=True).stdout.strip()
    return head + (", changed since" if changed else "")


def machine(packages: tuple[str, ...]) -> dict[str, Any]:
    """Return the platform, its cores and load, and the versions of Python and of those packages that are installed."""
    return {
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "load_at_the_start": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "versions": versions.packages(packages),
    }


def threads() -> int:
    """Return how many threads can run at a time: the processors that this process may use."""
    return len(os.sched_getaffinity(0))


def device() -> str:
    """Return what JAX computes on: the model of the CPU and the threads, or the kind of the accelerator."""
    from joint_st.distributed.mesh import device_name

    return device_name()
