"""Recognised utterances of a split in a run's evaluations, and which of them the page has audio of."""

from __future__ import annotations

from collections.abc import Sequence

from joint_st.evaluation.breakdown import BY, UNSTATED
from joint_st.evaluation.report import ScoredUtterance, stored_utterances
from joint_st.passes import PASSES
from joint_st.runs.directory import RunDirectory

LETTERS = {"equal": "=", "substitute": "s", "delete": "d", "insert": "i"}
"""Letter for each kind of step in the alignment of reference and hypothesis."""


def split_utterances(run: RunDirectory, step: int, split: str, decoder: str) -> list[ScoredUtterance]:
    """Return the utterances of a split as `decoder` recognised them with the checkpoint of `step`, head by head.

    There are none unless the run's evaluations have them of both heads.
    """
    keys = [(split, name, decoder) for name in PASSES]
    found = stored_utterances(run, step, keys)
    return [one for key in keys for one in found[key]] if len(found) == len(keys) else []


def utterance_facts(scored: Sequence[ScoredUtterance]) -> list[dict]:
    """Return a record for each utterance of a split, in its order.

    `groups` has, by the keys of `BY`, the group that `break_down` counts it in; `heads` has each head's `hypothesis`
    with its `edits`, a letter of `LETTERS` for each step from the reference's words to the hypothesis's.
    """
    group_of = {by: make(scored) for by, make in BY.items()}
    facts: dict[str, dict] = {}
    for one in scored:
        found = {by: group(one) for by, group in group_of.items()}
        own = facts.setdefault(
            one.id,
            {
                "id": one.id,
                "seconds": round(one.seconds, 3),
                "groups": {by: group.name if group else UNSTATED for by, group in found.items()},
                "reference": one.reference,
                "heads": {},
            },
        )
        edits = "".join(LETTERS[op.kind] for op in one.ops)
        own["heads"][one.head] = {"hypothesis": one.hypothesis, "edits": edits}
    stated = {by for by in BY if any(one["groups"][by] != UNSTATED for one in facts.values())}
    for own in facts.values():
        own["groups"] = {by: group for by, group in own["groups"].items() if by in stated}
    return list(facts.values())


def choose(errors: Sequence[int], most: int) -> list[int]:
    """Return the numbers of up to `most` utterances that have audio, the most telling first.

    It takes in turn the one with the most errors, and one of those evenly spread over all. errors: [N], of each
    utterance.
    """
    count = len(errors)
    worst = sorted(range(count), key=lambda n: -errors[n])
    even = [round(k * (count - 1) / max(most - 1, 1)) for k in range(min(most, count))]
    in_turn = [n for pair in zip(worst, even) for n in pair]
    return list(dict.fromkeys([*in_turn, *worst]))[:most]
