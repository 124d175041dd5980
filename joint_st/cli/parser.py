"""Argument parsers with examples, which take overrides of a config and report a mistake in one line.

tyro makes a command line from pydantic models, but does not fit here. It was tried on `train` and `evaluate` (tyro
1.0.17, medians of ten starts on a busy machine, CPU seconds). It takes 0.33 s instead of 0.23 s to override one field
of a config, and 0.15 s instead of 0.09 s to print the help of `evaluate`; that would be fast enough. But it reads a
flag for each field that the config already has. `--data.train text:a.txt,b.jsonl`, `--data.test.mine tfds:x:test`, a
source of another kind and `--losses.consistency.layers 1,2` are refused, and a value that pydantic refuses is reported
in pydantic's words without its path, in a box of ten lines. Sweeps need `joint_st.config.override` and its one-line
errors in any case; tyro could replace only `split_overrides` below and `joint_st.config.show`.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from joint_st import storage
from joint_st.errors import UserError

OVERRIDES = "[--dotted.path VALUE ...]"
"""End of the usage line of a command that takes a config."""

TRUTH = {"true", "false", "yes", "no", "on", "off", "1", "0"}
"""Values that may follow a flag of a true-or-false field; anything else belongs to the next argument."""

WITH = "--with"
"""Option before the command that names a Python file to run first."""
WITH_IS_FIRST = f"stands before the command: joint-st {WITH} FILE COMMAND"

LEAST_WINDOW = 2
"""Shortest window in seconds: shorter ones would cut most words."""
MOST_WINDOW = 3600
"""Longest window in seconds: a longer one takes more memory than most machines have."""


class Parser(argparse.ArgumentParser):
    """A parser that keeps the lines of its examples and reports a mistake in one line.

    With a `config_type`, `Config` or `LmConfig`, every option that is not its own overrides a field of a config: the
    values are in `overrides` of what it parses, by dotted path.
    """

    def __init__(self, config_type: str = "", **keywords) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **keywords)
        self._config_type = config_type
        if config_type:
            self.set_defaults(config_type=config_type, parser=self)

    def parse_known_args(self, args=None, namespace=None):
        """Parse as argparse does, after taking out the overrides; refuse what is left over at the outermost command."""
        overrides: dict[str, str | None] = {}
        if self._config_type and any(_is_override(argument, self.own_options()) for argument in args):
            import joint_st.config

            root = getattr(joint_st.config, self._config_type)
            overrides, args = split_overrides(args, self.own_options(), root)
        namespace, unknown = super().parse_known_args(args, namespace)
        if self._config_type:
            namespace.overrides = overrides
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._nearest(unknown[0])}")
        return namespace, []

    def own_options(self) -> dict[str, bool | None]:
        """Return the options of the command itself, and whether each takes a value; None where it may."""
        # argparse has kept them in this dictionary since Python 2.7, those of groups included, and offers no public
        # way.
        actions = self._option_string_actions.items()
        return {name: None if action.nargs == argparse.OPTIONAL else action.nargs != 0 for name, action in actions}

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message.removeprefix('argument COMMAND: ')} (see `{self.prog} --help`)")

    def _nearest(self, option: str) -> str:
        """Return a hint at the option that was probably meant; empty where none is similar."""
        name = option.partition("=")[0]
        if name == WITH:
            return f"; it {WITH_IS_FIRST}"
        near = difflib.get_close_matches(name, self.own_options(), 1) if name.startswith("--") else []
        return f"; did you mean {near[0]}?" if near else ""


class Extend(argparse.Action):
    """An option that names a Python file, which is run at once: what it registers is known to what is parsed later."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        from joint_st.config.file import extend

        extend(values)


class Commands:
    """The subcommands of a parser, listed in its help."""

    def __init__(self, parser: Parser) -> None:
        self._parser = parser
        self._actions = parser.add_subparsers(
            prog=parser.prog, metavar="COMMAND", help=argparse.SUPPRESS, required=True
        )
        # Written by hand, because argparse breaks its own list of subcommands over two lines.
        first = f" [{WITH} FILE]" if WITH in parser.own_options() else ""
        parser.usage = f"%(prog)s [-h]{first} COMMAND ..."
        parser.epilog = "commands:"

    def add(self, name: str, summary: str, examples: str, usage: str | None = None, config_type: str = "") -> Parser:
        """Add a subcommand.

        A command that takes a config gives its type, `Config` or `LmConfig`, and its usage; its help also lists the
        config's fields.
        """
        lines = [line.strip() for line in examples.strip().splitlines()]
        self._parser.epilog += f"\n  {name:<12}{summary}"
        return self._actions.add_parser(
            name,
            usage=usage,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog="\n  ".join([f"example{'s' * (len(lines) > 1)}:", *lines]),
            add_help=not config_type,
            config_type=config_type,
        )


def split_overrides(
    arguments: Sequence[str], options: Mapping[str, bool | None], root: type
) -> tuple[dict[str, str | None], list[str]]:
    """Return the overrides by dotted path (`--model.width 256`, `--model.width=256`, `--data.strict`) and the rest.

    An unknown path without a value has None: it may be of a section that the config file registers, see `complete`.

    `options` are the command's own options (`--workdir`) and whether each takes a value (None: it may); every other
    argument that starts with `--` is an override of a config of type `root`. The value may start with a minus sign.
    """
    from joint_st.config.tree import paths

    flags, known = _flags(root), paths(root)
    overrides: dict[str, str | None] = {}
    others: list[str] = []
    todo = list(arguments)
    while todo:
        argument = todo.pop(0)
        name, equals, text = argument.partition("=")
        if not _is_override(argument, options):
            others.append(argument)
            takes = options.get(name, False)
            if takes is None:  # a value that may be left out
                takes = bool(todo) and not todo[0].startswith("-")
            if takes and not equals and todo:
                others.append(todo.pop(0))
            continue
        path = name.removeprefix("--")
        _refuse_misspelt(path, options, known)
        value: str | None = text
        if not equals:
            if path in flags:
                value = todo.pop(0) if todo and todo[0].lower() in TRUTH else "true"
            elif todo and not todo[0].startswith("--"):
                value = todo.pop(0)
            elif path in known:
                raise UserError(f"{name}: a value is missing")
            else:
                value = None
        overrides[path] = value
    return overrides, others


def complete(overrides: Mapping[str, str | None], root: type) -> dict[str, str]:
    """Return overrides, now that the config's file has been read, with `true` for fields of `root` that are true or false
    and were given without a value. Raises `UserError` for other fields without one."""
    from joint_st.config.tree import paths

    found = {}
    for path, value in overrides.items():
        if value is None and path not in _flags(root) and path in paths(root):
            raise UserError(f"--{path}: a value is missing")
        found[path] = value if value is not None else "true" if path in _flags(root) else ""
    return found


def _flags(root: type) -> set[str]:
    """Return the dotted paths of the fields of a config that are true or false."""
    from joint_st.config.annotations import given
    from joint_st.config.tree import join, sections

    return {
        join(prefix, name)
        for prefix, section in sections(root)
        for name, field in section.model_fields.items()
        if given(field.annotation) is bool
    }


def _is_override(argument: str, options: Mapping[str, bool | None]) -> bool:
    return argument.startswith("--") and argument.partition("=")[0] not in options


def _refuse_misspelt(path: str, options: Mapping[str, bool | None], fields: Sequence[str]) -> None:
    """Refuse a misspelt option such as `--workdri`, which was not meant as a field of the config."""
    from joint_st.config.problems import nearest

    if f"--{path}" == WITH:
        raise UserError(f"{WITH}: {WITH_IS_FIRST}")
    known = [option.removeprefix("--") for option in options]
    if "." not in path and path not in fields and (near := nearest(path, known)):
        raise UserError(f"--{path}: unknown option; did you mean --{near}?")


def checkpoint(text: str) -> str:
    """Parse an option that names a checkpoint."""
    if text not in ("best", "latest") and not (text.isascii() and text.isdecimal() and len(text) <= len(str(MOST))):
        raise argparse.ArgumentTypeError(f"{text!r} is neither best, latest nor a step")
    return text


def local_output(text: str) -> Path:
    """Parse an option that names a file or folder to write on this machine."""
    if storage.is_remote(text):
        raise argparse.ArgumentTypeError(
            f"{_shown(text)} is in a bucket; give a path on this machine, and copy it from there"
        )
    return storage.path(text)


def output_file(text: str) -> Path:
    """Parse an option that names a file to write, so that a folder is refused before anything is computed for it."""
    path = storage.path(text)
    if not storage.is_remote(path) and (not path.name or os.path.isdir(path)):
        raise argparse.ArgumentTypeError(f"{_shown(text)} is {'a folder' if text else 'empty'}; name a file")
    return path


def folder(text: str) -> Path:
    """Parse an option that names a folder to write into: an empty one, as of a variable that is not set, would be the
    current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{_shown(text)} is empty; name a folder")
    return storage.path(text)


def local_input(text: str) -> Path:
    """Parse an option that names a file or folder to read on this machine."""
    if "://" in text:
        raise argparse.ArgumentTypeError(f"{_shown(text)} is not on this machine; copy it here, and give its path")
    return Path(text)


def number(least: float, most: float, unit: str = "number") -> Callable[[str], float]:
    """Return a parser of an option that is a finite number from `least` to `most`."""

    def parse(text: str) -> float:
        with contextlib.suppress(ValueError):
            # This refuses NaN too, which is in no range.
            if least <= (value := float(text)) <= most:
                return value
        raise argparse.ArgumentTypeError(f"{_shown(text)} is not a {unit} from {least:g} to {most:g}")

    return parse


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Return a parser of an option that is a whole number from `least` to `most`."""

    def parse(text: str) -> int:
        # Not more digits than the largest number has: Python refuses to parse thousands of digits.
        if text.isascii() and text.isdecimal() and len(text) <= len(str(most)) and least <= int(text) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(f"{_shown(text)} is not a whole number from {least} to {most:,}")

    return parse


def steps(text: str) -> range:
    """Parse an option that is a range of steps, `10:15`."""
    numbers = text.split(":")
    if len(numbers) != 2 or not all(number.isascii() and number.isdecimal() and len(number) < 10 for number in numbers):
        raise argparse.ArgumentTypeError(f"{_shown(text)} is not FROM:TO, two whole numbers such as 10:15")
    found = range(*map(int, numbers))
    if not found:
        raise argparse.ArgumentTypeError(f"{text} has no step in it; FROM must be below TO, as in 10:15")
    if len(found) > MOST_TRACED:
        raise argparse.ArgumentTypeError(
            f"{text} has {len(found):,} steps, whose trace no tool opens; name {MOST_TRACED} at most"
        )
    return found


MOST_TRACED = 100
"""Most steps in a trace: the profiler keeps all events in memory, and viewers load them at once."""


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:38]}…")


MOST = 10**9
"""Largest whole number that an option takes, where no smaller one is stated."""

count = whole_number(1, MOST)
count_or_none = whole_number(0, MOST)
index = whole_number(0, MOST)
window = number(LEAST_WINDOW, MOST_WINDOW, "number of seconds")
