"""This process and the others of its job: names, waiting for each other, small values sent to process 0.

All of it goes through JAX's key-value store; no device computes.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
from collections.abc import Iterator
from typing import Protocol

from joint_st.errors import UserError

FOREVER_SECONDS = 10**6
"""Time limit of waits that need none: the watch notices a process that dies meanwhile."""


class Store(Protocol):
    """Values that all processes see, and meeting points."""

    def set(self, key: str, value: str) -> None:
        """Keeps a value."""

    def get(self, key: str, seconds: float) -> str | None:
        """The value as soon as there is one; None where there is none after so many seconds."""

    def wait(self, name: str, seconds: float) -> bool:
        """True once all processes wait under this name; False where some do not after so many seconds."""


class Peers:
    """The processes of a job, seen from one of them."""

    def __init__(self, index: int = 0, hosts: tuple[str, ...] = (), store: Store | None = None):
        self.index = index
        self.hosts = hosts or (socket.gethostname(),)
        self.store = store
        self._numbers = itertools.count()

    @property
    def count(self) -> int:
        """Number of processes in the job."""
        return len(self.hosts)

    @property
    def several(self) -> bool:
        """Whether the job has other processes."""
        return self.count > 1

    @property
    def is_first(self) -> bool:
        """Whether this is process 0: the one that writes and prints."""
        return self.index == 0

    def name(self, index: int | None = None) -> str:
        """`process 3 on host-b`, as messages call a process; this one by default."""
        index = self.index if index is None else index
        return f"process {index} on {self.hosts[index]}"

    def wait(self, what: str, seconds: float = FOREVER_SECONDS) -> None:
        """Returns when all processes have come here; `what` says in an error what they have done by then.

        Raises `UserError` where some have not come in time.
        """
        if self.several and not self.store.wait(f"{next(self._numbers)} {what}", seconds):
            raise UserError(f"{self.name()}: waited {seconds:g} s for the other processes ({what}); check their logs")

    def gather(self, what: str, value: str, seconds: float) -> list[str]:
        """On process 0, the value of every process, in order; elsewhere an empty list. `what` names the value in errors.

        Raises `UserError` on process 0 where one is missing after so many seconds; it names whose.
        """
        if not self.several:
            return [value]
        key = f"{next(self._numbers)} {what}"
        self.store.set(f"{key}/{self.index}", value)
        if not self.is_first:
            return []
        values = []
        for index in range(self.count):
            found = self.store.get(f"{key}/{index}", seconds)
            if found is None:
                raise UserError(f"{self.name(index)}: no {what} for {seconds:g} s; check its log")
            values.append(found)
        return values

    @contextlib.contextmanager
    def process_zero_first(self, what: str) -> Iterator[None]:
        """A block that process 0 runs first, then all the others: they find what it has made.

        Nothing inside may wait for another process.
        """
        if not self.is_first:
            self.wait(what)
        yield
        if self.is_first:
            self.wait(what)


_current = Peers()


def current() -> Peers:
    """This process's peers; itself alone unless the command was started as one of several."""
    return _current


def set_current(peers: Peers) -> None:
    """Sets what `current` returns, once, at the start."""
    global _current
    _current = peers
