"""The exceptions that the command line tells in one line, and how what others wrote is printed."""

from __future__ import annotations

import re


class UserError(Exception):
    """A mistake of the user's: one line that says what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with status 2.
    """


class Stalled(UserError):
    """Something that was waited for did not come; the same command, started again, goes on.

    Threads that still wait for it keep Python from ending, so the command line leaves without them, with status 75.
    """


_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that end a line, that a terminal takes for commands, that turn the order of what is read, and halves of
surrogate pairs, which no terminal takes."""


def printable(text: str) -> str:
    """The text in one line, and without what a terminal would obey: such characters are written as escapes."""
    return _OBEYED.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
