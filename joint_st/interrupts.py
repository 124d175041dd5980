"""Remember that SIGINT came. Python raises KeyboardInterrupt wherever it happens to be; inside an extension that is
being imported, that may become an ImportError. Any error after SIGINT is therefore reported as an interrupt.

In a finalizer, or in a callback of the garbage collector such as JAX's, Python prints an exception and forgets it: there
the interrupt is put off until the callback is over. SIGTERM, which clusters send to jobs that they are about to end, raises
an exception only where a command asks for it, to keep what is done.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

FORGETFUL = ("_xla_gc_callback", "__del__")
"""Functions out of which Python raises nothing."""

LATER_SECONDS = 0.05

_came = False


def listen() -> None:
    """From here on, remember that SIGINT came; it raises KeyboardInterrupt as before."""

    def handle(number, frame):
        global _came
        _came = True
        if _is_forgotten_in(frame):
            _send_again(number)
            return
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, handle)


def came() -> bool:
    """Return whether SIGINT has come."""
    return _came


@contextlib.contextmanager
def sigterm_exits() -> Iterator[None]:
    """Make the first SIGTERM raise `SystemExit` with status 143 and ignore further ones, so that what is done can be
    kept; a context. Outside the main thread, where Python handles no signals, nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ends = False

    def handle(number, frame):
        nonlocal ends
        if ends:
            return
        if _is_forgotten_in(frame):
            _send_again(number)
            return
        ends = True
        print("joint-st: ended by SIGTERM", file=sys.stderr)
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def first_ends_input(input: str) -> Iterator[None]:
    """Leave the first SIGINT to the program that writes into a pipe which this process reads; the second one acts as
    before; a context.

    A terminal sends Ctrl-C to both. A recorder ends by it, and what it has recorded is then read to its end. input: name
    of the pipe in the line that is printed. Nothing changes where SIGINT is ignored, and outside the main thread.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return

    def handle(number, frame):
        signal.signal(number, before)
        line = f"joint-st: interrupted: {input} is heard to its end; interrupt again to stop at once\n"
        with contextlib.suppress(OSError):
            os.write(2, line.encode())  # a buffered stream may be at work

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _send_again(number: int) -> None:
    again = threading.Timer(LATER_SECONDS, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()


def _is_forgotten_in(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name in FORGETFUL:
            return True
        frame = frame.f_back
    return False
