"""`joint-st compare`."""

from __future__ import annotations

import argparse

from joint_st import storage
from joint_st.cli.options import (
    DECODERS,
    beam_arguments,
    checkpoints_argument,
    draw_argument,
    quiet_libraries,
    read_decoders,
    read_sources,
)
from joint_st.cli.parser import Commands, output_file
from joint_st.errors import UserError


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    compare = commands.add(
        "compare",
        "test whether one run's word error rate is lower than another's, on the same utterances",
        """
        joint-st compare runs/narrow runs/wide
        joint-st compare runs/narrow runs/wide --data mine=corpus/test.jsonl --decoder greedy beam
        joint-st compare runs/wide runs/wide --checkpoint 500 1000 --json difference.json
        joint-st compare runs/narrow runs/wide --draw speakers
        """,
    )
    compare.add_argument("run_a", metavar="RUN_A", type=storage.path, help="directory of a run")
    compare.add_argument(
        "run_b", metavar="RUN_B", type=storage.path, help="directory of another run, or of the same one"
    )
    checkpoints_argument(compare, "one for both runs, or one for A and one for B: ")
    compare.add_argument(
        "--data",
        metavar="NAME=SOURCE",
        nargs="+",
        action="extend",
        default=[],
        help="what to compare on instead of the configs' test splits: a manifest, or tfds:NAME:SPLIT",
    )
    compare.add_argument(
        "--decoder", choices=DECODERS, nargs="+", default=["greedy"], help="one or several decoders; greedy by default"
    )
    beam_arguments(compare)
    draw_argument(compare)
    compare.add_argument("--json", metavar="FILE", type=output_file, help="write the table as a list of rows")
    compare.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> None:
    from joint_st.runs.directory import existing_run

    for directory in (options.run_a, options.run_b):
        existing_run(directory)
    if len(options.checkpoint) > 2:
        raise UserError(f"--checkpoint {' '.join(options.checkpoint)}: give one for both runs, or one for each")
    data = read_sources(options.data)
    quiet_libraries()
    decoders = read_decoders(options.decoder, options)
    from joint_st.evaluation.compare import compare_runs

    compare_runs(
        options.run_a,
        options.run_b,
        checkpoints=(options.checkpoint[0], options.checkpoint[-1]),
        data=data,
        decoders=decoders,
        draw=options.draw,
        json_file=options.json,
    )
