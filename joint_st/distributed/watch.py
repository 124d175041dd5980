"""When one process fails, all end soon, with a non-zero status and one line that says which process failed and why.

Process 0 prints the line, since people look at its output. Each process watches its links in threads, because its main
thread may wait for a collective that never completes. A heartbeat goes over each link every few seconds, because a
process that is stopped, or whose host hangs, keeps its connections open but falls silent.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from typing import NoReturn

from joint_st.distributed.links import SILENT_SECONDS, Link
from joint_st.distributed.peers import Peers

AGAIN = "the same command, started on all again, goes on from the last checkpoint"
EXIT_FAILED = 2
"""Exit status if a process failed."""
EXIT_LOST = 75
"""Exit status if a process or its host is gone: the same command, started again, continues."""
BEAT_SECONDS = 5
"""Seconds between two heartbeats."""
GRACE_SECONDS = 5
"""Seconds that process 0, which probably fails as well, gets to bring its files in order."""


class Watch:
    """Ends this process when another one fails or is gone, and the others when this one fails."""

    def __init__(self, peers: Peers, links: dict[int, Link]):
        self._peers = peers
        self._links = links
        self._lock = threading.Lock()
        self._ending = False
        self._heard = threading.Event()
        self._told = False
        self._closed = threading.Event()
        _delay_aborts()
        for index, link in links.items():
            threading.Thread(target=self._listen, args=(index, link), name=f"watch {index}", daemon=True).start()
        threading.Thread(target=self._beat, name="beat", daemon=True).start()

    def other_failed(self, seconds: float) -> bool:
        """Return whether another process has failed or is gone; waits up to `seconds` for that news."""
        return self._heard.wait(seconds)

    def fail(self, line: str, status: int = EXIT_FAILED) -> NoReturn:
        """End this process and the others, with the message `line` unless another process failed before."""
        if not self._claim():
            threading.Event().wait()  # for the thread that ends this process
        if self._peers.is_first:
            self._announce(line, status)
        self._links[0].send({"failed": line, "status": status})
        self._heard.wait(3 * GRACE_SECONDS)
        # Printed here only if process 0 has not printed it.
        _exit(status, "" if self._told else line)

    def close(self) -> None:
        """End the watch: all processes are done, and may now end one after the other."""
        self._claim()
        self._closed.set()
        for link in self._links.values():
            link.send({"bye": True})

    def _beat(self) -> None:
        while not self._closed.wait(BEAT_SECONDS):
            for link in self._links.values():
                link.send({"beat": True})

    def _listen(self, index: int, link: Link) -> None:
        what = "is gone: killed, or its host died"
        try:
            while (message := link.receive(time.monotonic() + SILENT_SECONDS)) and "beat" in message:
                pass
        except TimeoutError:
            message, what = None, f"was silent for {SILENT_SECONDS} s: stopped, or its host hangs or is cut off"
        if message and "bye" in message:
            return
        if message:
            line, status = message["failed"], message["status"]
        else:
            line, status = f"{self._peers.name(index)} {what}; {AGAIN}", EXIT_LOST
        self._told = message is not None
        self._heard.set()
        if self._peers.is_first:
            if message:
                time.sleep(GRACE_SECONDS)
            if self._claim():
                self._announce(line, status)
        elif self._claim():
            _exit(status, "" if message else line)

    def _claim(self) -> bool:
        """Return whether the caller shall end this process: true for the first caller only."""
        with self._lock:
            first, self._ending = not self._ending, True
            return first

    def _announce(self, line: str, status: int) -> NoReturn:
        for link in self._links.values():
            link.send({"failed": line, "status": status})
        # When process 0 has ended, JAX aborts the processes that still run, with long messages.
        until = time.monotonic() + GRACE_SECONDS
        for link in self._links.values():
            with contextlib.suppress(TimeoutError):
                while link.receive(until):
                    pass
        _exit(status, line)


def _exit(status: int, line: str) -> NoReturn:
    # Exit immediately: a regular exit of Python and JAX may wait for the other processes.
    if line:
        print(f"joint-st: error: {line}", file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


def _delay_aborts() -> None:
    """Delay aborts by 6 s, so that the watch can report what happened and exit with its own status.

    JAX aborts a process at once when process 0 is gone. The handler of SIGABRT becomes the C function `sleep`, which
    handlers may call and which takes the signal's number, 6, for its seconds; then the process aborts.
    """
    libc = ctypes.CDLL(None)
    libc.signal.argtypes, libc.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    libc.signal(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))
