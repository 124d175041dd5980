"""A check: what was looked at, what was found, and what to do about it; and the table of all checks."""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from joint_st.errors import UserError, printable

State = Literal["ok", "warning", "problem"]


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    state: State
    """`problem`: a run would fail, or its result would be wrong; `warning`: it may, or that could not be found out."""
    name: str
    """What was looked at: a field of the config, a folder, a part of the machine."""
    found: str
    """What was found, in one line."""
    do: str = ""
    """What to do about it; empty where nothing is wrong."""

    def lines(self) -> Iterator[str]:
        """Yield the rows of the table."""
        yield f"{self.state:<8} {self.name:<22} {printable(self.found)}".rstrip()
        if self.do:
            yield f"{'':<8} {'':<22} -> {printable(self.do)}"

    def record(self) -> dict:
        """Return the check as a dictionary for JSON."""
        return dataclasses.asdict(self)


def from_error(name: str, error: Exception) -> Check:
    """Return a problem from an error whose message says what and where, then, after `;`, what to do."""
    if isinstance(error, OSError) and error.filename is not None:
        return Check("problem", name, f"{error.filename}: {error.strerror}", "correct the path, or the rights to it")
    found, _, do = str(error).rpartition("; ")
    if not isinstance(error, UserError):
        return Check(
            "problem", name, f"{type(error).__name__}: {error}", "please report this; doctor should explain it"
        )
    return Check("problem", name, found or do, do if found else "correct it")


Look = Callable[[], Iterable[Check]]
"""Looks at something, and finds a few things; it may raise `UserError` and `OSError`."""


def looked(name: str, look: Look, seconds: float) -> Iterator[Check]:
    """Yield what a look finds, or a problem where it takes longer than `seconds`.

    It runs on a thread of its own, which is abandoned in that case, because a file system that does not answer cannot
    be interrupted.
    """
    found: queue.SimpleQueue[Check | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            for check in look():
                found.put(check)
        except Exception as error:  # whatever it is, the other checks go on
            found.put(from_error(name, error))
        found.put(None)

    threading.Thread(target=run, name=f"doctor {name}", daemon=True).start()
    while True:
        try:
            check = found.get(timeout=seconds)
        except queue.Empty:
            yield Check(
                "problem", name, f"no answer for {seconds:g} s", "see whether what it names can be reached at all"
            )
            return
        if check is None:
            return
        yield check
