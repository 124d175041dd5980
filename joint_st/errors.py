"""Exceptions that the command line reports in one line, and how text from other people's files is printed."""

from __future__ import annotations

import errno
import re

FAILING = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS),
    *(errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.EHOSTDOWN, errno.EREMOTEIO),
}
"""Errors of the system that are no bug: a file system that is full, read-only, or gone."""


class UserError(Exception):
    """A mistake of the user's: one line that says what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with status 2.
    """


class Stalled(UserError):
    """Something that the command waited for did not come; the same command, started again, continues the run.

    Threads that still wait for it would keep Python from exiting, so the command line exits without them, with status
    75.
    """


def refusal(error: OSError) -> str:
    """Return in one line why the system refused a file of the user's; empty where the error may be a bug of ours."""
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if error.errno in FAILING:  # an error of a buffered write does not name its file
        room = "; make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        return f"a file could not be written or read: {error.strerror}{room}"
    return ""


_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that end a line, that a terminal takes for commands, that turn the order of what is read, and halves of
surrogate pairs, which no terminal takes."""


def printable(text: str) -> str:
    """Return the text on one line, with the characters that a terminal would obey written as escapes."""
    return _OBEYED.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


MOST = 2000
"""Most characters of a message: where it quotes a file, that may be a line of any length."""


def told(error: object) -> str:
    """Return an error as it is printed: on one line, control characters escaped, the middle of a very long one left
    out."""
    text = printable(str(error))
    return text if len(text) <= MOST else f"{text[: MOST // 2]} … {text[-MOST // 2 + 3 :]}"
