"""One checkpoint for all processes of a job, each of which sees the files of a run from its own host.

Network file systems cache the lists of folders, so that hosts may see different checkpoints for some time. Process 0
chooses; the others wait until they see the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TypeVar

from joint_st.distributed.peers import Peers
from joint_st.distributed.preflight import SEEN_SECONDS
from joint_st.errors import UserError
from joint_st.runs.checkpoints import Checkpoints

Step = TypeVar("Step", bound=int | None)

CHOICE_SECONDS = 600
"""Time limit for process 0 to choose a checkpoint."""


def agreed_latest(checkpoints: Checkpoints, peers: Peers) -> int | None:
    """Return the step of the latest complete checkpoint, the same on all processes, or None.

    All must call it together. Raises `UserError`, which names the host, where another one is the latest there for
    `SEEN_SECONDS`, or where its files differ.
    """

    def problem(step: int | None) -> str:
        if (here := checkpoints.latest()) == step:
            return ""
        return (
            f"{checkpoints.directory}: the latest checkpoint is {_named(here)} there, {_named(step)} in {peers.name(0)}; "
            "start again when all hosts see the same files"
        )

    return _agreed(checkpoints, checkpoints.latest, problem, peers)


def agreed_choice(checkpoints: Checkpoints, which: str, peers: Peers) -> int:
    """Return the step of checkpoint `which` (`best`, `latest` or a step) that process 0 chooses, on all processes: a run
    that is still trained gets new checkpoints.

    All must call it together. Raises `UserError` where there is none, and one that names the host where that checkpoint
    does not appear within `SEEN_SECONDS`, or where its files differ.
    """

    def problem(step: int) -> str:
        if checkpoints.has(step):
            return ""
        return (
            f"{checkpoints.directory}: no checkpoint {step} there, which {peers.name(0)} has chosen; "
            "give all hosts the same run"
        )

    return _agreed(checkpoints, lambda: checkpoints.choose(which), problem, peers)


def _agreed(
    checkpoints: Checkpoints,
    choose: Callable[[], Step],
    problem: Callable[[Step], str],
    peers: Peers,
) -> Step:
    """Return on all processes the step that `choose` returns on process 0.

    problem: function of that step that says why this process cannot take it, as far as it sees now; empty where it can.
    """
    if not peers.several:
        return choose()

    def choice() -> str:
        step = choose()
        return json.dumps([step, _identity(checkpoints, step)])

    step, identity = json.loads(peers.share("choice of a checkpoint", choice, CHOICE_SECONDS))
    told = "" if peers.is_first else _when_seen(checkpoints, lambda: problem(step))
    if not told and _identity(checkpoints, step) != identity:
        told = (
            f"{checkpoints.directory / str(step)}: not the same files there as in {peers.name(0)}; "
            "give all hosts the same run"
        )
    answers = peers.gather("answer whether it sees the checkpoint", told, CHOICE_SECONDS + SEEN_SECONDS)
    for index, answer in enumerate(answers):
        if answer:
            raise UserError(f"{peers.name(index)}: {answer}")
    peers.wait("checkpoint found", 2 * (CHOICE_SECONDS + SEEN_SECONDS))
    return step


def _when_seen(checkpoints: Checkpoints, problem: Callable[[], str]) -> str:
    """Return an empty text once there is no problem, or the problem that is left after `SEEN_SECONDS`."""
    until = time.monotonic() + SEEN_SECONDS
    while told := problem():
        if time.monotonic() > until:
            return told
        time.sleep(0.2)
        checkpoints.look_again()
    return ""


def _identity(checkpoints: Checkpoints, step: int | None) -> str:
    return "" if step is None else checkpoints.identity(step)


def _named(step: int | None) -> str:
    return "none" if step is None else f"that of step {step}"
