"""`python -m joint_st` is the command `joint-st`."""

import contextlib
import os
import signal
import sys
from typing import NoReturn


def main() -> int:
    """Run the command line; SIGINT before it listens, or after it has ended, ends the process without a traceback."""
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a shell may have it ignored
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _open_closed_streams()
    from joint_st import cli, interrupts

    if ours:
        interrupts.listen()
    status = cli.main()
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if status:
        _leave(status)
    return status


def _leave(status: int) -> NoReturn:
    """Exit without waiting for threads: one of a library may wait for ever, for instance for a save that has failed."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(status)


def _open_closed_streams() -> None:
    """Open standard streams that are closed on the null device; otherwise the next file that is opened would take their
    number, and what libraries print would go into it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, "r")
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w")
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w")


if __name__ == "__main__":
    sys.exit(main())
