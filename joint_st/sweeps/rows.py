"""The rows of a sweep's table, as `collect` makes them: what is called how, and which belong together."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from joint_st.evaluation.wer import ALL
from joint_st.passes import FULL_CONTEXT, STREAMING

HEADS = {FULL_CONTEXT: "", STREAMING: f"{STREAMING}_"}
"""The heads by their passes, and what the names of their rates begin with."""


def name_of(quantity: str, head: str, subset: str) -> str:
    """The name of a head's quantity on a subset of the words: `wer`, `wer_heard`, `streaming_wer_heard`."""
    return f"{HEADS[head]}{quantity}" if subset == ALL else f"{HEADS[head]}{quantity}_{subset}"


def change_of(row: dict, reference: str, head: str, subset: str) -> dict[str, float] | None:
    """The change of a rate relative to that of an arm of reference, with its interval; None where there is none."""
    return row["relative_to"][reference].get(change_key(head, subset))


def change_key(head: str, subset: str) -> str:
    """The key of a rate's change in `relative_to`: `all`, `heard`, `streaming_heard`."""
    return f"{HEADS[head]}{subset}"


def by_split(rows: Sequence[dict]) -> Iterator[list[dict]]:
    """Rows by split and decoder."""
    for key in dict.fromkeys((row["split"], row["decoder"]) for row in rows):
        yield [row for row in rows if (row["split"], row["decoder"]) == key]


def subsets_of(rows: Sequence[dict]) -> list[str]:
    """Subsets of the words that some row has, all words first."""
    names = dict.fromkeys(name for row in rows for name in row if name.startswith("words_"))
    return [ALL, *(name.removeprefix("words_") for name in names)]


def references_of(rows: Sequence[dict]) -> list[str]:
    """Arms that some row is compared with."""
    return list(dict.fromkeys(name for row in rows for name in row["relative_to"]))


def title_of(rows: Sequence[dict]) -> str:
    """What rows of one split and decoder share."""
    row = rows[0]
    counts = sorted({len(row["seeds"]) for row in rows})
    seeds = f"{counts[0]} seed{'s' * (counts[0] > 1)}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    what = f"{row['split']}, {row['utterances']} utterances, {seeds}, 95 % over both"
    return f"{what}; decoder {row['decoder']}, normalizer {row['normalizer']}"


def words_of(subset: str) -> str:
    """A subset in print."""
    return "all words" if subset == ALL else subset.replace("_", " ")


def value_of(value: Any) -> str:
    """The value of a field in print; nothing for one that is not there."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
