"""Which words are mistaken for which, and which are missed most often."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from rich import box
from rich.table import Table

from joint_st.evaluation.report import ScoredUtterance, percent
from joint_st.evaluation.wer import INSERT, SUBSTITUTE, Op
from joint_st.tables import escape

SHOWN = 15
"""Number of rows in a printed table."""


def confusions(utterances: Iterable[ScoredUtterance]) -> list[dict]:
    """Return rows `reference`, `hypothesis`, `count`: which word was recognised as which other, the most frequent
    first."""
    pairs = Counter((op.reference, op.hypothesis) for op in _ops(utterances) if op.kind == SUBSTITUTE)
    return [
        {"reference": said, "hypothesis": heard, "count": count}
        for (said, heard), count in sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    ]


def missed_words(utterances: Iterable[ScoredUtterance]) -> list[dict]:
    """Return rows `word`, `missed`, `count`, `rate` of reference words that were missed, the most often missed first.

    missed: how often it was substituted or deleted. count: how often it was said. rate: their ratio.
    """
    missed, said = Counter(), Counter()
    for op in _ops(utterances):
        if op.kind != INSERT:
            said[op.reference] += 1
            missed[op.reference] += op.reference != op.hypothesis
    return [
        {"word": word, "missed": count, "count": said[word], "rate": count / said[word]}
        for word, count in sorted(missed.items(), key=lambda item: (-item[1], said[item[0]], item[0]))
        if count
    ]


def word_errors(utterances: Iterable[ScoredUtterance]) -> dict[str, list[dict]]:
    """Return `confusions` and `missed_words`, each row with its `split`, `head` and `decoder` before the rest."""
    groups = defaultdict(list)
    for utterance in utterances:
        groups[utterance.split, utterance.head, utterance.decoder].append(utterance)
    found: dict[str, list[dict]] = {"confusions": [], "missed_words": []}
    for (split, head, decoder), group in groups.items():
        key = {"split": split, "head": head, "decoder": decoder}
        found["confusions"] += [{**key, **row} for row in confusions(group)]
        found["missed_words"] += [{**key, **row} for row in missed_words(group)]
    return found


def make_word_error_tables(found: dict[str, Sequence[dict]], shown: int = SHOWN) -> list[Table]:
    """Yield tables for `rich.print`: the first confusions and most-missed words of each split, head and decoder."""
    tables = []
    for name, columns, title in (
        ("confusions", ("reference", "hypothesis", "count"), "confusions"),
        ("missed_words", ("word", "missed", "count", "rate"), "most-missed words"),
    ):
        groups = defaultdict(list)
        for row in found[name]:
            groups[row["split"], row["head"], row["decoder"]].append(row)
        for group, rows in groups.items():
            more = f", {shown} of {len(rows)}" if len(rows) > shown else ""
            heading = f"{title}: {', '.join(group)}{more}"
            # As wide as its title, which would be wrapped otherwise.
            table = Table(
                title=escape(heading), title_justify="left", box=box.SIMPLE_HEAD, padding=0, min_width=len(heading) + 2
            )
            for column in columns:
                justify = "right" if column in ("missed", "count", "rate") else "left"
                table.add_column("rate %" if column == "rate" else column, justify=justify)
            for row in rows[:shown]:
                table.add_row(*(percent(row[c]) if c == "rate" else escape(str(row[c])) for c in columns))
            tables.append(table)
    return tables


def _ops(utterances: Iterable[ScoredUtterance]) -> Iterable[Op]:
    return (op for utterance in utterances for op in utterance.ops)
