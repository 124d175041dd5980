"""Remember that SIGINT came. Python raises KeyboardInterrupt wherever it happens to be; inside an extension that is
being imported, that may become an ImportError. Any error after SIGINT is therefore reported as an interrupt.

In a finalizer, or in a callback of the garbage collector such as JAX's, Python prints an exception and forgets it: there
the interrupt is put off until the callback is over.
"""

from __future__ import annotations

import os
import signal
import threading
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
            again = threading.Timer(LATER_SECONDS, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
            return
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, handle)


def came() -> bool:
    """Return whether SIGINT has come."""
    return _came


def _is_forgotten_in(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name in FORGETFUL:
            return True
        frame = frame.f_back
    return False
