"""Lower bounds of the time of a step, by what its chips compute, move in their memories, and send each other; and what
they say about a run.

Each divides an amount by the published figure of `joint_st.distributed.topology.CHIPS`. The largest bounds the step:
however well the three overlap, it takes no less.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from joint_st.distributed.collectives import Instruction
from joint_st.distributed.topology import Topology


class Sent(NamedTuple):
    """What a chip sends in a step along some axes of the mesh."""

    axes: tuple[str, ...]
    """Axes of the mesh along which the groups of its collectives lie."""
    sides: tuple[int, ...]
    """Sides of the slice that they extend over, by number."""
    bytes: int
    """Bytes that a chip sends if the collectives send as little as they can, on average over the chips."""


class Bounds(NamedTuple):
    """Seconds that a step takes at least; None where there is no program to count in."""

    compute: float
    """The matrix products, at the peak for bfloat16. Those of float32 take no less."""
    memory: float | None
    """HBM."""
    links: float | None
    """Links between the chips of a slice."""

    @property
    def largest(self) -> str:
        """Name of the field that bounds the step."""
        return max(self._fields, key=lambda name: getattr(self, name) or 0)

    @property
    def seconds(self) -> float:
        """Seconds that a step takes at least."""
        return getattr(self, self.largest)


class Run(NamedTuple):
    """What a run of such steps takes at least."""

    steps: int
    hours: float
    chip_hours: float
    cost: float | None
    """In the currency of the price; None without one."""


def bounds(topology: Topology, flops: int, hbm: int | None, sent: Sequence[Sent] | None) -> Bounds:
    """Return the bounds of a step, from what each chip does in it."""
    chip = topology.chip
    return Bounds(
        compute=flops / chip.peak_flops,
        memory=None if hbm is None else hbm / chip.hbm_bandwidth,
        links=None if sent is None else link_seconds(topology, sent),
    )


def run(found: Bounds, steps: int, chips: int, price: float | None = None) -> Run:
    """Return what so many steps take at least; price: of an hour of one chip."""
    hours = steps * found.seconds / 3600
    return Run(steps, hours, chips * hours, None if price is None else chips * hours * price)


def sent_by_chip(one: Instruction) -> float:
    """Return the bytes that each device sends at least, on average, in a collective.

    Of a whole array of S bytes among n devices, a device has to get what it has not, (n - 1) / n of S; a sum is first
    scattered and then gathered (Patarasuk and Yuan, doi.org/10.1016/j.jpdc.2008.09.002).
    """
    if one.kind == "collective-permute":
        return one.bytes * len(one.members) / one.devices
    return one.bytes * (one.devices - 1) / one.devices * (2 if one.kind == "all-reduce" else 1)


def sent(instructions: Iterable[Instruction], places: np.ndarray, axes: Sequence[str]) -> tuple[Sent, ...]:
    """Return what a chip sends, by axes of the mesh and sides of the slice; what goes between slices does not count.

    places: [*mesh, sides] coordinates in their slice of the devices along `axes`.
    """
    shape, flat = places.shape[:-1], places.reshape(-1, places.shape[-1])
    sums: dict[tuple[tuple[str, ...], tuple[int, ...]], float] = {}
    for one in instructions:
        if len(one.members) < 2:
            continue
        members = list(one.members)
        indices = np.stack(np.unravel_index(members, shape), axis=-1)
        along = tuple(axis for axis, differs in zip(axes, np.ptp(indices, axis=0), strict=True) if differs)
        sides = tuple(np.flatnonzero(np.ptp(flat[members], axis=0)).tolist())
        sums[along, sides] = sums.get((along, sides), 0) + sent_by_chip(one)
    found = [Sent(*key, round(size)) for key, size in sums.items()]
    return tuple(sorted(found, key=lambda each: -each.bytes))


def link_seconds(topology: Topology, sent: Sequence[Sent]) -> float:
    """Return the seconds that the links between a slice's chips take at least.

    What is exchanged along some sides crosses links of those sides. So the links of each set of sides carry at least
    what is exchanged along those sides alone.
    """
    used = sorted({side for each in sent for side in each.sides})
    sets = [set(some) for count in range(1, len(used) + 1) for some in itertools.combinations(used, count)]
    return max(
        (sum(each.bytes for each in sent if set(each.sides) <= some) / link_bandwidth(topology, some) for some in sets),
        default=0.0,
    )


def link_bandwidth(topology: Topology, sides: Iterable[int]) -> float:
    """Return the bytes a second that a chip can send over the links along some sides, on average over the chips.

    A line of n chips has n - 1 links, a ring n; each link carries data in both directions at a time.
    """
    lengths = (topology.sides[side] for side in sides)
    links = sum(2 * (1 if length % topology.chip.ring == 0 else (length - 1) / length) for length in lengths)
    return links * topology.chip.link_bandwidth
