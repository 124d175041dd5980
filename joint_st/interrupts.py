"""SIGINT, which Python turns into KeyboardInterrupt wherever it is: an extension that is being imported, for one, makes
an ImportError of it, or of what it leaves half done. Whatever comes after it is told as an interrupt."""

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
    """Whether SIGINT has come."""
    return _came
