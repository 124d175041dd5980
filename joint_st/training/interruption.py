"""Ends a run at SIGTERM with everything saved, since clusters send SIGTERM to jobs that they are about to end.

With several processes, only one of them may get the signal, but all have to stop after the same step. None knows how
far the others are, so each publishes the step that it may have begun, begins no later step until all have published
theirs, and all stop after the latest. Until a process gets the signal, this costs nothing but a waiting thread.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable

from jax.errors import JaxRuntimeError

from joint_st.distributed.peers import FOREVER_SECONDS, Peers, current


class Interruption:
    """A context in which SIGTERM does not end the process; instead training ends after the step given by
    `stops_after`."""

    def __init__(self, peers: Peers | None = None):
        self._peers = peers or current()
        self._requested = threading.Event()
        self._stopped = False
        self._lock = threading.Lock()
        self._done = 0
        self._told: int | None = None
        self._agreed = threading.Event()
        self._last = 0

    @property
    def stopped(self) -> bool:
        """Whether SIGTERM has asked training to stop."""
        return self._stopped

    def __enter__(self):
        self._before = signal.signal(signal.SIGTERM, lambda number, frame: self._requested.set())
        if self._peers.several:
            for task in (self._pass_on, self._agree):
                threading.Thread(target=self._run, args=(task,), name=task.__name__, daemon=True).start()
        return self

    def __exit__(self, *exception):
        signal.signal(signal.SIGTERM, self._before)
        # From here on, a signal must not wait for an answer, nor a thread for a signal.
        if self._peers.several:
            self._tell()
            self._peers.store.set("stop", self._peers.name())

    def stops_after(self, done: int) -> bool:
        """Return whether to stop now that `done` steps are begun, the same answer in all processes. Call it after every
        step."""
        if not self._peers.several:
            self._stopped = self._requested.is_set()
            return self._stopped
        with self._lock:
            self._done = done
            waits = self._told is not None and done >= self._told
        if waits:
            self._agreed.wait()
        self._stopped = self._agreed.is_set() and done >= self._last
        return self._stopped

    def came_late(self) -> bool:
        """Return whether SIGTERM came to any process too late for a step to stop after, as during the last evaluation:
        the same answer in all processes. Call it once, after the context."""
        late = self._requested.is_set() and not self._stopped
        if not self._peers.several:
            return late
        store = self._peers.store
        store.set(f"late/{self._peers.index}", str(late))
        return "True" in [store.get(f"late/{index}", FOREVER_SECONDS) for index in range(self._peers.count)]

    def _run(self, task: Callable[[], None]) -> None:
        # Where process 0 is gone, so is the store: the watch then ends this process and says why.
        with contextlib.suppress(JaxRuntimeError):
            task()

    def _pass_on(self) -> None:
        """Tell the others if this process gets the signal."""
        self._requested.wait()
        self._peers.store.set("stop", self._peers.name())

    def _agree(self) -> None:
        """When any process gets the signal, find the step after which all stop."""
        store = self._peers.store
        while store.get("stop", FOREVER_SECONDS) is None:
            pass  # a training may take longer than that
        self._tell()
        steps = [store.get(f"stop/{index}", FOREVER_SECONDS) for index in range(self._peers.count)]
        self._last = max(map(int, steps))
        self._agreed.set()

    def _tell(self) -> None:
        with self._lock:
            if self._told is None:
                self._told = self._done + 1
                self._peers.store.set(f"stop/{self._peers.index}", str(self._told))


EXIT_STATUS = 128 + signal.SIGTERM
"""Exit status of a process ended by SIGTERM, so that a scheduler knows that the job is not done."""
