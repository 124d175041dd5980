"""What others wrote, names, ids and transcripts, in tables for `rich.print`."""

from __future__ import annotations

from rich import markup

from joint_st.errors import printable


def escape(text: str) -> str:
    """The text as a table shows it, its lines kept: neither `rich` nor the terminal obeys it."""
    return markup.escape("\n".join(map(printable, text.split("\n"))))
