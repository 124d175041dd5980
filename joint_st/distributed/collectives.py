"""The collectives of a compiled program, which are what its devices send each other, read from its optimised HLO.

collectives(jitted.lower(*arguments).compile().as_text())
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

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

BITS = {"pred": 8, "token": 0}
"""Bits of the types whose names do not contain them; an `opaque` is not sent."""

CALLS = re.compile(r"\b(calls|to_apply|body|condition|branch_computations|true_computation|false_computation)=")

BOUND = re.compile(r" [su]32\[\](?:\{[^}]*\})? constant\((\d+)\)| compare\(.*direction=LT")
"""The parts of the condition of a loop over 0, 1, ...: its bound and the comparison."""


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
    computations, entry = _computations(hlo)
    header = re.search(r"num_partitions=(\d+)", hlo[: hlo.find("\n")])
    everyone = int(header[1]) if header else 1

    def walk(name: str, times: int) -> Iterator[Instruction]:
        for line in computations.get(name, ()):
            shape, opcode = _shape_and_opcode(line)
            if opcode.endswith(("-done", "-update")):
                continue
            kind = opcode.removesuffix("-start")
            if opcode == "send" and BETWEEN_SLICES in line:
                yield _between_slices(line, shape, times)
                continue
            if kind in KINDS:
                devices = _group_size(line, everyone)
                size = times * _payload(shape, opcode, devices)
                operation = re.search(r'op_name="([^"]*)"', line)
                yield Instruction(kind, devices, times, size, operation[1] if operation else "")
                continue
            again = times * _trips(line, computations) if opcode == "while" else times
            for called in _called(line):
                yield from walk(called, again)

    yield from walk(entry, 1)


def _between_slices(line: str, shape: str, times: int) -> Instruction:
    """Read a collective over slices: XLA sends each device's part to the hosts, which do the rest.

    Its target is written `{1,2}x{0:7}`: the slices, and the devices of each slice.
    """
    kind = re.search(r'_xla_megascale_transfer_type="(\w+)"', line)[1].lower().replace("_", "-")
    listed = re.search(r'_xla_megascale_target="\{([\d,:]*)\}', line)[1].split(",")
    bounds = [[int(bound) for bound in part.split(":")] for part in listed]
    slices = sum(bound[-1] - bound[0] + 1 for bound in bounds)
    sent = re.search(r"(\w+)\[([\d,<=]*)\]", shape)
    return Instruction(f"{kind} between slices", slices, times, times * _bytes(*sent.groups()), "")


def _computations(hlo: str) -> tuple[dict[str, list[str]], str]:
    """Return the relevant lines of instructions by the name of their computation, and the name of the entry
    computation."""
    found: dict[str, list[str]] = {}
    lines, entry = [], ""
    for line in hlo.splitlines():
        if line.endswith("{") and not line.startswith((" ", "HloModule")):
            name = line.removeprefix("ENTRY ").split()[0].split("(")[0].lstrip("%")
            entry = name if line.startswith("ENTRY ") else entry
            lines = found[name] = []
        elif " = " in line and any(
            (CALLS.search(line), BOUND.search(line), BETWEEN_SLICES in line, *(kind in line for kind in KINDS))
        ):
            lines.append(line)
    return found, entry


def _shape_and_opcode(line: str) -> tuple[str, str]:
    """Split `%x = (f32[8]{0}, u32[]) all-gather-start(...)` into its result's shape and its opcode."""
    right = line.split(" = ", 1)[1]
    end = right.find(" ")
    if right.startswith("("):
        depth = 0
        for end, character in enumerate(right):
            depth += (character == "(") - (character == ")")
            if not depth:
                end += 1
                break
    return right[:end], right[end:].strip().split("(")[0]


def _called(line: str) -> list[str]:
    """Return the names of the computations that an instruction runs."""
    names = []
    for match in CALLS.finditer(line):
        rest = line[match.end() :]
        listed = rest[1 : rest.index("}")] if rest.startswith("{") else re.split(r"[,\s)}]", rest)[0]
        names += [name.strip().lstrip("%") for name in listed.split(",")]
    return names


def _trips(line: str, computations: dict[str, list[str]]) -> int:
    """Return how often a `while` runs: as XLA states, or by the bound of its counter (on TPUs XLA states nothing), or
    else once.

    A counter is assumed to begin at 0 and to go up by one, as a scan's does.
    """
    if known := re.search(r'"known_trip_count":\{"n":"?(\d+)', line):
        return int(known[1])
    condition = re.search(r"condition=%?([^,\s]+)", line)
    found = [BOUND.search(each) for each in computations.get(condition[1] if condition else "", ())]
    bounds = [match[1] for match in found if match]
    constants = [int(bound) for bound in bounds if bound]
    return constants[0] if len(constants) == 1 and len(bounds) == 2 else 1


def _group_size(line: str, everyone: int) -> int:
    """Return the number of devices in a collective's group; for a permutation, all.

    XLA writes groups as lists, as a shape `[groups,devices]<=...`, or as axes of a mesh, `mesh['a'=2,'b'=4] {'b'}`,
    possibly only a part of an axis: `'b':(1)2`. The order of the mesh's devices may come between.
    """
    listed = re.search(r"replica_groups=\{\{([\d,]*)\}", line)
    if listed:
        return listed[1].count(",") + 1
    named = re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", line)
    if named:
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", named[1]))
        parts = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", named[2])
        return math.prod(int(part or sizes[axis]) for axis, part in parts)
    iota = re.search(r"replica_groups=\[[\d,]*?(\d+)\]<=", line)
    return int(iota[1]) if iota else everyone


def _payload(shape: str, opcode: str, devices: int) -> int:
    """Return the bytes of the whole arrays on one device."""
    arrays = re.findall(r"(\w+)\[([\d,<=]*)\]", shape)
    if opcode.endswith("-start") and opcode != "all-reduce-start":
        # The result of a start holds its operands, its results, and at times numbers of its own.
        arrays = [array for array in arrays if array not in (("u32", ""), ("s32", ""))]
        sizes = [_bytes(*array) for array in arrays]
        return max(sum(sizes[: len(sizes) // 2]), sum(sizes[len(sizes) // 2 :]))
    return sum(_bytes(*array) for array in arrays) * (devices if opcode == "reduce-scatter" else 1)


def _bytes(dtype: str, dimensions: str) -> int:
    bits = BITS.get(dtype)
    if bits is None:
        digits = re.search(r"\d+", dtype)
        bits = int(digits[0]) if digits else 0
    size = 1
    for dimension in filter(None, dimensions.split(",")):
        size *= int(dimension.lstrip("<="))
    return -(-size * bits // 8)
