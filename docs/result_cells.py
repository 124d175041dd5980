"""What stands in the tables of results: rates and changes as text, and the tables themselves."""

from collections.abc import Sequence
from typing import Any


def rate(row: dict, name: str) -> str:
    """Return a rate in percent with its 95 % interval, if it has one: `22.7 % (20.8-24.5)`."""
    value, low, high = (_percent(row[name + end]) for end in ("", "_low", "_high"))
    return f"{value} %" if low is None else f"{value} % ({low}-{high})"


def by_seed(row: dict) -> str:
    """Return the rates of the seeds of a row in percent: `19.8, 18.2 and 18.6 %`."""
    *first, last = map(_percent, row["wer_by_seed"])
    return f"{', '.join(first)} and {last} %" if first else f"{last} %"


def change(found: dict) -> str:
    """Return a relative change in percent with its 95 % interval, if it has one: `-42.6 % (-47.0 to -38.2)`."""
    value, low, high = (_percent(found[name], "+") for name in ("change", "low", "high"))
    return f"{value} %" if low is None else f"{value} % ({low} to {high})"


def removed_of(found: dict) -> tuple[float, float | None, float | None]:
    """Return the share of errors that a relative change removes, and its interval, in percent."""
    low, high = (None if found[name] is None else -100 * found[name] for name in ("high", "low"))
    return -100 * found["change"], low, high


def removed(found: dict) -> str:
    """Return a relative change as the share of errors that it removes: `42.6 % (38.2-47.0)`."""
    value, low, high = (None if share is None else _one_decimal(share) for share in removed_of(found))
    if low is None:
        return f"{value} %"
    return f"{value} % ({low} to {high})" if low.startswith("-") else f"{value} % ({low}-{high})"


def _percent(fraction: float | None, sign: str = "") -> str | None:
    return None if fraction is None else _one_decimal(100 * fraction, sign)


def _one_decimal(number: float, sign: str = "") -> str:
    """Return a number with one decimal, and 0 without a sign of its own."""
    return f"{round(number, 1) + 0.0:{sign}.1f}"


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
