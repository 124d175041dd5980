"""`joint-st sweep`."""

from __future__ import annotations

import argparse

from joint_st.cli.options import draw_argument
from joint_st.cli.parser import Commands, count, folder, local_input, output_file
from joint_st.errors import UserError


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    sweep = commands.add(
        "sweep",
        "train the unfinished runs of a sweep, and compare them",
        """
        joint-st sweep configs/sweeps/text_injection.py --dry-run
        joint-st sweep configs/sweeps/text_injection.py --workers 2
        joint-st sweep configs/sweeps/text_injection.py --status
        joint-st sweep configs/sweeps/text_injection.py --collect --csv table.csv --plot table.png
        joint-st sweep configs/sweeps/text_injection.py --launcher slurm -- --name ti-{run} --nodes 1 --time 4:00:00
        """,
    )
    sweep.add_argument("file", metavar="FILE", type=local_input, help="a Python file that defines BASE and runs()")
    sweep.add_argument(
        "--workdir",
        metavar="DIR",
        type=folder,
        help="`runs/sweeps/NAME` by default, NAME from the file; with gs://BUCKET/FOLDER, logs and locks are in "
        "`runs/sweeps/BUCKET/FOLDER`, which a sweep on another machine cannot see",
    )
    sweep.add_argument(
        "--only",
        metavar="ARM",
        nargs="+",
        action="extend",
        default=[],
        help="take only the runs of these arms, or these runs (ARM/seed_N)",
    )
    sweep.add_argument(
        "--workers",
        metavar="N",
        type=count,
        default=1,
        help="number of runs trained at the same time; %(default)s by default",
    )
    sweep.add_argument(
        "--launcher",
        metavar="SCRIPT",
        help="start each run through a script of launch/ (local, slurm, tpu-vm, gke, sky) or any other one (its path), "
        "which gets the options after `--`, with a name of the run for {run}, and then `-- joint-st train ...`; where it "
        "ends with status 0 before its run is finished, the run counts as submitted and is not started again",
    )
    sweep.add_argument(
        "--remote-workdir",
        metavar="DIR",
        default="",
        help="the sweep's directory as launched runs see it, if that is another path: gs://bucket/sweeps/one, for a "
        "bucket that is mounted here",
    )
    sweep.add_argument(
        "--resubmit",
        action="store_true",
        help="start submitted runs again that have written nothing for 10 minutes",
    )
    what = sweep.add_mutually_exclusive_group()
    what.add_argument("--dry-run", action="store_true", help="list the runs, their progress and their overrides")
    what.add_argument(
        "--status",
        action="store_true",
        help="show the progress of the runs; on a terminal, until all have ended or Ctrl-C",
    )
    what.add_argument("--collect", action="store_true", help="train nothing, and print the table of the finished runs")
    draw_argument(sweep)
    sweep.add_argument("--json", metavar="FILE", type=output_file, help="write the table as a list of rows")
    sweep.add_argument("--markdown", metavar="FILE", type=output_file, help="write the table in Markdown")
    sweep.add_argument("--csv", metavar="FILE", type=output_file, help="write the table as CSV")
    sweep.add_argument(
        "--plot",
        metavar="FILE",
        type=output_file,
        help="draw the error rates as PNG, over the number that the arms override, or by arm if that is not a number",
    )
    sweep.set_defaults(run=_sweep)


def _sweep(options: argparse.Namespace) -> None:
    from joint_st.sweeps.run_sweep import run_sweep

    more = {}
    if options.launcher:
        from joint_st.sweeps.launchers import find_launcher

        more["command"] = find_launcher(options.launcher, options.launcher_options, options.remote_workdir)
    elif options.launcher_options or options.remote_workdir:
        raise UserError("--remote-workdir and the options after `--` need a --launcher; name one")
    status = run_sweep(
        options.file,
        workdir=options.workdir,
        only=options.only,
        workers=options.workers,
        dry_run=options.dry_run,
        status=options.status,
        collect_only=options.collect,
        resubmit=options.resubmit,
        draw=options.draw,
        json_file=options.json,
        markdown_file=options.markdown,
        csv_file=options.csv,
        plot_file=options.plot,
        **more,
    )
    if status:
        raise SystemExit(status)
