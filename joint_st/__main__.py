"""`python -m joint_st` is the command `joint-st`."""

import signal
import sys


def main() -> int:
    """Run the command line; SIGINT before it listens, or after it has ended, ends the process without a traceback."""
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # or else a shell has it ignored
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from joint_st import cli, interrupts

    if ours:
        interrupts.listen()
    status = cli.main()
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return status


if __name__ == "__main__":
    sys.exit(main())
