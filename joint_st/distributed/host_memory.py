"""Makes the C library keep memory instead of handing it back to the system, in huge pages, where the CPU computes.

XLA allocates the buffers of a step anew each time. By default glibc hands large ones back to the system, which then
clears them page by page for the next step (`benchmarks/host_memory.py`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

VARIABLE = "GLIBC_TUNABLES"
TUNABLES = ":".join(
    f"glibc.malloc.{name}={value}"
    for name, value in {
        "hugetlb": 1,  # transparent huge pages
        "mmap_max": 0,  # no mapping of its own for a large block, which would go back to the system when freed
        "trim_threshold": 1 << 40,  # and the end of the heap stays too
        "arena_max": 1,  # only the first heap may grow without bound
    }.items()
)
ACCELERATORS = ("accel*", "nvidia[0-9]*", "vfio/[0-9]*")
"""Files below /dev that show a device other than the CPU to compute on."""


def settings(environment: MutableMapping[str, str], devices: Path = Path("/dev")) -> dict[str, str]:
    """Environment variables to start again with: none where they are set, or where an accelerator computes."""
    only_cpu = environment.get("JAX_PLATFORMS") == "cpu" or not any(
        True for pattern in ACCELERATORS for _ in devices.glob(pattern)
    )
    if not sys.platform.startswith("linux") or VARIABLE in environment or not only_cpu:
        return {}
    return {VARIABLE: TUNABLES}


def keep_host_memory() -> None:
    """Starts this process again under `settings`, which glibc reads only then. Call it before anything is imported."""
    added = settings(os.environ)
    if added:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **added})
