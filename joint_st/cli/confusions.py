"""`joint-st confusions`."""

from __future__ import annotations

import argparse

from joint_st.cli.options import quiet_libraries, read_sources, run_arguments
from joint_st.cli.parser import Commands, output_file


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    confusions = commands.add(
        "confusions",
        "count which text units (phonemes) a run's checkpoint recognises as which others",
        """
        joint-st confusions runs/quickstart
        joint-st confusions runs/quickstart --data mine=corpus/dev.jsonl --output mine.json
        """,
    )
    run_arguments(confusions)
    confusions.add_argument(
        "--data",
        metavar="NAME=SOURCE",
        help="utterances to count on instead of the config's dev set: a manifest, or tfds:NAME:SPLIT",
    )
    confusions.add_argument(
        "--output",
        metavar="FILE",
        type=output_file,
        help="file of the counts, for `text.confusions` of a config; confusions.json in the run by default",
    )
    confusions.set_defaults(run=_confusions)


def _confusions(options: argparse.Namespace) -> None:
    from joint_st.runs.directory import existing_run

    existing_run(options.directory)
    data = read_sources([options.data] if options.data else [])
    quiet_libraries()
    from joint_st.analysis.confusions import measure_confusions

    measure_confusions(options.directory, data=data, checkpoint=options.checkpoint, output=options.output)
