"""How far a run of a sweep is, from what is on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from joint_st.config import load
from joint_st.errors import UserError
from joint_st.runs.directory import check_same
from joint_st.sweeps.launchers import submission
from joint_st.sweeps.locks import is_locked
from joint_st.sweeps.sweep import Job


@dataclass(frozen=True)
class State:
    """How far a run is."""

    steps: int
    """Steps of its latest complete checkpoint; 0 where there is none."""
    evaluation: Path | None
    """The table of its best checkpoint on the config's test splits, once it is finished."""
    conflict: str = ""
    """Why it cannot go on: what is on disk was trained with another config."""

    @property
    def finished(self) -> bool:
        return self.evaluation is not None


def look(job: Job) -> State:
    """The state of a job's directory.

    Finished is a run that has a complete checkpoint of its config's last step (or a later one), and beside it the
    table and the utterances of its best checkpoint on the config's test splits, evaluated from the same sources.
    """
    run, steps = job.directory, job.directory.checkpoint_steps
    if not steps or not run.config.is_file():
        return State(0, None)
    try:
        check_same(run, job.config)
    except UserError as error:
        return State(steps[-1], None, str(error))
    if steps[-1] < job.config.training.steps or load(run.config).data.test != job.config.data.test:
        return State(steps[-1], None)
    tables = [run.evaluation(step, job.config.data.test) for step in run.best_steps()]
    # Written in this order, each as a whole.
    whole = [table for table in tables if table.is_file() and table.with_suffix(".jsonl").is_file()]
    return State(steps[-1], whole[0] if whole else None)


def describe(job: Job) -> str:
    """The state of a job in a few words."""
    state = look(job)
    if state.conflict:
        return "another config"
    if state.finished:
        return "finished"
    if is_locked(job.lock):
        return f"running, step {state.steps} saved"
    if known := submission(job):
        return f"{known}, step {state.steps} saved"
    if job.failure.exists():
        return f"failed, step {state.steps} saved"
    if not state.steps:
        return "to do"
    if state.steps >= job.config.training.steps:
        return "to evaluate"
    return f"step {state.steps} of {job.config.training.steps}"


def check_conflicts(jobs: tuple[Job, ...]) -> None:
    """Raises `UserError` for the first run that was trained with another config than the sweep file now gives it."""
    for job in jobs:
        if conflict := look(job).conflict:
            raise UserError(f"{job.name}: {conflict}")
