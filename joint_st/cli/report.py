"""`joint-st report`."""

from __future__ import annotations

import argparse

from joint_st import storage
from joint_st.cli.options import DECODERS, beam_arguments, quiet_libraries, read_decoders, read_sources, run_arguments
from joint_st.cli.parser import Commands, count, count_or_none
from joint_st.errors import UserError
from joint_st.passes import FULL_CONTEXT, PASSES


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    report = commands.add(
        "report",
        "write a run as one HTML page: results, curves, utterances to hear",
        """
        joint-st report runs/quickstart
        joint-st report runs/quickstart --data mine=corpus/test.jsonl --utterances 100 --output mine.html
        joint-st report runs/quickstart --decoder beam --head streaming
        """,
    )
    run_arguments(report)
    report.add_argument("--output", metavar="FILE", type=storage.path, help="`RUN/report.html` by default")
    report.add_argument(
        "--data",
        metavar="NAME=SOURCE",
        help="split to report on instead of the config's first test split: a manifest, or tfds:NAME:SPLIT",
    )
    report.add_argument(
        "--head",
        choices=PASSES,
        default=FULL_CONTEXT,
        help="head whose hypotheses are shown first and aligned with the audio; %(default)s by default",
    )
    report.add_argument("--decoder", choices=DECODERS, default="greedy", help="%(default)s by default")
    beam_arguments(report)
    report.add_argument(
        "--utterances",
        metavar="N",
        type=count_or_none,
        default=30,
        help="largest number of utterances with audio, half of them those with the most errors; %(default)s by "
        "default, 0 for none",
    )
    report.add_argument(
        "--megabytes",
        metavar="N",
        type=count,
        default=10,
        help="largest size of the page with audio, %(default)s by default; all texts are always in it",
    )
    report.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> None:
    from joint_st.runs.directory import existing_run

    existing_run(options.directory)
    if options.output and options.output.is_dir():
        raise UserError(f"{options.output}: is a directory; --output names the file of the page")
    data = read_sources([options.data] if options.data else [])
    quiet_libraries()
    (decoder,) = read_decoders([options.decoder], options)
    from joint_st.reports.report import report_run

    report_run(
        options.directory,
        output=options.output,
        data=data,
        head=options.head,
        decoder=decoder,
        checkpoint=options.checkpoint,
        utterances=options.utterances,
        megabytes=options.megabytes,
    )
