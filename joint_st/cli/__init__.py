"""The command `joint-st`. Each subcommand imports what it needs when it runs, so that `--help` is instant."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import joint_st
from joint_st import interrupts
from joint_st.cli import align, analyze, compare, compile, data, doctor, evaluate, report, sweep, train, transcribe
from joint_st.cli.parser import Commands, Parser
from joint_st.distributed.host_memory import keep_host_memory
from joint_st.errors import Stalled, UserError, printable
from joint_st.runs import checksums

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
EXIT_STALLED = 75

COMMANDS = (train, evaluate, compare, analyze, report, transcribe, align, sweep, compile, data, doctor)
"""Modules of the commands, in the order of the help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    # Small matrix products, as in log-mel on the host, ran 20 times slower with OpenBLAS's threads than
    # without; it reads this when NumPy is first imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if arguments is None:
        keep_host_memory()
    try:
        _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except Stalled as error:
        print(f"joint-st: error: {error}", file=sys.stderr)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(EXIT_STALLED)
    except UserError as error:
        print(f"joint-st: error: {printable(str(error))}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:
        # The reader of our output has left (`| head`); the flush at exit must not fail on it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except OSError as error:
        # What the system refuses about a file of the user's; one without a name is a mistake of ours.
        if error.filename is None and not interrupts.came():
            raise
        if interrupts.came():
            return _interrupted()
        print(f"joint-st: error: {printable(f'{error.filename}: {error.strerror}')}", file=sys.stderr)
        return EXIT_USER_ERROR
    except Exception:
        if not interrupts.came():
            raise
        return _interrupted()
    return 0


def _interrupted() -> int:
    print("joint-st: interrupted", file=sys.stderr)
    return EXIT_INTERRUPTED


def _run(arguments: list[str]) -> None:
    launcher_options = []
    if arguments[:1] == ["sweep"] and "--" in arguments:
        end = arguments.index("--")
        arguments, launcher_options = arguments[:end], arguments[end + 1 :]
    options = _parser().parse_args(arguments)
    options.launcher_options = launcher_options
    checksums.verify(not getattr(options, "no_verify", False))
    options.run(options)


def _parser() -> Parser:
    parser = Parser(prog="joint-st", description="Train and evaluate joint speech-text encoders.")
    parser.add_argument("--version", action="version", version=f"joint-st {joint_st.__version__}")
    commands = Commands(parser)
    for command in COMMANDS:
        command.add(commands)
    return parser
