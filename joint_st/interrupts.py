"""Remember that SIGINT came. Python raises KeyboardInterrupt wherever it happens to be; inside an extension that is
being imported, that may become an ImportError. Any error after SIGINT is therefore reported as an interrupt."""

from __future__ import annotations

import signal

_came = False


def listen() -> None:
    """From here on, remember that SIGINT came; it raises KeyboardInterrupt as before."""

    def handle(number, frame):
        global _came
        _came = True
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, handle)


def came() -> bool:
    """Return whether SIGINT has come."""
    return _came
