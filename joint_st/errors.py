"""The exceptions that the command line tells in one line."""


class UserError(Exception):
    """A mistake of the user's: one line that says what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with status 2.
    """


class Stalled(UserError):
    """Something that was waited for did not come; the same command, started again, goes on.

    Threads that still wait for it keep Python from ending, so the command line leaves without them, with status 75.
    """


def printable(text: str) -> str:
    """The text in one line, and without what a terminal would obey: control characters are written as escapes."""
    return "".join(one if one.isprintable() or one == " " else one.encode("unicode_escape").decode() for one in text)
