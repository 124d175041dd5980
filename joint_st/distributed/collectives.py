"""The collectives of a compiled program, which are what its devices send each other, read from its optimised HLO.

collectives(jitted.lower(*arguments).compile().as_text())
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from joint_st.distributed.hlo import ARRAY, BOUND, CALLS, array_bytes, called, computations, shape_and_opcode, trips

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
    "ragged-all-to-all",
)

BETWEEN_SLICES = "xla_megascale_runtime"
"""The runtime that carries data between TPU slices: over the network of their hosts."""


class Collective(NamedTuple):
    """Collectives of one kind among groups of one size, in one run of a program."""

    kind: str
    """One of `KINDS`, possibly followed by `between slices`."""
    devices: int
    """Devices in a group; between slices, slices."""
    count: int
    """Number of runs: in loops as often as XLA states, once where it states nothing."""
    bytes: int
    """Bytes of the whole arrays reduced, gathered, scattered or moved, on one device, over all runs of the
    instruction."""


class Instruction(NamedTuple):
    """One collective instruction."""

    kind: str
    devices: int
    count: int
    bytes: int
    operation: str
    """The operation of the traced program from which it comes, by its `op_name`; empty where XLA inserted it."""
    members: tuple[int, ...] = ()
    """The devices of its first group, or those that send in a permutation, by their place in the mesh; none between
    slices."""


def collectives(hlo: str) -> list[Collective]:
    """Return the collectives of a compiled program by kind and size of the group, those that move the most bytes
    first."""
    sums: dict[tuple[str, int], list[int]] = {}
    for found in instructions(hlo):
        total = sums.setdefault((found.kind, found.devices), [0, 0])
        total[0] += found.count
        total[1] += found.bytes
    found = [Collective(*key, *total) for key, total in sums.items()]
    return sorted(found, key=lambda one: (-one.bytes, one.kind, one.devices))


def instructions(hlo: str) -> Iterator[Instruction]:
    """Yield each collective instruction of a compiled program.

    An asynchronous one counts where it starts. All branches of a conditional count.
    """
    lines, entry = computations(hlo, _relevant)
    header = re.search(r"num_partitions=(\d+)", hlo[: hlo.find("\n")])
    everyone = int(header[1]) if header else 1

    def walk(name: str, times: int) -> Iterator[Instruction]:
        for line in lines.get(name, ()):
            shape, opcode = shape_and_opcode(line)
            if opcode.endswith(("-done", "-update")):
                continue
            kind = opcode.removesuffix("-start")
            if opcode == "send" and BETWEEN_SLICES in line:
                yield _between_slices(line, shape, times)
                continue
            if kind in KINDS:
                members = _members(line, everyone)
                devices = everyone if "source_target_pairs=" in line else len(members)
                size = times * _payload(shape, opcode, devices)
                operation = re.search(r'op_name="([^"]*)"', line)
                yield Instruction(kind, devices, times, size, operation[1] if operation else "", members)
                continue
            again = times * trips(line, lines) if opcode == "while" else times
            for inner in called(line):
                yield from walk(inner, again)

    yield from walk(entry, 1)


def _relevant(line: str) -> bool:
    """Return whether an instruction is a collective, or leads to one."""
    return bool(
        CALLS.search(line) or BOUND.search(line) or BETWEEN_SLICES in line or any(kind in line for kind in KINDS)
    )


def _between_slices(line: str, shape: str, times: int) -> Instruction:
    """Read a collective over slices: XLA sends each device's part to the hosts, which do the rest.

    Its target is written `{1,2}x{0:7}`: the slices, and the devices of each slice.
    """
    kind = re.search(r'_xla_megascale_transfer_type="(\w+)"', line)[1].lower().replace("_", "-")
    listed = re.search(r'_xla_megascale_target="\{([\d,:]*)\}', line)[1].split(",")
    bounds = [[int(bound) for bound in part.split(":")] for part in listed]
    slices = sum(bound[-1] - bound[0] + 1 for bound in bounds)
    sent = re.search(r"(\w+)\[([\d,<=]*)\]", shape)
    return Instruction(f"{kind} between slices", slices, times, times * array_bytes(*sent.groups()), "")


def _members(line: str, everyone: int) -> tuple[int, ...]:
    """Return the devices of a collective's first group; for a permutation, those that send to another.

    XLA writes groups as lists, as a shape `[groups,devices]<=...`, or as axes of a mesh, `mesh['a'=2,'b'=4] {'b'}`,
    possibly only a part of an axis: `'b':(1)2`, where the number of groups along it stands in parentheses. The order of
    the mesh's devices may come between.
    """
    if pairs := re.search(r"source_target_pairs=\{([\d,{}\s]*)\}", line):
        ends = re.findall(r"\{(\d+),\s*(\d+)\}", pairs[1])
        return tuple(int(source) for source, target in ends if source != target)
    if listed := re.search(r"replica_groups=\{\{([\d,]*)\}", line):
        return tuple(int(device) for device in listed[1].split(",") if device)
    named = re.search(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(([^)]*\)?)\))?\s*\{([^}]*)\}", line)
    if named:
        axes, order, chosen = named.groups()
        sizes = {axis: int(size) for axis, size in re.findall(r"'([^']+)'=(\d+)", axes)}
        parts = {axis: (1, sizes[axis]) for axis in sizes}
        group = re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", chosen)
        parts |= {axis: (int(before), int(size)) for axis, before, size in group if size}
        # Each axis becomes three: what comes before the part, the part itself, and what comes after it.
        split = [(before, size, sizes[axis] // (before * size)) for axis, (before, size) in parts.items()]
        places = _ordered(order or f"[{math.prod(sizes.values())}]").reshape(
            [size for three in split for size in three]
        )
        names = {axis for axis, _, _ in group}
        first = [slice(None) if place == 1 and axis in names else 0 for axis in sizes for place in range(3)]
        return tuple(places[tuple(first)].flatten().tolist())
    if iota := re.search(r"replica_groups=\[([\d,]+)\]<=(\[[\d,]+\](?:T\([\d,]+\))?)", line):
        size = int(iota[1].split(",")[-1])
        return tuple(_ordered(iota[2])[:size].tolist())
    return tuple(range(everyone))


def _ordered(iota: str) -> np.ndarray:
    """Return the devices in the order `[2,4]T(1,0)`: counted along the dimensions, which are then transposed."""
    dimensions, order = re.fullmatch(r"\[([\d,]+)\](?:T\(([\d,]+)\))?", iota).groups()
    shape = [int(size) for size in dimensions.split(",")]
    places = np.arange(math.prod(shape)).reshape(shape)
    return (places.transpose([int(axis) for axis in order.split(",")]) if order else places).flatten()


def _payload(shape: str, opcode: str, devices: int) -> int:
    """Return the bytes of the whole arrays on one device."""
    arrays = [array[:2] for array in ARRAY.findall(shape)]
    if opcode.endswith("-start") and opcode != "all-reduce-start":
        # The result of a start holds its operands, its results, and at times numbers of its own.
        arrays = [array for array in arrays if array not in (("u32", ""), ("s32", ""))]
        sizes = [array_bytes(*array) for array in arrays]
        return max(sum(sizes[: len(sizes) // 2]), sum(sizes[len(sizes) // 2 :]))
    return sum(array_bytes(*array) for array in arrays) * (devices if opcode == "reduce-scatter" else 1)
