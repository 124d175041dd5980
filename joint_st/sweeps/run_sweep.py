"""`joint-st sweep`: train the runs of a sweep, or list them, show how far they are, and print their table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import rich

from joint_st import storage
from joint_st.errors import UserError
from joint_st.evaluation.bootstrap import UTTERANCES
from joint_st.evaluation.report import write_output_rows
from joint_st.sweeps.collect import collect
from joint_st.sweeps.remarks import remarks
from joint_st.sweeps.runner import Command, Outcome, log, run_jobs, train_command
from joint_st.sweeps.status import check_conflicts, look, show_status, state_in_words
from joint_st.sweeps.sweep import Job, Sweep, load_sweep
from joint_st.sweeps.table import make_csv, make_markdown, make_tables

EXIT_FAILED = 1


def run_sweep(
    file: Path,
    *,
    workdir: Path | str | None = None,
    only: Sequence[str] = (),
    workers: int = 1,
    dry_run: bool = False,
    status: bool = False,
    collect_only: bool = False,
    resubmit: bool = False,
    json_file: Path | None = None,
    markdown_file: Path | None = None,
    csv_file: Path | None = None,
    plot_file: Path | None = None,
    draw: str = UTTERANCES,
    command: Command = train_command,
) -> int:
    """Train the runs that are not finished, print the table of those that are, and return the exit status: 0 where none
    failed.

    Raises `UserError` where the table cannot be made; where runs failed too, that is only printed. Runs that failed are
    named in any case.

    dry_run, status, collect_only: instead list the runs, show how far they are, or print the table only. resubmit,
    command: passed to `run_jobs`. draw: see `rows_of`.
    """
    tables = json_file, markdown_file, csv_file, plot_file
    if (dry_run or status) and (any(tables) or draw != UTTERANCES):
        option = "--dry-run" if dry_run else "--status"
        raise UserError(f"{option}: prints a list and makes no table; write one by --collect")
    found = load_sweep(file, workdir)
    jobs = found.only(only)
    if dry_run:
        list_runs(found, jobs)
        return 0
    if status:
        show_status(found, jobs)
        return 0
    check_conflicts(jobs)
    outcome = Outcome()
    if not collect_only:
        if found.here != found.directory:
            log(f"{found.directory}: logs and locks are in {found.here}, which a sweep on another machine cannot see")
        outcome = run_jobs(jobs, workers=workers, command=command, resubmit=resubmit)
    if outcome.signal:
        _report(outcome)
        return 128 + outcome.signal
    try:
        if collect_only or any(look(job).finished for job in jobs):
            print_table(found, only, json_file, markdown_file, csv_file, plot_file, draw)
    except UserError as error:
        if not outcome.failed:
            raise
        log(f"no table: {error}")
    finally:
        _report(outcome)
    return EXIT_FAILED if outcome.failed else 0


def list_runs(found: Sweep, jobs: Sequence[Job]) -> None:
    """Print jobs of a sweep with their state and what each of them overrides."""
    states = [state_in_words(job) for job in jobs]
    name_width, state_width = max(len(job.name) for job in jobs), max(map(len, states))
    print(f"{len(jobs)} runs of {jobs[0].base} in {found.directory}" + (f": {found.summary}" if found.summary else ""))
    for job, state in zip(jobs, states, strict=True):
        values = " ".join(f"{path}={value}" for path, value in job.values.items() if path not in ("name", "seed"))
        print(f"  {job.name:<{name_width}}  {state:<{state_width}}  {values}".rstrip())


def print_table(
    found: Sweep,
    only: Sequence[str],
    json_file: Path | None = None,
    markdown_file: Path | None = None,
    csv_file: Path | None = None,
    plot_file: Path | None = None,
    draw: str = UTTERANCES,
) -> None:
    """Print the table of the finished runs, write and draw it where asked, and print which runs are missing in it,
    and which were trained otherwise than it says.

    only: names of arms, or of runs, whose rows it has; of an arm of reference that is not among them, all runs are
    compared with.
    """
    wanted = found.only(only)
    arms = {job.run.arm for job in wanted}
    others = [job for job in found.jobs if job.run.arm in set(found.references) - arms]
    jobs = [job for job in found.jobs if job in wanted or job in others]
    tables = [(job, table) for job in jobs if (table := look(job).evaluation)]
    there = {job.name for job, _ in tables}
    if there.isdisjoint(job.name for job in wanted):
        raise UserError(
            f"{found.directory}: no run of {found.file} is finished" + (" among those of --only" if only else "")
        )
    if missing := [job.name for job in jobs if job.name not in there]:
        log(f"not finished, so not in the table: {', '.join(missing)}")
    for line in remarks([job for job, _ in tables]):
        log(line)
    rows = collect(tables, arms=arms, references=found.references, draw=draw)
    if json_file:
        write_output_rows(rows, json_file)
    for file, make in ((markdown_file, make_markdown), (csv_file, make_csv)):
        if file:
            storage.write_output(file, make(rows))
    if plot_file:
        from joint_st.sweeps.plot import save_plot  # imports Matplotlib, which takes a while

        save_plot(rows, plot_file)
    for table in make_tables(rows):
        rich.print(table)


def _report(outcome: Outcome) -> None:
    if outcome.left:
        log(f"{_runs(outcome.left)} not finished; the same command continues")
    if outcome.elsewhere:
        names = ", ".join(job.name for job in outcome.elsewhere)
        log(f"{_runs(outcome.elsewhere)} trained by another process: {names}")
    if outcome.submitted:
        names = ", ".join(job.name for job in outcome.submitted)
        log(f"{_runs(outcome.submitted)} submitted: {names}; --status shows how far they are")
    if outcome.failed:
        log(f"{_runs(outcome.failed)} failed; the same command starts them again:")
    for job, problem in outcome.failed:
        log(f"  {job.name}: {problem}\n    log: {job.log}")


def _runs(items: Sequence) -> str:
    return f"{len(items)} run{'s' * (len(items) != 1)}"
