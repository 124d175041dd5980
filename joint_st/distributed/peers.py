"""This process and the other processes of its job: names, barriers, and small values sent to process 0
or from it.

Everything goes through JAX's key-value store; no device computes.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
from collections.abc import Callable, Iterator
from typing import Protocol

from joint_st.errors import UserError

FOREVER_SECONDS = 10**6
"""Time limit of waits that need no limit, because the watch notices a process that dies meanwhile."""


class Store(Protocol):
    """Values that all processes see, and barriers."""

    def set(self, key: str, value: str) -> None:
        """Store a value."""

    def get(self, key: str, seconds: float) -> str | None:
        """Return the value as soon as there is one; None where there is none in time."""

    def wait(self, name: str, seconds: float) -> bool:
        """Return True once all processes wait under this name; False where some do not come in time."""


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
        """Return the name of a process in messages, `process 3 on host-b`; this process by default."""
        index = self.index if index is None else index
        return f"process {index} on {self.hosts[index]}"

    def wait(self, what: str, seconds: float = FOREVER_SECONDS) -> None:
        """Return when all processes have come here; `what` describes this point in an error.

        Raises `UserError` where some do not come in time.
        """
        if self.several and not self.store.wait(f"{next(self._numbers)} {what}", seconds):
            raise UserError(f"{self.name()}: waited {seconds:g} s for the other processes ({what}); check their logs")

    def gather(self, what: str, value: str, seconds: float) -> list[str]:
        """Return on process 0 the value of every process, in order; elsewhere an empty list. `what` names the value in
        errors.

        Raises `UserError` on process 0, which names the process, where a value does not come in time.
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

    def share(self, what: str, make: Callable[[], str], seconds: float) -> str:
        """Return on every process the value that `make` returns on process 0. `what` names the value in errors.

        Raises `UserError`, which names process 0, where the value does not come in time.
        """
        if not self.several:
            return make()
        key = f"{next(self._numbers)} {what}"
        if self.is_first:
            value = make()
            self.store.set(key, value)
            return value
        found = self.store.get(key, seconds)
        if found is None:
            raise UserError(f"{self.name(0)}: no {what} for {seconds:g} s; check its log")
        return found

    @contextlib.contextmanager
    def process_zero_first(self, what: str) -> Iterator[None]:
        """Run a block on process 0 first, then on all the others, which find what it has made; a context.

        Nothing inside may wait for another process.
        """
        if not self.is_first:
            self.wait(what)
        yield
        if self.is_first:
            self.wait(what)


_current = Peers()


def current() -> Peers:
    """Return this process's peers; it is alone unless the command was started as one of several."""
    return _current


def set_current(peers: Peers) -> None:
    """Set what `current` returns, once, at the start."""
    global _current
    _current = peers
