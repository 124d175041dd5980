"""Text from other people's files (names, ids, transcripts) in tables for `rich.print`."""

from __future__ import annotations

from rich import markup

from joint_st.errors import printable


def escape(text: str) -> str:
    """Return the text as a table shows it, with its lines kept, and with nothing that `rich` or the terminal would
    obey."""
    return markup.escape("\n".join(map(printable, text.split("\n"))))
