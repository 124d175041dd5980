"""The blocks of code in Markdown pages, and what a comment before one says of it.

    <!-- skip: needs a TPU -->       the block is not run here, and why
    <!-- file: mine.py -->           the block is written to this file

Of other blocks, those in `console` are run by bash, line by line after `$ `, and those in `python` by Python. Lines
below a command are what it prints, in this order and among others; `...` in a line stands for anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

MARK = re.compile(r"<!--\s*(?P<what>skip|file):\s*(?P<value>.+?)\s*-->")
FENCE_DIRECTIVE = re.compile(r"\{[\w-]+\}")


class Block(NamedTuple):
    """A block of code."""

    language: str
    text: str
    line: int
    """Line of the page, from 1."""
    file: str = ""
    """File that it is written to."""
    skip: str = ""
    """Why it is not run."""


class Command(NamedTuple):
    """A command, and lines that it prints."""

    command: str
    output: tuple[str, ...]


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page that are marked by a language or a comment."""
    mark: dict[str, str] = {}
    for token in MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block" and (match := MARK.search(token.content)):
            mark = {match["what"]: match["value"]}
        elif token.type == "fence":
            language = token.info.split()[0] if token.info.split() else ""
            if not FENCE_DIRECTIVE.match(language):
                yield Block(language, token.content, token.map[0] + 1, **mark)
            mark = {}
        elif token.content.strip() and token.type != "html_block":
            mark = {}


def commands(text: str) -> list[Command]:
    """Return the commands of a `console` block; a command goes on in the next line after a backslash."""
    found: list[tuple[str, list[str]]] = []
    going_on = False
    for line in text.splitlines():
        if going_on:
            found[-1] = (f"{found[-1][0]}\n{line}", [])
        elif line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        elif found:
            found[-1][1].append(line)
        else:
            raise ValueError(f"{line!r}: no command stands above it")
        going_on = found[-1][0].endswith("\\") and not found[-1][1]
    return [Command(command, tuple(output)) for command, output in found]


def missing(expected: tuple[str, ...], printed: str) -> str | None:
    """Return the first of the expected lines that was not printed after those before it; None where all were."""
    lines = iter(line.rstrip() for line in printed.splitlines())
    for wanted in expected:
        if wanted.strip() in ("", "..."):
            continue
        pattern = re.compile(".*".join(re.escape(part) for part in wanted.rstrip().split("...")))
        if not any(pattern.fullmatch(line) for line in lines):
            return wanted
    return None
