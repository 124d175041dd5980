"""How many bytes a compiled program reads from HBM and writes to it, by its optimised HLO.

XLA's own count ("bytes accessed") takes the body of a loop once, however often it runs, and includes what stays in the
chip's fast memory (VMEM). Here a loop counts as often as it runs, and only arrays in HBM count.

Each instruction counts once every array that it reads or writes, or the part that it cuts out or replaces. A program
moves at least as much: arrays may be padded, and a large product may read an operand several times.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

from joint_st.distributed.hlo import ARRAY, Instruction, array_bytes, called, computations, parse, trips

Array = tuple[str, str, str]
"""Type, dimensions and layout."""

FREE = frozenset(
    "add-dependency after-all bitcast constant domain get-tuple-element opt-barrier parameter partition-id replica-id "
    "tuple".split()
)
"""Opcodes that move nothing."""

FREE_CALLS = ('custom_call_target="AllocateBuffer"', 'custom_call_target="ConcatBitcast"')
"""Custom calls that move nothing."""

CUTS = frozenset({"dynamic-slice", "gather", "slice", "slice-start"})
"""Opcodes that read as much of their first operand as they return."""

REPLACED = {"dynamic-update-slice": 1, "scatter": 2}
"""Opcodes that replace a part of their first operand in place, and the operand by which they replace it."""


def hbm_bytes(hlo: str) -> int:
    """Return the bytes that a compiled program reads and writes in HBM on one device; of branches, the costliest."""
    return _Program(hlo).total()


class _Program:
    def __init__(self, hlo: str):
        self._lines, self._entry = computations(hlo)
        self._bodies: dict[str, dict[str, Instruction]] = {}
        self._totals: dict[str, int] = {}
        self._shares: dict[tuple[str, str], float] = {}

    def total(self, name: str = "") -> int:
        """Return the bytes that a computation moves, by default the entry."""
        name = name or self._entry
        if name not in self._totals:
            self._totals[name] = sum(self._moved(one, name) for one in self._body(name).values())
        return self._totals[name]

    def _body(self, name: str) -> dict[str, Instruction]:
        """Return the instructions of a computation by name."""
        if name not in self._bodies:
            self._bodies[name] = {one.name: one for one in map(parse, self._lines.get(name, ()))}
        return self._bodies[name]

    def _root(self, name: str) -> Instruction:
        return next(one for one in self._body(name).values() if one.root)

    def _moved(self, one: Instruction, within: str) -> int:
        if one.opcode in FREE or one.opcode.endswith(("-done", "-update")) or any(x in one.line for x in FREE_CALLS):
            return 0
        if one.opcode == "while":
            return trips(one.line, self._lines) * sum(map(self.total, called(one.line)))
        if one.opcode == "conditional":
            return max(map(self.total, called(one.line)))
        if one.opcode in ("call", "async-start"):
            return sum(map(self.total, called(one.line)))
        taken = [self._body(within)[name].shape for name in one.operands]
        read: dict[str, float] = {}
        for place, name in enumerate(one.operands):
            share = self._share(one, place, taken[place]) if _hbm(taken[place]) else 0
            read[name] = max(read.get(name, 0), share * _hbm(taken[place]))
        if one.opcode == "fusion":
            written = sum(self._written(one, taken))
        elif one.opcode in REPLACED:
            written = min(_hbm(one.shape), _whole(taken[REPLACED[one.opcode]]))
        else:
            written = sum(map(_size, filter(_in_hbm, _new(one, taken))))
        return round(sum(read.values())) + written

    def _share(self, one: Instruction, place: int, operand: str) -> float:
        """Return the share of its operand at `place`, of the shape `operand`, that an instruction reads."""
        if one.opcode == "fusion":
            name = called(one.line)[0]
            inner = self._body(name).values()
            parameter = next(each for each in inner if f" parameter({place})" in each.line)
            return self._used(parameter, name)
        if place == 0 and one.opcode in REPLACED:
            return 0
        if place == 0 and one.opcode in CUTS:
            return min(1, sum(map(_size, _new(one, [operand]))) / max(_whole(operand), 1))
        return 1

    def _used(self, value: Instruction, within: str) -> float:
        """Return the share of a value inside of a fusion that is read there: all, unless parts are cut out of it, or of
        what is computed from each of its elements."""
        if value.root:
            return 1
        if (within, value.name) in self._shares:
            return self._shares[within, value.name]
        used = 0.0
        for user in self._body(within).values():
            for place, name in enumerate(user.operands):
                if name != value.name or (user.opcode == "tuple" and user.root):
                    continue  # what only passes through is not read
                share = self._share(user, place, value.shape)
                passed = user.opcode not in REPLACED and _elements(user.shape) == _elements(value.shape)
                used += share * self._used(user, within) if passed else share
        self._shares[within, value.name] = min(used, 1)
        return min(used, 1)

    def _written(self, fusion: Instruction, taken: list[str]) -> Iterator[int]:
        """Yield the bytes that a fusion writes into HBM, by result."""
        name = called(fusion.line)[0]
        inner, root = self._body(name), self._root(name)
        results = [inner[each] for each in root.operands] if root.opcode == "tuple" else [root]
        arrays = ARRAY.findall(fusion.shape)
        if len(results) == len(arrays):
            yield from (self._made(one, name) for one, array in zip(results, arrays, strict=True) if _in_hbm(array))
        else:  # the start of a collective
            yield from map(_size, filter(_in_hbm, _new(fusion, taken)))

    def _made(self, one: Instruction, within: str) -> int:
        """Return how many bytes of a fusion's result were not there before."""
        inner = self._body(within)
        while one.opcode == "bitcast":
            one = inner[one.operands[0]]
        if one.opcode == "parameter":
            return 0
        if one.opcode == "fusion":
            name = called(one.line)[0]
            return self._made(self._root(name), name)
        return _whole(inner[one.operands[REPLACED[one.opcode]]].shape if one.opcode in REPLACED else one.shape)


def _new(one: Instruction, taken: list[str]) -> list[Array]:
    """Return the arrays that an instruction returns; the start of an asynchronous one returns its operands too."""
    arrays = ARRAY.findall(one.shape)
    if one.opcode == "fusion" or (one.opcode.endswith("-start") and one.opcode != "all-reduce-start"):
        for array in (array for shape in taken for array in ARRAY.findall(shape)):
            if array in arrays:
                arrays.remove(array)
    return arrays


def _in_hbm(array: Array) -> bool:
    return "S(" not in array[2]  # the layout names every other memory


@functools.cache
def _hbm(shape: str) -> int:
    """Return the bytes of the arrays of a shape that are in HBM."""
    return sum(map(_size, filter(_in_hbm, ARRAY.findall(shape))))


@functools.cache
def _whole(shape: str) -> int:
    """Return the bytes of the arrays of a shape, wherever they are."""
    return sum(map(_size, ARRAY.findall(shape)))


@functools.cache
def _elements(shape: str) -> int:
    """Return the number of elements of a shape's arrays."""
    return sum(array_bytes("u8", dimensions) for _, dimensions, _ in ARRAY.findall(shape))


def _size(array: Array) -> int:
    return array_bytes(array[0], array[1])
