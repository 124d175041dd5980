"""Scores what was recognised of a dataset, and says what could not be read."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

from joint_st.data.dataset import Dataset
from joint_st.decoding.recognise import Recognised
from joint_st.errors import Stalled, UserError
from joint_st.evaluation.confidences import Heard
from joint_st.evaluation.report import ScoredUtterance, score
from joint_st.passes import PASSES
from joint_st.runs.trained import Trained


def score_recognised(found, dataset: Dataset, split: str, trained: Trained | None = None) -> list[ScoredUtterance]:
    """Score hypotheses of each decoder and head against the transcripts of a dataset, in the dataset's order.

    With a trained model, errors are also counted by whether their words were heard in training or occurred in text
    only.
    """
    found = sorted(found, key=lambda one: one.index)
    entries = [dataset.entry(one.index) for one in found]
    references = [dataset.normalizer(entry.text) for entry in entries]
    seconds = [one.seconds for one in found]
    subset_of = trained.vocabulary.subset_of if trained else None
    by_decoder = found[0].hypotheses if found else {}
    scored = []
    for head, decoder in sorted(
        ((head, decoder) for decoder, by_head in by_decoder.items() for head in by_head),
        key=lambda pair: PASSES.index(pair[0]),
    ):
        heard = [one.hypotheses[decoder][head] for one in found]
        details = []
        if heard and isinstance(heard[0], Heard):
            heard, details = zip(*(one.normalised(dataset.normalizer) for one in heard))
        else:
            heard = [dataset.normalizer(text) for text in heard]
        own = score(
            [entry.id for entry in entries],
            references,
            heard,
            seconds,
            split=split,
            head=head,
            decoder=decoder,
            subset_of=subset_of,
            entries=entries,
            samples=[(dataset.hashes or {}).get(one.index, "") for one in found],
        )
        scored += [one.with_details(**more) for one, more in zip(own, details)] if details else own
    return scored


MOST_LOST = 0.01
"""Share of a development set that may be unreadable for once: it moves a rate less than chance does."""


def check_read(found: Sequence[Recognised], before: frozenset[int], dataset: Dataset, name: str) -> frozenset[int]:
    """Return which utterances of a development set could be read so far. before: those that earlier evaluations could read.

    Raises `Stalled` where more than `MOST_LOST` of them are missing, since the error rates of different utterances rank no
    checkpoints, and `UserError` where nothing could be read.
    """
    read = frozenset(one.index for one in found)
    lost = sorted(before - read)
    if len(lost) > MOST_LOST * len(before):
        why = next(iter(dataset.unreadable.values()), "on another host")
        raise Stalled(
            f"data.{name}: {len(lost)} of the utterances of an earlier evaluation cannot be read now, such as "
            f"{dataset.id(lost[0])} ({why}); look at the disk, or the bucket, that holds them; the same command goes on from "
            "the last checkpoint"
        )
    if not found:
        raise UserError(f"data.{nothing_read(name, dataset)}")
    return before | read


def nothing_read(name: str, dataset: Dataset) -> str:
    """Return a line that says that none of a split's utterances could be read, and why one could not."""
    why = f" ({next(iter(dataset.unreadable.values()))})" if dataset.unreadable else ""
    return f"{name}: nothing was scored: none of its {len(dataset)} utterances can be read{why}; correct the source"


def report_unread(name: str, dataset: Dataset, unreadable: int) -> None:
    """Print which utterances of a split were not scored, and why. `unreadable`: those of all hosts."""
    counts = Counter(dataset.dropped) + Counter(unreadable=unreadable)
    if counts:
        why = ", ".join(f"{count} {reason}" for reason, count in counts.items())
        print(f"{name}: not scored: {why}", file=sys.stderr)
