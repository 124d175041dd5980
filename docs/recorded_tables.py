"""What `benchmarks/recorded.py` gives to the pages: rates and relative changes of arms on recorded test splits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from forest import Interval, forest
from result_cells import by_seed, change, rate, removed, table

HEADS = ("full_context", "streaming")
KINDS = [f"{head}_{decoder}" for head in HEADS for decoder in ("greedy", "beam")]


def recorded(found: dict) -> dict[str, Any]:
    """Return tables with a line for each arm on each test split, and rates and changes by name.

    A table has a column for each head with each of two decoders, `greedy` and `beam`, which is the one with a language
    model. `rates` and `rates_text_only` hold WER, and `figure` and `figure_text_only` draw it; `versus_ARM` and
    `versus_ARM_text_only` hold the change of the errors. By name:
    `ARM.TEST.HEAD_DECODER.SUBSET` is a rate, `ARM.by_seed` has those of the seeds, and
    `ARM.versus_OTHER.TEST.HEAD_DECODER.SUBSET` the share of errors removed. `ARM.read.WHAT.HEAD` is the WER of what the shared
    layers read, `ARM.read.WHAT.HEAD_SUBSET` that of some words, `ARM.unit_errors` the share of wrong text units.
    """
    rates, changes = found["rates"], found["changes"]
    names = {"beam" if row["decoder"] != "greedy" else "greedy": row["decoder"] for row in rates}
    values: dict[str, Any] = {"beam": names.get("beam", "")}
    others = dict.fromkeys(row["relative_to"] for row in changes)
    for subset, end in (("all", ""), ("text_only", "_text_only")):
        values[f"rates{end}"] = _lines(rates, subset, lambda row: rate(row, "wer"))
        values[f"figure{end}"] = _figure([row for row in rates if row["subset"] == subset])
        for other in others:
            against = [row for row in changes if row["relative_to"] == other]
            values[f"versus_{other}{end}"] = _lines(against, subset, change)
    for row in rates:
        _put(values, (row["name"], *_keys(row)), rate(row, "wer"))
        if row["wer_by_seed"]:
            _put(values, (row["name"], "by_seed", *_keys(row)), by_seed(row))
    for row in changes:
        _put(values, (row["name"], f"versus_{row['relative_to']}", *_keys(row)), removed(row))
    for row in found.get("readings", ()):
        for what, rates_of in row["wer"].items():
            for head, wer in rates_of.items():
                _put(values, (row["name"], "read", what, head), f"{100 * wer:.1f} %")
                for subset, own in row.get("wer_of_subsets", {}).get(what, {}).get(head, {}).items():
                    _put(values, (row["name"], "read", what, f"{head}_{subset}"), f"{100 * own:.1f} %")
        _put(values, (row["name"], "unit_errors"), f"{100 * row['unit_errors']:.1f} %")
    seeds = sorted({len(row["seeds"]) for row in rates})
    steps = sorted({step for row in rates for step in row["steps"]})
    device = ", ".join(dict.fromkeys(row["device"] for row in rates))
    return values | {"seeds": "-".join(map(str, seeds)), "steps": "-".join(f"{n:,}" for n in steps), "device": device}


def _kind(row: dict) -> str:
    """Return the head and the decoder of a row, as a name."""
    return f"{row['head']}_{'greedy' if row['decoder'] == 'greedy' else 'beam'}"


def _keys(row: dict) -> tuple[str, str, str]:
    return row["test"], _kind(row), row["subset"]


def _put(values: dict[str, Any], keys: tuple[str, ...], value: str) -> None:
    for key in (key.replace(".", "_") for key in keys[:-1]):  # a dot would begin another name
        values = values.setdefault(key, {})
    values[keys[-1]] = value


def _figure(rows: list[dict]) -> str:
    """Return a figure of WER with a line for each arm on each test split, those first that make fewest errors in full context."""
    tests = {row["test"] for row in rows}
    lines: dict[str, dict[str, Interval]] = {}
    for row in rows:
        label = row["name"] if len(tests) == 1 else f"{row['test']}: {row['name']}"
        value, low, high = (
            None if row[f"wer{end}"] is None else 100 * row[f"wer{end}"] for end in ("", "_low", "_high")
        )
        if value is not None:
            lines.setdefault(label, {})[_title(_kind(row))] = (value, low, high)
    if not lines:
        return ""
    titles = [_title(kind) for kind in KINDS]
    ordered = [(label, {title: of[title] for title in titles if title in of}) for label, of in lines.items()]
    return forest(sorted(ordered, key=lambda line: next(iter(line[1].values()))[0]), "WER, % (95 % interval)")


def _title(kind: str) -> str:
    return kind.replace("_", " ", kind.count("_") - 1).replace("_", ", ")


def _lines(rows: list[dict], subset: str, cell: Callable[[dict], str]) -> str:
    """Return a table of the rows of a subset of the words, in percent."""
    own = [row for row in rows if row["subset"] == subset]
    kinds = [kind for kind in KINDS if any(_kind(row) == kind for row in own)]
    cells = {(row["test"], row["name"], _kind(row)): cell(row).replace(" %", "") for row in own}
    seeds = {(row["test"], row["name"]): len(row["seeds"]) for row in own}
    header = [
        "test",
        "arm",
        "seeds",
        *map(_title, kinds),
    ]
    lines = [
        [f"`{test}`", f"`{name}`", count, *(cells.get((test, name, kind), "-") for kind in kinds)]
        for (test, name), count in seeds.items()
    ]
    return table(header, lines)
