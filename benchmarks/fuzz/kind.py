"""A kind of file, and a valid one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from benchmarks.fuzz.mutate import Field

CHECKOUT = Path(__file__).resolve().parents[2]


class Seed(NamedTuple):
    """A valid file."""

    name: str
    """Its path in the folder of a case."""
    content: bytes
    fields: Sequence[Field] = ()
    """Numbers in its header."""
    valid: bool = True
    """Whether it is read; otherwise it is one that is refused, and mutated all the same."""


class Kind(NamedTuple):
    """A kind of file."""

    name: str
    readers: Mapping[str, Sequence[str]]
    """By module, the functions and classes that read it: their lines are to be covered. Without names, all of them."""
    prepare: Callable[[Path], Sequence[Seed]]
    """Puts what stays the same into the folder of the cases, and returns the valid files."""
    change: Callable[[Random, Seed], bytes]
    """Mutates one."""
    read: Callable[[Path, Seed], str]
    """Reads the folder of a case; says what of the result cannot be, or is empty. It may raise `UserError`."""
    family: str = ""
    """Kinds of one family have readers in common, whose lines are run by all of them together."""
    covered: float = 0.9
    """Share of the readers' lines that the cases are to run, once all of the family were tried."""
