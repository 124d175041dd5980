"""Argument parsers with examples, which report a mistake in one line."""

from __future__ import annotations

import argparse
import contextlib
from typing import NoReturn

from joint_st.errors import UserError

OVERRIDES = "[--dotted.path VALUE ...]"
"""Stands in the usage of a command that takes a config."""

LEAST_WINDOW = 2
"""Seconds: in shorter windows few words would be whole."""


class Parser(argparse.ArgumentParser):
    """A parser that keeps the lines of its examples and reports a mistake in one line."""

    def __init__(self, **keywords) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **keywords)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message.removeprefix('argument COMMAND: ')} (see `{self.prog} --help`)")


class Commands:
    """The subcommands of a parser, listed in its help."""

    def __init__(self, parser: Parser) -> None:
        self._parser = parser
        self._actions = parser.add_subparsers(
            prog=parser.prog, metavar="COMMAND", help=argparse.SUPPRESS, required=True
        )
        # Written by hand, because argparse breaks its own list of subcommands over two lines.
        parser.usage = "%(prog)s [-h] COMMAND ..."
        parser.epilog = "commands:"

    def add(self, name: str, summary: str, examples: str, usage: str | None = None) -> Parser:
        """A subcommand; `usage` for one that takes a config, whose help also lists the config's fields."""
        lines = [line.strip() for line in examples.strip().splitlines()]
        self._parser.epilog += f"\n  {name:<12}{summary}"
        return self._actions.add_parser(
            name,
            usage=usage,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog="\n  ".join([f"example{'s' * (len(lines) > 1)}:", *lines]),
            add_help=usage is None,
        )


def checkpoint(text: str) -> str:
    """The type of an option: which checkpoint."""
    if text not in ("best", "latest") and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is neither best, latest nor a step")
    return text


def count(text: str) -> int:
    """The type of an option: a whole number from 1 on."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def count_or_none(text: str) -> int:
    """The type of an option: a whole number from 0 on, 0 for none."""
    return 0 if text == "0" else count(text)


def window(text: str) -> float:
    """The type of an option: the length of a window in seconds."""
    with contextlib.suppress(ValueError):
        if float(text) >= LEAST_WINDOW:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from {LEAST_WINDOW} on")


def index(text: str) -> int:
    """The type of an option: a number of something counted from 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 on")
    return int(text)
