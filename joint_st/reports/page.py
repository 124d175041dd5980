"""The page: the template, styles and scripts of this package, and the data, in one file."""

from __future__ import annotations

import html
import json
from importlib.resources import files

SCRIPTS = ("elements.js", "theme.js", "tables.js", "chart.js", "edits.js", "player.js", "map.js", "list.js", "main.js")
"""Scripts in the order in which they run; each may use the definitions of the earlier ones."""


def make_page(data: dict) -> str:
    """Return the HTML of a report.

    data: what `main.js` reads, all of it JSON; `title` is also the title of the page.
    """
    folder = files(__package__) / "page"
    scripts = "\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS)
    parts = {
        "title": html.escape(data["title"]),
        "style": (folder / "style.css").read_text(encoding="utf-8"),
        "data": embedded(data),
        "script": scripts,
    }
    # The template is split once, so that placeholders inside an inserted part are not replaced.
    pieces = (folder / "report.html").read_text(encoding="utf-8").split("{{")
    text = pieces[0]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        text += parts[name] + rest
    # Half a surrogate, which an id may have, is written as JSON escapes it.
    return text.encode(errors="backslashreplace").decode()


def embedded(data) -> str:
    """Return JSON that may stand in an HTML script element: no `<` in it can end the element or begin a comment."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for one, escape in ESCAPES.items():
        text = text.replace(one, escape)
    return text.encode(errors="backslashreplace").decode()


ESCAPES = {"<": "\\u003c", "\u2028": "\\u2028", "\u2029": "\\u2029"}
"""Characters that would end the script element or, in a script, a line."""
