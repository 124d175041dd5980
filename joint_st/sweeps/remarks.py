"""What a table of a sweep should say of its runs: in what they were trained otherwise than its arms say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from joint_st.config import load
from joint_st.runs.directory import read_facts
from joint_st.runs.starts import other_schedules
from joint_st.sweeps.sweep import Job


def remarks(jobs: Sequence[Job]) -> Iterator[str]:
    """Yield a line for each way in which finished runs of a sweep were trained otherwise than their configs say, or than
    one another."""
    stretched = {job.name: other_schedules(job.directory, job.config.training.steps) for job in jobs}
    if named := [f"{name} ({', '.join(map(str, found))})" for name, found in stretched.items() if found]:
        yield f"trained in part under another training.steps, so that their learning rate fell otherwise: {', '.join(named)}"
    evaluated = {job.name: load(job.directory.config).training.evaluate_every for job in jobs}
    if named := [
        f"{job.name} (every {evaluated[job.name]} steps)"
        for job in jobs
        if job.config.data.dev and evaluated[job.name] != job.config.training.evaluate_every
    ]:
        yield f"their best checkpoint was chosen under another training.evaluate_every: {', '.join(named)}"
    for (other, _), taken in _origins(jobs).items():
        if len(taken) > 1:
            named = [f"{place} by {', '.join(names)}" for place, names in taken.items()]
            yield f"training.init.run {other}: different weights were taken from it, {'; '.join(named)}"


def _origins(jobs: Sequence[Job]) -> dict[tuple[str, str], dict[str, list[str]]]:
    """Return by the run and the checkpoint of `training.init`, then by what was taken there, the names of the runs that
    took it."""
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for job in jobs:
        init, run = job.config.training.init, job.directory
        origin = read_facts(run.checkpoints / str(run.checkpoint_steps[-1])).get("init") if init.run else None
        if origin:
            place = f"step {origin.get('step')} of {origin.get('run')}"
            found.setdefault((init.run, init.checkpoint), {}).setdefault(place, []).append(job.name)
    return found
