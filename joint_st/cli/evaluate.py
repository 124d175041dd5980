"""`joint-st evaluate`."""

from __future__ import annotations

import argparse

from joint_st import storage
from joint_st.cli.options import (
    DECODERS,
    OF_BEAM,
    beam_arguments,
    checkpoints_argument,
    chunk_argument,
    draw_argument,
    fusion_arguments,
    look_ahead_argument,
    process_arguments,
    quiet_libraries,
    read_decoders,
    read_fusion,
    read_nbest,
    read_passes,
    read_sources,
    stream_options,
    window_argument,
)
from joint_st.cli.parser import Commands, count, output_file
from joint_st.errors import UserError
from joint_st.passes import PASSES


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    evaluate = commands.add(
        "evaluate",
        "measure the word error rate of runs' checkpoints",
        """
        joint-st evaluate runs/quickstart
        joint-st evaluate runs/quickstart --data mine=corpus/test.jsonl --json table.json
        joint-st evaluate runs/quickstart --data seen=tfds:spoken_grammar:train --checkpoint 500 1000
        joint-st evaluate runs/quickstart --decoder greedy beam --beam 32 --head full_context
        joint-st evaluate runs/quickstart --by speaker duration --errors
        joint-st evaluate runs/quickstart --stream --chunk-ms 320
        joint-st evaluate runs/look_ahead --stream --look-ahead-ms 160
        joint-st evaluate runs/narrow runs/wide
        joint-st evaluate runs/quickstart --lm lm.arpa --hot-words names.txt --tune
        joint-st evaluate runs/quickstart --lm lm.arpa --rescore runs/quickstart_lm --tune
        joint-st evaluate runs/quickstart --calibrate --decoder greedy beam
        joint-st evaluate runs/quickstart --decoder beam --nbest 5 --jsonl heard.jsonl
        """,
    )
    evaluate.add_argument("directories", metavar="RUN", type=storage.path, nargs="+", help="directories of runs")
    checkpoints_argument(evaluate, "one or several checkpoints of each run: ")
    evaluate.add_argument(
        "--data",
        metavar="NAME=SOURCE",
        nargs="+",
        action="extend",
        default=[],
        help="what to evaluate instead of the config's test splits: a manifest, or tfds:NAME:SPLIT",
    )
    evaluate.add_argument(
        "--decoder",
        choices=DECODERS,
        nargs="+",
        help="one or several decoders; the default is greedy, or beam with --lm, --hot-words or --rescore",
    )
    beam_arguments(evaluate)
    fusion_arguments(evaluate)
    window_argument(evaluate)
    evaluate.add_argument(
        "--head", choices=PASSES, nargs="+", default=list(PASSES), help="one or both heads; both by default"
    )
    evaluate.add_argument(
        "--by",
        choices=("speaker", "language", "duration", "noise", "synthetic"),
        nargs="+",
        default=[],
        help="also print tables by these groups; they need manifest keys or TFDS features: speaker, language, noise "
        "(name of the condition), snr (dB), synthetic (true where a machine speaks)",
    )
    draw_argument(evaluate)
    evaluate.add_argument("--errors", action="store_true", help="also print confusions and the most-missed words")
    evaluate.add_argument(
        "--stream",
        action="store_true",
        help="feed the utterances in chunks, as streams, and report delays, flicker, real-time factor and WER",
    )
    chunk_argument(evaluate)
    look_ahead_argument(evaluate)
    evaluate.add_argument("--streams", metavar="N", type=count, help="number of streams in a batch; 16 by default")
    evaluate.add_argument(
        "--tune",
        metavar="NAME=SOURCE",
        nargs="*",
        help="find the weights of --lm, --hot-words and --rescore on these sources; the config's dev set by default",
    )
    evaluate.add_argument(
        "--confidence",
        action="store_true",
        help="also judge the confidences of words (calibration error, AUC), and write words with start, end and "
        "confidence into each line of --jsonl; calibrated where the run has a temperature for the head and decoder",
    )
    evaluate.add_argument(
        "--nbest",
        metavar="N",
        type=count,
        help="the same as --confidence, and also write the N likeliest texts with their scores; greedy decoding has one",
    )
    evaluate.add_argument(
        "--calibrate",
        metavar="NAME=SOURCE",
        nargs="*",
        help="the same as --confidence, and find the temperature of each head and decoder on one half of these (by default "
        "the config's dev set), cut by speaker, judge it on the other half, and store it in the run for `transcribe`",
    )
    evaluate.add_argument("--json", metavar="FILE", type=output_file, help="write the table as a list of rows")
    evaluate.add_argument("--jsonl", metavar="FILE", type=output_file, help="write one line per utterance")
    process_arguments(evaluate)
    evaluate.set_defaults(run=_evaluate, parser=evaluate)


def _evaluate(options: argparse.Namespace) -> None:
    from joint_st.runs.directory import existing_run

    for directory in options.directories:
        existing_run(directory)
    data = read_sources(options.data)
    refused = ("head", "by", "draw", "errors", "jsonl", "tune", "confidence", "nbest", "calibrate", *OF_BEAM)
    streaming = stream_options(options, ("chunk_ms", "streams"), refused)
    tune = None if options.tune is None else read_sources(options.tune, "--tune")
    if tune is not None and not (options.lm or options.hot_words or options.rescore):
        raise UserError("--tune: there are no weights to find without --lm, --hot-words or --rescore; add one")
    calibrate = None if options.calibrate is None else read_sources(options.calibrate, "--calibrate")
    quiet_libraries()
    if options.stream:
        if options.coordinator or options.processes or options.process is not None:
            raise UserError("--coordinator, --processes, --process: --stream runs in one process; leave them out")
        if len(options.directories) > 1 or len(options.checkpoint) > 1:
            raise UserError("--stream: one RUN and one --checkpoint at a time")
        from joint_st.evaluation.streams import evaluate_streams

        evaluate_streams(
            options.directories[0],
            data=data,
            checkpoint=options.checkpoint[0],
            json_file=options.json,
            window_seconds=options.window_seconds,
            look_ahead_ms=options.look_ahead_ms,
            **streaming,
        )
        return
    decoders = read_decoders(options.decoder, options)
    fusion = read_fusion(options)
    from joint_st.distributed.processes import processes

    with processes(options.coordinator, options.processes, options.process):
        from joint_st.evaluation.evaluate import evaluate_runs

        evaluate_runs(
            options.directories,
            checkpoints=options.checkpoint,
            data=data,
            passes=read_passes(options.head),
            decoders=decoders,
            by=list(dict.fromkeys(options.by)),
            draw=options.draw,
            errors=options.errors,
            fusion=fusion,
            tune=tune,
            nbest=read_nbest(options, decoders) if options.confidence or options.nbest else 0,
            calibrate=calibrate,
            window_seconds=options.window_seconds,
            look_ahead_ms=options.look_ahead_ms,
            json_file=options.json,
            jsonl_file=options.jsonl,
        )
