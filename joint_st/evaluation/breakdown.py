"""Error rates by what the source states about each utterance: speaker, language, duration, noise, or whether it is
synthetic.

A manifest states them with the keys `speaker`, `language`, `duration`, `noise` (the name of the noise or of the
recording's condition), `snr` (signal-to-noise ratio in dB) and `synthetic` (whether a machine speaks), a TFDS dataset
with features of the same names; the duration is that of the audio. Every group has the subsets of words heard in
training and in text alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from rich import box
from rich.table import Table

from joint_st.evaluation.bootstrap import UTTERANCES
from joint_st.evaluation.rates import make_rows
from joint_st.evaluation.report import ScoredUtterance, about_few, between, percent
from joint_st.evaluation.wer import ALL
from joint_st.tables import escape

SNR_STEP = 5
"""Width in dB of the bins of signal-to-noise ratios; what lies outside -10..30 dB is in the two outer bins."""

DURATION_DECIMALS = (1, 2, 3)
"""Decimals with which durations are printed in seconds: the fewest with which the quartiles of a split differ."""

UNSTATED = "not stated"
"""Name of the group of utterances whose source does not state it, although it does so for others."""


class _Group(NamedTuple):
    """A group: its rank among the others, and its name."""

    place: tuple
    name: str


def break_down(
    utterances: Sequence[ScoredUtterance],
    by: str,
    *,
    normalizer: str,
    step: int,
    samples: int = 1000,
    seed: int = 0,
    draw: str = UTTERANCES,
) -> list[dict]:
    """Return the rows of `make_rows` for every group of utterances, each with `by` and `group` before the rest.

    by: one of `BY`. `duration` makes four groups of about as many utterances of each split (its quartiles), or fewer
    where quartiles are less than a millisecond apart; `noise` groups by the condition's name and by bins of the
    signal-to-noise ratio, as far as they are stated; `synthetic` makes the groups `real` and `synthetic` of a split that
    has synthetic utterances. Groups are sorted (names by the alphabet, numbers ascending) within each split, head and
    decoder. A split whose source states it for no utterance has no rows: see `unstated`.
    """
    groups = _groups(utterances, by)
    stated = {utterance.split for utterance, group in zip(utterances, groups) if group}
    tables: dict[tuple, dict[_Group, list]] = defaultdict(lambda: defaultdict(list))
    for utterance, group in zip(utterances, groups):
        if utterance.split in stated:
            table = tables[utterance.split, utterance.head, utterance.decoder]
            table[group or _Group((1,), UNSTATED)].append(utterance)
    return [
        {"by": by, "group": group.name, **row}
        for table in tables.values()
        for group in sorted(table)
        for row in make_rows(table[group], normalizer=normalizer, step=step, samples=samples, seed=seed, draw=draw)
    ]


def unstated(utterances: Sequence[ScoredUtterance], by: str) -> dict[str, tuple[int, int]]:
    """Return, by split, the number of utterances for which the source does not state it, and the number of all.

    Splits whose source states it for all utterances are left out.
    """
    missing, total = defaultdict(int), defaultdict(int)
    once = {id(utterance) for utterance in _once(utterances)}
    for utterance, group in zip(utterances, _groups(utterances, by)):
        if id(utterance) in once:
            total[utterance.split] += 1
            missing[utterance.split] += group is None
    return {split: (count, total[split]) for split, count in missing.items() if count}


def explain_unstated(utterances: Sequence[ScoredUtterance], by: str) -> list[str]:
    """Return a line for each split whose source does not state it, or not for all utterances."""
    keys = " or ".join(f"`{key}`" for key in _KEYS[by])
    lines = []
    for split, (missing, total) in unstated(utterances, by).items():
        if missing == total:
            lines.append(f"{split}: no table by {by}: its source does not state it (manifest key, TFDS feature {keys})")
        else:
            lines.append(f"{split}: {by} is not stated for {missing} of {total} utterances ({keys})")
    return lines


def make_breakdown_table(rows: Sequence[dict], by: str) -> Table:
    """Return the rows of `break_down`, in their order, as a table for `rich.print`: a line a group, its subsets' WER (per
    cent) in columns. The caption says where there are too few utterances for an interval."""
    shared = [name for name in ("run", "split", "head", "decoder", "step") if len({row.get(name) for row in rows}) == 1]
    names = [name for name in ("run", "split", "head", "decoder", "step") if name not in shared]
    subsets = sorted({row["subset"] for row in rows} - {ALL})
    table = Table(
        title=f"by {_TITLES[by]}",
        title_justify="left",
        caption="\n".join(about_few(row for row in rows if row["subset"] == ALL)) or None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
    )
    for name in (*names, by):
        table.add_column(name, overflow="fold")
    for name in ("WER %", "95 %", *(f"{subset} %" for subset in subsets), "CER %", "words", "utts"):
        table.add_column(name, justify="right", no_wrap=True)
    lines: list[dict[str, dict]] = []
    for row in rows:
        if row["subset"] == ALL:  # the first row of each group; two groups may have one name
            lines.append({})
        lines[-1][row["subset"]] = row
    for found in lines:
        row = found[ALL]
        table.add_row(
            *(escape(str(row[name])) for name in (*names, "group")),
            percent(row["wer"]),
            between(row["wer_low"], row["wer_high"]),
            *(percent(found[subset]["wer"]) if subset in found else "-" for subset in subsets),
            percent(row["cer"]),
            str(row["words"]),
            str(row["utterances"]),
        )
    return table


def _groups(utterances: Sequence[ScoredUtterance], by: str) -> list[_Group | None]:
    """Return the group of each utterance; None where its source does not state it."""
    of_split = defaultdict(list)
    for utterance in utterances:
        of_split[utterance.split].append(utterance)
    group_of = {split: BY[by](own) for split, own in of_split.items()}
    return [group_of[utterance.split](utterance) for utterance in utterances]


def _once(utterances: Sequence[ScoredUtterance]) -> list[ScoredUtterance]:
    """Return each utterance once, even if several heads and decoders have decoded it."""
    first: dict[str, tuple[str, str]] = {}
    for utterance in utterances:
        first.setdefault(utterance.split, (utterance.head, utterance.decoder))
    return [one for one in utterances if (one.head, one.decoder) == first[one.split]]


def _by_name(attribute: str):
    def make(utterances):
        def group(utterance):
            name = getattr(utterance, attribute)
            return _Group((0, name), name) if name else None

        return group

    return make


def _by_duration(utterances):
    seconds = [utterance.seconds for utterance in _once(utterances)]
    if not seconds:
        return lambda utterance: None
    quartiles = np.quantile(seconds, [0, 0.25, 0.5, 0.75, 1])
    # If many utterances are equally long, quartiles coincide, and there are fewer groups; the same holds for quartiles that
    # look alike in ms.
    printed = ({f"{edge:.{decimals}f}": edge for edge in quartiles} for decimals in DURATION_DECIMALS)
    edges = max(printed, key=len)  # of several, the first: the one with the fewest decimals
    names, inner = list(edges), list(edges.values())[1:-1]

    def group(utterance):
        k = int(np.searchsorted(inner, utterance.seconds, side="left"))
        return _Group((0, k), f"{names[k]}-{names[min(k + 1, len(names) - 1)]} s")

    return group


def _by_noise(utterances):
    def group(utterance):
        if utterance.snr is None:
            return _Group((0, utterance.noise, 0), utterance.noise) if utterance.noise else None
        low = int(np.clip(np.floor(utterance.snr / SNR_STEP) * SNR_STEP, -10 - SNR_STEP, 30))
        name = f"{low} to {low + SNR_STEP} dB"
        if low < -10:
            name = "below -10 dB"
        elif low == 30:
            name = "from 30 dB"
        return _Group((0, utterance.noise, low), f"{utterance.noise} {name}".strip())

    return group


def _by_synthetic(utterances):
    stated = any(utterance.synthetic for utterance in utterances)

    def group(utterance):
        return _Group((utterance.synthetic,), "synthetic" if utterance.synthetic else "real") if stated else None

    return group


BY: dict[str, Callable] = {
    "speaker": _by_name("speaker"),
    "language": _by_name("language"),
    "duration": _by_duration,
    "noise": _by_noise,
    "synthetic": _by_synthetic,
}
"""Criteria of breakdowns: functions from the utterances of a split to the group of each."""

_KEYS = {name: (name,) for name in BY} | {"noise": ("noise", "snr")}

_TITLES = {name: name for name in BY} | {"duration": "duration (quartiles of each split's utterances)"}
