"""The rows of a sweep as tables: for the terminal, and in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

HEADS = {"full_context": "", "streaming": "streaming_"}


def make_tables(rows: Sequence[dict]) -> Iterator[Table]:
    """Tables for `rich.print`, one for the rates and one for each reference, about 80 columns wide."""
    for _, part in _parts(rows):
        subsets = _subsets(part)
        yield _table(f"WER %, {_title(part)}", subsets, part, _rate)
        for reference in _references(part):
            compared = [row for row in part if reference in row["relative_to"]]
            title = f"WER relative to {reference}, change in %, same seeds and utterances"
            yield _table(title, subsets, compared, _change_from(reference, "{} {}..{}"))


def make_markdown(rows: Sequence[dict]) -> str:
    """The same tables in Markdown, each arm in one row."""
    blocks = []
    for _, part in _parts(rows):
        subsets = _subsets(part)
        header = [f"{head.replace('_', ' ')}: {_words(subset)}" for head in HEADS for subset in subsets]
        blocks.append(f"WER %, {_title(part)}:")
        blocks.append(_markdown(header, part, subsets, _rate))
        for reference in _references(part):
            compared = [row for row in part if reference in row["relative_to"]]
            blocks.append(f"WER relative to `{reference}`, change in %, same seeds and utterances:")
            blocks.append(_markdown(header, compared, subsets, _change_from(reference, "{} ({} to {})")))
    return "\n\n".join(blocks) + "\n"


def _table(title, subsets, rows, cell) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("arm", overflow="fold")
    for subset in subsets:
        table.add_column(_words(subset), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(escape(row["name"]))
        for head in HEADS:
            table.add_row(f"  {head}", *(cell(row, head, subset) for subset in subsets))
    return table


def _markdown(header, rows, subsets, cell) -> str:
    lines = [["", *header], ["---"] * (len(header) + 1)]
    for row in rows:
        cells = (cell(row, head, subset) for head in HEADS for subset in subsets)
        lines.append([f"`{row['name']}`", *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _rate(row: dict, head: str, subset: str) -> str:
    name = HEADS[head] + ("wer" if subset == "all" else f"wer_{subset}")
    if row.get(name) is None:
        return "-"
    value, low, high = (f"{100 * row[name + end]:.1f}" for end in ("", "_low", "_high"))
    return f"{value} ({low}-{high})"


def _change_from(reference: str, form: str):
    def cell(row: dict, head: str, subset: str) -> str:
        change = row["relative_to"][reference].get(HEADS[head] + subset)
        if change is None:
            return "-"
        return form.format(*(f"{100 * change[name]:+.1f}" for name in ("change", "low", "high")))

    return cell


def _parts(rows: Sequence[dict]) -> Iterator[tuple[tuple, list[dict]]]:
    """Rows by split and decoder."""
    for key in dict.fromkeys((row["split"], row["decoder"]) for row in rows):
        yield key, [row for row in rows if (row["split"], row["decoder"]) == key]


def _subsets(rows: Sequence[dict]) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row if name.startswith("words_"))
    return ["all", *(name.removeprefix("words_") for name in names)]


def _references(rows: Sequence[dict]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row["relative_to"]))


def _title(rows: Sequence[dict]) -> str:
    row = rows[0]
    counts = sorted({len(row["seeds"]) for row in rows})
    seeds = f"{counts[0]} seed{'s' * (counts[0] > 1)}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    what = f"{row['split']}, {row['utterances']} utterances, {seeds}, 95 % over both"
    return f"{what}; decoder {row['decoder']}, normalizer {row['normalizer']}"


def _words(subset: str) -> str:
    return "all words" if subset == "all" else subset.replace("_", " ")
