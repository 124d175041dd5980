"""The rows of a sweep, as `collect` makes them, as tables: for the terminal, in Markdown, and as CSV."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from rich import box
from rich.table import Table

from joint_st.errors import UserError
from joint_st.evaluation.bootstrap import SPEAKERS
from joint_st.evaluation.report import about_few, between, percent
from joint_st.evaluation.wer import ALL
from joint_st.json_files import DAMAGED, read_json
from joint_st.passes import FULL_CONTEXT, STREAMING
from joint_st.tables import escape

HEADS = {FULL_CONTEXT: "", STREAMING: f"{STREAMING}_"}
"""Prefix of the names of each head's rates."""


def name_of(quantity: str, head: str, subset: str) -> str:
    """Return the name of a head's quantity on a subset of the words: `wer`, `wer_heard`, `streaming_wer_heard`."""
    return f"{HEADS[head]}{quantity}" if subset == ALL else f"{HEADS[head]}{quantity}_{subset}"


def change_of(row: dict, reference: str, head: str, subset: str) -> dict[str, float] | None:
    """Return the change of a rate relative to an arm of reference, with its interval; None where there is none."""
    return row["relative_to"][reference].get(change_key(head, subset))


def change_key(head: str, subset: str) -> str:
    """Return the key of a rate's change in `relative_to`: `all`, `heard`, `streaming_heard`."""
    return f"{HEADS[head]}{subset}"


def by_split(rows: Sequence[dict]) -> Iterator[list[dict]]:
    """Yield the rows of each split and decoder."""
    for key in dict.fromkeys((row["split"], row["decoder"]) for row in rows):
        yield [row for row in rows if (row["split"], row["decoder"]) == key]


def subsets_of(rows: Sequence[dict]) -> list[str]:
    """Return the subsets of the words that some row has, all words first."""
    names = dict.fromkeys(name for row in rows for name in row if name.startswith("words_"))
    return [ALL, *(name.removeprefix("words_") for name in names)]


def references_of(rows: Sequence[dict]) -> list[str]:
    """Return the arms that some row is compared with."""
    return list(dict.fromkeys(name for row in rows for name in row["relative_to"]))


def title_of(rows: Sequence[dict]) -> str:
    """Return a title with what rows of one split and decoder share."""
    row = rows[0]
    counts = sorted({len(row["seeds"]) for row in rows})
    seeds = f"{counts[0]} seed{'s' * (counts[0] > 1)}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    over = "seeds and speakers" if SPEAKERS in row else "both"
    what = f"{row['split']}, {row['utterances']} utterances, {seeds}, 95 % over {over}"
    return f"{what}; decoder {row['decoder']}, normalizer {row['normalizer']}"


def words_of(subset: str) -> str:
    """Return the name of a subset as it is printed."""
    return "all words" if subset == ALL else subset.replace("_", " ")


def value_of(value: Any) -> str:
    """Return the value of a field as it is printed, empty for a field that an arm does not have."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def make_tables(rows: Sequence[dict]) -> Iterator[Table]:
    """Yield tables for `rich.print`, one for the rates and one for each reference, about 80 columns wide."""
    for part in by_split(rows):
        subsets = subsets_of(part)
        title = "\n".join([f"WER %, {title_of(part)}", *about_few(part)])
        yield _table(title, subsets, part, _rate)
        for reference in references_of(part):
            compared = [row for row in part if reference in row["relative_to"]]
            title = f"WER relative to {reference}, change in %, same utterances"
            yield _table(title, subsets, compared, _change_from(reference, "{} {}..{}"))


def make_markdown(rows: Sequence[dict]) -> str:
    """Return the same tables in Markdown, an arm in a row, with its overrides in the first table's last columns."""
    blocks = []
    for part in by_split(rows):
        subsets = subsets_of(part)
        header = [f"{head.replace('_', ' ')}: {words_of(subset)}" for head in HEADS for subset in subsets]
        blocks.append(". ".join([f"WER %, {title_of(part)}", *map(str.capitalize, about_few(part))]) + ":")
        blocks.append(_markdown(header, part, subsets, _rate, list(part[0]["overrides"])))
        for reference in references_of(part):
            compared = [row for row in part if reference in row["relative_to"]]
            blocks.append(f"WER relative to `{reference}`, change in %, same utterances:")
            blocks.append(_markdown(header, compared, subsets, _change_from(reference, "{} ({} to {})")))
    return "\n\n".join(blocks) + "\n"


def make_csv(rows: Sequence[dict]) -> str:
    """Return the rows as CSV: an arm in a line, a column for each field that it overrides; rates are fractions.

    Changes relative to a reference are in columns such as `wer_relative_to_NAME`; seeds are separated by spaces.
    """
    flat = [_flat(row) for row in rows]
    columns = dict.fromkeys(name for row in flat for name in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def _flat(row: dict) -> dict[str, Any]:
    cells = {"name": row["name"]} | {path: value_of(value) for path, value in row["overrides"].items()}
    for name, value in row.items():
        if isinstance(value, list):
            cells[name] = " ".join(map(str, value))
        elif not isinstance(value, dict):
            cells[name] = value
    for reference in row["relative_to"]:
        for head, subset in itertools.product(HEADS, subsets_of([row])):
            name = f"{name_of('wer', head, subset)}_relative_to_{reference}"
            change = change_of(row, reference, head, subset) or dict.fromkeys(("change", "low", "high"))
            cells |= {name: change["change"], f"{name}_low": change["low"], f"{name}_high": change["high"]}
    return cells


def _table(title, subsets, rows, cell) -> Table:
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("arm", overflow="fold")
    for subset in subsets:
        table.add_column(words_of(subset), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(escape(row["name"]))
        for head in HEADS:
            table.add_row(f"  {head}", *(cell(row, head, subset) for subset in subsets))
    return table


def _markdown(header, rows, subsets, cell, overrides=()) -> str:
    header = ["", *header, *(f"`{path}`" for path in overrides)]
    lines = [header, ["---"] * len(header)]
    for row in rows:
        cells = (cell(row, head, subset) for head in HEADS for subset in subsets)
        values = (value_of(row["overrides"][path]).replace("|", "\\|") for path in overrides)
        lines.append([f"`{row['name']}`", *cells, *values])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _rate(row: dict, head: str, subset: str) -> str:
    name = name_of("wer", head, subset)
    if row.get(name) is None:
        return "-"
    value, low, high = (row[name + end] for end in ("", "_low", "_high"))
    return percent(value) if low is None else f"{percent(value)} ({between(low, high)})"


def _change_from(reference: str, form: str):
    def cell(row: dict, head: str, subset: str) -> str:
        change = change_of(row, reference, head, subset)
        if change is None:
            return "-"
        if change["low"] is None:
            return f"{100 * change['change']:+.1f}"
        return form.format(*(f"{100 * change[name]:+.1f}" for name in ("change", "low", "high")))

    return cell


def result_line(table: Path) -> str:
    """Return the rates of an evaluation's table in one line: `test full_context 23.8 % (heard 8.3, text_only 109.8),
    ...`; with each beam after the greedy ones. Raises `UserError` where the table is damaged."""
    rows = read_json(table, list[dict[str, JsonValue]])
    try:
        return _rates_in_words(rows)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{table}: not the table of an evaluation ({error!r}); {DAMAGED}") from None


def _rates_in_words(rows: Sequence[dict[str, Any]]) -> str:
    parts: dict[tuple, dict[str, str]] = {}
    for row in rows:
        rate = "-" if row["wer"] is None else f"{100 * row['wer']:.1f}"
        parts.setdefault((row["split"], row["head"], row["decoder"]), {})[row["subset"]] = rate
    texts = []
    for (split, head, decoder), rates in sorted(parts.items(), key=lambda part: part[0][2] != "greedy"):
        overall = rates.pop("all")
        rest = ", ".join(f"{subset} {rate}" for subset, rate in rates.items())
        beam = "" if decoder == "greedy" else f" {decoder.partition(',')[0]}"
        texts.append(f"{split} {head}{beam} WER {overall} %" + (f" ({rest})" if rest else ""))
    return ", ".join(texts)
