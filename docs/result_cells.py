"""What stands in the tables of results: rates and changes as text, and the tables themselves."""

from collections.abc import Sequence
from typing import Any


def rate(row: dict, name: str) -> str:
    """Return a rate in percent with its 95 % interval: `22.7 % (20.8-24.5)`."""
    value, low, high = (f"{100 * row[name + end]:.1f}" for end in ("", "_low", "_high"))
    return f"{value} % ({low}-{high})"


def change(found: dict) -> str:
    """Return a relative change in percent with its 95 % interval: `-42.6 % (-47.0 to -38.2)`."""
    value, low, high = (f"{100 * found[name]:+.1f}" for name in ("change", "low", "high"))
    return f"{value} % ({low} to {high})"


def removed(found: dict) -> str:
    """Return a relative change as the share of errors that it removes: `42.6 % (38.2-47.0)`."""
    value, low, high = (f"{-100 * found[name]:.1f}" for name in ("change", "high", "low"))
    return f"{value} % ({low} to {high})" if low.startswith("-") else f"{value} % ({low}-{high})"


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
