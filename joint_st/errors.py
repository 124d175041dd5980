"""The exceptions that the command line tells in one line, and how what others wrote is printed."""

from __future__ import annotations

import errno
import re

FAILING = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS),
    *(errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.EHOSTDOWN, errno.EREMOTEIO),
}
"""Errors of the system that no code causes: a file system that is full, read-only, or gone."""


class UserError(Exception):
    """A mistake of the user's: one line that says what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with status 2.
    """


class Stalled(UserError):
    """Something that was waited for did not come; the same command, started again, goes on.

    Threads that still wait for it keep Python from ending, so the command line leaves without them, with status 75.
    """


def refusal(error: OSError) -> str:
    """What the system refused about a file of the user's, in one line; empty where it may be a mistake of ours."""
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if error.errno in FAILING:  # what is written from a buffer does not say to which file
        room = "; make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        return f"a file could not be written or read: {error.strerror}{room}"
    return ""


_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that end a line, that a terminal takes for commands, that turn the order of what is read, and halves of
surrogate pairs, which no terminal takes."""


def printable(text: str) -> str:
    """The text in one line, and without what a terminal would obey: such characters are written as escapes."""
    return _OBEYED.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


MOST = 2000
"""Most characters of a message: where it quotes a file, that may be a line of any length."""


def told(error: object) -> str:
    """An error as it is printed: in one line, obeyed by no terminal, its middle left out where it is too long to read."""
    text = printable(str(error))
    return text if len(text) <= MOST else f"{text[: MOST // 2]} … {text[-MOST // 2 + 3 :]}"
