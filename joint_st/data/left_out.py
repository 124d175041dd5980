"""Which rows a data set leaves out, and what is said of it."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np

from joint_st.data.index import PROBLEM, Entries
from joint_st.distributed.peers import current
from joint_st.errors import UserError

log = logging.getLogger(__name__)

NAMED = 10
"""Number of unreadable utterances that are named in warnings; all are counted."""

MUCH = 0.25
"""Share of the units or seconds of a data set from which on a warning says that a bound leaves them out."""


def kept_rows(
    reasons: Sequence[tuple[str, np.ndarray]], count: int, *, in_order: bool = False
) -> tuple[np.ndarray, dict[str, int]]:
    """Return the rows that are kept, int64, and how many rows each reason leaves out; the first reason of a row counts.

    Reasons are sorted by the first row that each leaves out, or `in_order` as they are given.
    """
    left, found = np.ones(count, bool), []
    for name, applies in reasons:
        applies = applies & left
        if applies.any():
            found.append((int(applies.argmax()), name, int(np.count_nonzero(applies))))
        left &= ~applies
    return np.flatnonzero(left), {name: number for _, name, number in (found if in_order else sorted(found))}


def counted(dropped: dict[str, int]) -> str:
    """Return the numbers of rows that were left out, in one line."""
    return ", ".join(f"{count} {reason}" for reason, count in dropped.items())


def tell_problems(entries: Sequence[Entries], strict: bool) -> None:
    """Warn about the first utterances that are known to be unreadable; raise `UserError` where the config is strict."""
    told = 0
    for one in entries:
        for row in np.flatnonzero(one.flags & PROBLEM):
            entry = one.entry(int(row))
            if strict:
                raise UserError(f"{entry.problem}; fix it, take {entry.id} out of the data or unset data.strict")
            if entry.has_audio and current().is_first:
                log.warning("left out %s: %s", entry.id, entry.problem)
                told += 1
            if told == NAMED:
                return


def tell_too_long(field: str, lengths: np.ndarray, most: float, what: str) -> None:
    """Warn where a bound leaves out a good part of the data, and say which bound would keep nearly all of it.

    field: the bound's field of the config. lengths: of all rows [N], in units of which the config's text speaks as
    `what`. Long rows are few but hold much, so that the number of rows tells too little.
    """
    if not current().is_first:
        return
    total = lengths.sum(dtype=np.float64)
    share = lengths[lengths > most].sum(dtype=np.float64) / total if total else 0.0
    if share < MUCH:
        return
    in_order = np.sort(lengths)
    enough = in_order[np.searchsorted(np.cumsum(in_order, dtype=np.float64), 0.99 * total)]
    log.warning(
        "%s=%g leaves out the longest %d of %d, with %.0f %% of all %s; %d would leave out no more than 1 %%",
        field,
        most,
        np.count_nonzero(lengths > most),
        len(lengths),
        100 * share,
        what,
        math.ceil(enough),
    )
