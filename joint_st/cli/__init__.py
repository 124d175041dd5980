"""The command `joint-st`. Each subcommand imports what it needs when it runs, so that `--help` is instant."""

from __future__ import annotations

import codecs
import io
import logging
import os
import sys
from collections.abc import Sequence

from joint_st import interrupts
from joint_st.cli import (
    align,
    analyze,
    compare,
    compile,
    confusions,
    data,
    doctor,
    evaluate,
    report,
    score,
    sweep,
    train,
    transcribe,
)
from joint_st.cli.parser import WITH, Commands, Extend, Parser
from joint_st.cli.version import Version
from joint_st.distributed.host_memory import keep_host_memory
from joint_st.errors import Stalled, UserError, refusal, told
from joint_st.runs import checksums

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
EXIT_STALLED = 75

COMMANDS = (
    train,
    evaluate,
    compare,
    score,
    analyze,
    confusions,
    report,
    transcribe,
    align,
    sweep,
    compile,
    data,
    doctor,
)
"""Modules of the commands, in the order of the help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    # Small matrix products, such as log-mel's on the host, ran 20 times slower with OpenBLAS's threads than without.
    # OpenBLAS reads this variable when NumPy is first imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if arguments is None:
        keep_host_memory()
    _write_names_as_they_are()
    # Warnings are printed as lines of their own. absl would otherwise put the level and the module before each of them.
    logging.basicConfig(format="%(message)s")
    try:
        _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except Stalled as error:
        print(f"joint-st: error: {told(error)}", file=sys.stderr)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(EXIT_STALLED)
    except UserError as error:
        print(f"joint-st: error: {told(error)}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:
        # The program that reads our output has ended (`| head`); the flush at exit must not fail on it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except SystemExit as error:
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        return EXIT_BROKEN_PIPE  # Rich raises this for a closed pipe
    except OSError as error:
        if interrupts.came():
            return _interrupted()
        if not refusal(error):
            raise
        print(f"joint-st: error: {told(refusal(error))}", file=sys.stderr)
        return EXIT_USER_ERROR
    except Exception:
        if not interrupts.came():
            raise
        return _interrupted()
    return 0


def _write_names_as_they_are() -> None:
    """Let standard output print every file name in its own bytes, and all text, with escapes where needed."""

    def encode(error: UnicodeError) -> tuple[str | bytes, int]:
        assert isinstance(error, UnicodeEncodeError)
        one = error.object[error.start]
        if "\udc80" <= one <= "\udcff":
            return bytes([ord(one) - 0xDC00]), error.start + 1
        return one.encode("ascii", "backslashreplace").decode("ascii"), error.start + 1

    codecs.register_error("joint_st", encode)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="joint_st")


def _interrupted() -> int:
    print("joint-st: interrupted", file=sys.stderr)
    return EXIT_INTERRUPTED


def _run(arguments: list[str]) -> None:
    launcher_options = []
    if _command(arguments) == "sweep" and "--" in arguments:
        end = arguments.index("--")
        arguments, launcher_options = arguments[:end], arguments[end + 1 :]
    options = _parser().parse_args(arguments)
    options.launcher_options = launcher_options
    checksums.verify(not getattr(options, "no_verify", False))
    options.run(options)


def _command(arguments: Sequence[str]) -> str:
    """Return the command among the arguments, which stands after all `--with FILE` and `--with=FILE`; "" if there is none."""
    todo = iter(arguments)
    for argument in todo:
        if argument == WITH:
            next(todo, None)
        elif not argument.startswith(f"{WITH}="):
            return argument
    return ""


def _parser() -> Parser:
    parser = Parser(prog="joint-st", description="Train and evaluate joint speech-text encoders.")
    parser.add_argument(
        "--version", action=Version, nargs=0, help="show the versions of this package and of what it uses"
    )
    parser.add_argument(
        WITH,
        metavar="FILE",
        dest="extensions",
        action=Extend,
        help="run a Python file of yours first, so that the command knows the sections, losses and kinds that it registers",
    )
    commands = Commands(parser)
    for command in COMMANDS:
        command.add(commands)
    return parser
