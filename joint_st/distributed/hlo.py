"""Optimised HLO, the text of a compiled program: its computations, their instructions, shapes and loops."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

BITS = {"pred": 8, "token": 0}
"""Bits of the types whose names do not contain them; an `opaque` is not stored."""

CALLS = re.compile(r"\b(calls|to_apply|body|condition|branch_computations|true_computation|false_computation)=")

BOUND = re.compile(r" [su]32\[\](?:\{[^}]*\})? constant\((\d+)\)| compare\(.*direction=LT")
"""The parts of the condition of a loop over 0, 1, ...: its bound and the comparison."""

ARRAY = re.compile(r"(\w+)\[([\d,<=]*)\](?:\{([^}]*)\})?")
"""An array's type, dimensions, and layout where it is written."""


class Instruction(NamedTuple):
    """One instruction."""

    name: str
    shape: str
    """Its result's shape; a tuple's in parentheses."""
    opcode: str
    operands: tuple[str, ...]
    """Names of the instructions whose results it takes."""
    root: bool
    """Whether its result is that of its computation."""
    line: str


def computations(hlo: str, keep: Callable[[str], object] = lambda line: True) -> tuple[dict[str, list[str]], str]:
    """Return the lines of instructions that are to be kept, by the name of their computation, and the name of the entry
    computation."""
    found: dict[str, list[str]] = {}
    lines, entry = [], ""
    for line in hlo.splitlines():
        if line.endswith("{") and not line.startswith((" ", "HloModule")):
            name = line.removeprefix("ENTRY ").split()[0].split("(")[0].lstrip("%")
            entry = name if line.startswith("ENTRY ") else entry
            lines = found[name] = []
        elif " = " in line and keep(line):
            lines.append(line)
    return found, entry


def parse(line: str) -> Instruction:
    """Parse the line of an instruction."""
    left, right = line.split(" = ", 1)
    shape, rest = _split(right)
    opcode, _, after = rest.partition("(")
    operands = re.findall(r"%([\w.-]+)", after[: _closing(after)])
    root = left.lstrip().startswith("ROOT ")
    return Instruction(left.split()[-1].lstrip("%"), shape, opcode, tuple(operands), root, line)


def shape_and_opcode(line: str) -> tuple[str, str]:
    """Split `%x = (f32[8]{0}, u32[]) all-gather-start(...)` into its result's shape and its opcode."""
    shape, rest = _split(line.split(" = ", 1)[1])
    return shape, rest.split("(")[0]


def called(line: str) -> list[str]:
    """Return the names of the computations that an instruction runs."""
    names = []
    for match in CALLS.finditer(line):
        rest = line[match.end() :]
        listed = rest[1 : rest.index("}")] if rest.startswith("{") else re.split(r"[,\s)}]", rest)[0]
        names += [name.strip().lstrip("%") for name in listed.split(",")]
    return names


def trips(line: str, computations: dict[str, list[str]]) -> int:
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


def array_bytes(dtype: str, dimensions: str) -> int:
    """Return the bytes of an array, without padding."""
    bits = BITS.get(dtype)
    if bits is None:
        digits = re.search(r"\d+", dtype)
        bits = int(digits[0]) if digits else 0
    size = 1
    for dimension in filter(None, dimensions.split(",")):
        size *= int(dimension.lstrip("<="))
    return -(-size * bits // 8)


def _split(right: str) -> tuple[str, str]:
    """Split what stands right of `=` into the shape and the rest."""
    end = _closing(right[1:]) + 2 if right.startswith("(") else right.find(" ")
    return right[:end], right[end:].strip()


def _closing(text: str) -> int:
    """Return where the parenthesis closes that was opened before `text`."""
    depth = 1
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if not depth:
            return place
    return len(text)
