"""A key-value store among the threads of a test, in place of the one of `jax.distributed`."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from joint_st.distributed.peers import Peers


class FakeStore:
    """A `joint_st.distributed.peers.Store` for `count` threads."""

    def __init__(self, count: int):
        self._count = count
        self._changed = threading.Condition()
        self._values: dict[str, str] = {}
        self._waiting: dict[str, int] = {}

    def set(self, key, value):
        with self._changed:
            self._values[key] = value
            self._changed.notify_all()

    def get(self, key, seconds):
        with self._changed:
            self._changed.wait_for(lambda: key in self._values, min(seconds, threading.TIMEOUT_MAX))
            return self._values.get(key)

    def wait(self, name, seconds):
        with self._changed:
            self._waiting[name] = self._waiting.get(name, 0) + 1
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._waiting[name] == self._count, seconds)


def on_all(function, count: int = 3, **options) -> list:
    """Return what `function(peers)` returns, or the exception it raises, on each of `count` processes; they are
    threads."""
    store, hosts = FakeStore(count), tuple(f"host-{'abcdefgh'[index]}" for index in range(count))

    def run(index):
        try:
            return function(Peers(index, hosts, store), **options)
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))
