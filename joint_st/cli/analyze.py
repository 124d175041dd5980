"""`joint-st analyze`."""

from __future__ import annotations

import argparse

from joint_st.cli.options import quiet_libraries, read_sources, run_arguments
from joint_st.cli.parser import Commands, count, output_file


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    analyze = commands.add(
        "analyze",
        "compare speech and text in every layer of a run's checkpoint",
        """
        joint-st analyze runs/quickstart
        joint-st analyze runs/quickstart --data mine=corpus/test.jsonl --utterances 500 --json layers.json
        """,
    )
    run_arguments(analyze)
    analyze.add_argument(
        "--data",
        metavar="NAME=SOURCE",
        help="utterances to analyze instead of the config's first test split: a manifest, or tfds:NAME:SPLIT",
    )
    analyze.add_argument(
        "--utterances",
        metavar="N",
        type=count,
        default=200,
        help="largest number of utterances to analyze; %(default)s by default",
    )
    analyze.add_argument("--json", metavar="FILE", type=output_file, help="write the table as a list of rows")
    analyze.set_defaults(run=_analyze)


def _analyze(options: argparse.Namespace) -> None:
    from joint_st.runs.directory import existing_run

    existing_run(options.directory)
    data = read_sources([options.data] if options.data else [])
    quiet_libraries()
    from joint_st.analysis.analyze import analyze_run

    analyze_run(
        options.directory,
        data=data,
        checkpoint=options.checkpoint,
        utterances=options.utterances,
        json_file=options.json,
    )
