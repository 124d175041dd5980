"""Makes the C library keep memory, in huge pages, instead of returning it to the system, where the CPU computes.

XLA allocates the buffers of a step again each time. By default glibc returns large ones to the system, which then
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
        "mmap_max": 0,  # a large block gets no mapping of its own, which would be returned when freed
        "trim_threshold": 1 << 40,  # the end of the heap is not returned either
        "arena_max": 1,  # only the first heap may grow without bound
    }.items()
)
ACCELERATORS = ("accel*", "nvidia[0-9]*", "vfio/[0-9]*")
"""Files below /dev that show a device other than the CPU to compute on."""


def settings(environment: MutableMapping[str, str], devices: Path = Path("/dev")) -> dict[str, str]:
    """Return the environment variables with which to start again; none if they are set, or if an accelerator
    computes."""
    only_cpu = environment.get("JAX_PLATFORMS") == "cpu" or not any(
        True for pattern in ACCELERATORS for _ in devices.glob(pattern)
    )
    if not sys.platform.startswith("linux") or VARIABLE in environment or not only_cpu:
        return {}
    return {VARIABLE: TUNABLES}


def keep_host_memory() -> None:
    """Restart this process with `settings`, which glibc reads only at the start. Call it before anything is
    imported."""
    added = settings(os.environ)
    if added:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **added})
