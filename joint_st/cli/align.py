"""`joint-st align`."""

from __future__ import annotations

import argparse

from joint_st import storage
from joint_st.cli.options import quiet_libraries, read_sources, run_arguments
from joint_st.cli.parser import Commands, local_input, output_file
from joint_st.errors import UserError
from joint_st.passes import FULL_CONTEXT, PASSES


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    align = commands.add(
        "align",
        "find when each word of a known text is spoken",
        """
        joint-st align runs/quickstart one.wav one.txt
        joint-st align runs/quickstart one.wav "What is said in it." --format srt --output one.srt
        joint-st align runs/quickstart --data mine=corpus/test.jsonl --format textgrid --output grids
        joint-st align runs/quickstart --data test=tfds:spoken_grammar:test --head streaming --output test.jsonl
        joint-st align runs/quickstart --data test=tfds:spoken_grammar:test --by labels 0 -1 --output test.jsonl
        """,
    )
    run_arguments(align)
    align.add_argument("audio", metavar="AUDIO", type=local_input, nargs="?", help="WAV, FLAC, OGG/Opus or MP3")
    align.add_argument(
        "text",
        metavar="TEXT",
        nargs="?",
        help="a file with what is said in it, or the text itself; anything that names no file is text, unless it ends in "
        ".txt, .text, .lab or .trn",
    )
    align.add_argument(
        "--data",
        metavar="NAME=SOURCE",
        help="align all utterances of a manifest or of tfds:NAME:SPLIT instead of AUDIO and TEXT; report the mean error "
        "where the source has the true times of words; exit with status 1 if some utterances cannot be aligned",
    )
    align.add_argument(
        "--language",
        metavar="TAG",
        default="",
        help="BCP 47 tag of TEXT, such as de, for its phonemes; by default that of the run's data.units.language. With "
        "--data, the source states the language of each utterance",
    )
    align.add_argument("--head", choices=PASSES, default=FULL_CONTEXT, help="%(default)s by default")
    align.add_argument(
        "--by",
        metavar="labels|LAYER",
        type=_way,
        nargs="+",
        default=[None],
        help="labels: the likeliest CTC path of --head (the default); a number: the best alignment to the text encoder's "
        "embeddings at the output of that shared layer (0: their input, -1: the last layer); with several, the table "
        "compares them and the first one is written",
    )
    align.add_argument(
        "--format",
        choices=("json", "ctm", "textgrid", "srt", "vtt"),
        default="json",
        help="json (one utterance per line) by default; json and textgrid also hold the times of text units (phonemes) "
        "if the run was trained with losses.unit_ctc",
    )
    align.add_argument(
        "--output",
        metavar="FILE|DIR",
        type=storage.path,
        help="standard output by default; with --data, textgrid, srt and vtt need a folder for their files",
    )
    align.add_argument(
        "--json", metavar="FILE", type=output_file, help="where to write the rows of the table of --data"
    )
    align.set_defaults(run=_align)


def _way(text: str) -> int | None:
    if text == "labels":
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither labels nor the number of a shared layer") from None


def _align(options: argparse.Namespace) -> None:
    from joint_st.runs.directory import existing_run

    pair = (options.audio, options.text)
    if options.data is None and None in pair:
        raise UserError("give AUDIO and TEXT, or --data NAME=SOURCE (see `joint-st align --help`)")
    if options.data is not None and pair != (None, None):
        raise UserError(f"--data {options.data}: takes the place of AUDIO and TEXT; leave {options.audio} out")
    if options.data is None and options.json:
        raise UserError("--json: holds the table of --data, and a single recording has none; leave it out")
    if options.data is not None and options.language:
        raise UserError("--language: the source of --data states languages (manifest key language); leave it out")
    existing_run(options.directory)
    how = {
        "head": options.head,
        "ways": options.by,
        "checkpoint": options.checkpoint,
        "form": options.format,
        "output": options.output,
    }
    if options.data is None:
        if not options.audio.is_file():
            raise UserError(f"{options.audio}: no such file")
        from joint_st.word_times.text import read_text

        text = read_text(options.text)
        quiet_libraries()
        from joint_st.word_times.align import align_file

        align_file(options.directory, options.audio, text, language=options.language, **how)
        return
    [(split, source)] = read_sources([options.data]).items()
    quiet_libraries()
    from joint_st.word_times.align import align_split

    _, failed = align_split(options.directory, split, source, **how, json_file=options.json)
    if failed:
        raise SystemExit(1)
