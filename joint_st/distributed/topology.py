"""TPU slices that need not be attached: their names, the memory of their chips, and devices to compile for.

A name is a generation and the chips along each side, `v5e:16x16` or `v5p:8x8x16`. Google's own names of v4 and v5p
slices count cores, two to a chip: v5p-2048 is `v5p:8x8x16`. The two cores compute as one device ("megacore").
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from joint_st.errors import UserError

GIB = 1 << 30


class Chip(NamedTuple):
    """A generation of TPUs. Published figures: docs.cloud.google.com/tpu/docs/v4, /v5e, /v5p and /v6e."""

    hbm: int
    """Bytes of HBM, as published."""
    usable: int
    """Bytes of HBM that libtpu leaves for a program, as its compiler states when a program does not fit."""
    peak_flops: float
    """bfloat16 operations a second, as published."""
    hbm_bandwidth: float
    """Bytes that are read from HBM or written to it in a second, as published."""
    link_bandwidth: float
    """Bytes a second in one direction of one link to a neighbour (ICI). Google publishes the sum of both directions of
    all links of a chip, which has two for each side of a slice."""
    ring: int
    """Chips along a side of a slice are connected in a ring if there is a multiple of so many of them; otherwise, in a
    line (jax-ml.github.io/scaling-book/tpus)."""
    pod: int
    """Chips in the largest slice."""
    sides: int
    """Dimensions of a slice."""
    options: Mapping[str, Any] = MappingProxyType({})
    """Further options for libtpu."""


MEGACORE = MappingProxyType({"chip_config_name": "megacore"})

CHIPS = {
    # Google's page does not state the links of v4. jax-ml.github.io/scaling-book/tpus has 45 GB/s, which agrees with the
    # page's bandwidth of an all-reduce, 1.1 PB/s by 4,096 chips of six links; that of the others agrees in this way too.
    "v4": Chip(32 * GIB, int(30.75 * GIB), 275e12, 1200e9, 45e9, 4, 4096, 3, MEGACORE),
    # The page once stated 819 GB/s, and now states 800 GiB/s, which would be more; the former is half of v6e's.
    "v5e": Chip(16 * GIB, int(15.75 * GIB), 197e12, 819e9, 400e9 / 4 / 2, 16, 256, 2),
    # The published 95 "GB" are gibibytes: libtpu leaves a little more than 95 of them.
    "v5p": Chip(96 * GIB, int(95.74 * GIB), 459e12, 2765e9, 1200e9 / 6 / 2, 4, 8960, 3, MEGACORE),
    "v6e": Chip(32 * GIB, int(31.25 * GIB), 918e12, 1638e9, 800e9 / 4 / 2, 16, 256, 2),
}

ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",  # there is no machine whose metadata could be queried
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",  # any value; without one, libtpu warns that it does not know the machine's
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_LOG_DIR": "disabled",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # no chip is opened, so other processes may compile or use a chip meanwhile
}
"""Environment variables that libtpu reads when it is loaded."""


class Topology(NamedTuple):
    """A slice."""

    name: str
    chip: Chip
    sides: tuple[int, ...]
    """Chips along each side."""

    @property
    def chips(self) -> int:
        """Chips in one slice."""
        return math.prod(self.sides)

    def devices(self, slices: int = 1) -> list[jax.Device]:
        """Return a device to compile for, for each chip of a number of such slices.

        Raises `UserError` without libtpu, and where libtpu has no such slice.
        """
        if importlib.util.find_spec("libtpu") is None:
            raise UserError(f"--topology {self.name}: needs the package libtpu; pip install 'joint_st[tpu]'")
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        options = dict(self.chip.options)
        if slices > 1:
            options["num_slices"] = slices
        if self.chips == 1:
            options["chips_per_host_bounds"] = (1, 1, 1)
        try:
            return list(topologies.get_topology_desc(self.name, platform="tpu", **options).devices)
        except jax.errors.JaxRuntimeError as error:
            message = str(error).splitlines()[0].partition(": ")[2]
            raise UserError(f"--topology {self.name}: {message}") from None


def parse_topology(name: str) -> Topology:
    """Parse the name of a slice; raises `UserError` for one that is larger than a pod or has another number of sides.

    Not every product of sides is made; libtpu knows, which `devices` asks.
    """
    match = re.fullmatch(r"(\w+):(\d+(?:x\d+)*)", name)
    if not match:
        raise UserError(f"--topology {name}: written GENERATION:CHIPSxCHIPS, as in v5e:16x16 or v5p:8x8x16")
    generation, sides = match[1], tuple(int(side) for side in match[2].split("x"))
    if generation not in CHIPS:
        raise UserError(f"--topology {name}: generations are {', '.join(CHIPS)}")
    chip, chips = CHIPS[generation], math.prod(sides)
    if len(sides) != chip.sides:
        raise UserError(f"--topology {name}: a slice of {generation} has {chip.sides} sides")
    if not 0 < chips <= chip.pod:
        raise UserError(f"--topology {name}: has {chips} chips; the largest slice of {generation} has {chip.pod}")
    return Topology(name, chip, sides)
