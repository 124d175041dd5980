"""`joint-st transcribe`."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import BinaryIO

from joint_st import interrupts, storage
from joint_st.cli.options import (
    DECODERS,
    OF_BEAM,
    beam_arguments,
    chunk_argument,
    fusion_arguments,
    look_ahead_argument,
    quiet_libraries,
    read_decoders,
    read_fusion,
    read_nbest,
    run_arguments,
    stream_options,
    window_argument,
)
from joint_st.cli.parser import Commands, count, local_input
from joint_st.errors import UserError
from joint_st.passes import FULL_CONTEXT, PASSES


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    transcribe = commands.add(
        "transcribe",
        "print the text of audio files",
        """
        joint-st transcribe runs/quickstart one.wav
        joint-st transcribe runs/quickstart *.flac --head streaming
        joint-st transcribe runs/quickstart lecture.flac --window-seconds 15
        joint-st transcribe runs/quickstart one.wav --decoder beam
        joint-st transcribe runs/quickstart one.wav --stream
        joint-st transcribe runs/look_ahead one.wav --stream --look-ahead-ms 320
        ffmpeg -loglevel error -i talk.m4a -f wav - | joint-st transcribe runs/quickstart - --stream
        arecord -q -t raw -f S16_LE -r 16000 | joint-st transcribe runs/quickstart - --stream
        joint-st transcribe runs/quickstart one.wav --lm lm.arpa --lm-weight 0.5 --insertion-bonus 1
        joint-st transcribe runs/quickstart *.flac --format json --decoder beam --nbest 5 --output heard.jsonl
        joint-st transcribe runs/quickstart lecture.flac --format srt --output lecture.srt
        joint-st transcribe runs/quickstart one.wav --stream --format json
        """,
    )
    run_arguments(transcribe)
    transcribe.add_argument("files", metavar="FILE", type=local_input, nargs="+", help="WAV, FLAC, OGG/Opus or MP3")
    transcribe.add_argument(
        "--stream",
        action="store_true",
        help="feed one FILE in chunks and print each new hypothesis (seconds of audio so far, head, text), then that of "
        "the full-context second pass; `-` reads an audio file or raw samples from standard input, while they come",
    )
    chunk_argument(transcribe)
    look_ahead_argument(transcribe)
    transcribe.add_argument(
        "--stdin",
        choices=("raw", "file"),
        help="what comes through standard input (`-`): raw samples, int16 (little-endian) and mono, or an audio file; "
        "by default its first bytes decide, and the decision is printed",
    )
    transcribe.add_argument(
        "--rate", metavar="HZ", type=count, help="sample rate of raw audio; that of the model's features by default"
    )
    transcribe.add_argument("--head", choices=PASSES, default=FULL_CONTEXT, help="%(default)s by default")
    transcribe.add_argument(
        "--decoder", choices=DECODERS, help="the default is greedy, or beam with --lm, --hot-words or --rescore"
    )
    beam_arguments(transcribe)
    fusion_arguments(transcribe)
    window_argument(transcribe)
    transcribe.add_argument(
        "--format",
        choices=("text", "json", "ctm", "textgrid", "srt", "vtt"),
        default="text",
        help="text by default; json (a file a line): text, words with start, end and confidence, n-best list with "
        "scores, language, duration; all but text have the times of words. Confidences are calibrated where `joint-st "
        "evaluate RUN --calibrate` has found their temperature. --stream takes text or json; only its last line, that "
        "of the second pass, has words, since none is final before, and there is no n-best list",
    )
    transcribe.add_argument(
        "--nbest",
        metavar="N",
        type=count,
        help="likeliest texts in the list of --format json, 1 by default; greedy decoding has one in any case",
    )
    transcribe.add_argument(
        "--output",
        metavar="FILE|DIR",
        type=storage.path,
        help="where another format than text is written, standard output by default; of several FILEs, a folder for "
        "those of textgrid, srt and vtt",
    )
    transcribe.set_defaults(run=_transcribe, parser=transcribe)


def _transcribe(options: argparse.Namespace) -> None:
    from joint_st.runs.directory import existing_run

    existing_run(options.directory)
    streaming = stream_options(options, ("chunk_ms", "rate", "stdin"), ("head", *OF_BEAM, "nbest"))
    _check_format(options)
    piped = options.files == [Path("-")] and options.stream
    missing = {file: why for file in options.files if not piped and (why := storage.why_no_file(file))}
    if len(missing) == len(options.files):  # where only some are, each is reported when its turn comes
        file, why = next(iter(missing.items()))
        hint = "; standard input needs --stream" if file == Path("-") else ""
        raise UserError(f"{storage.printable(file)}: {why}{hint}")
    if options.stream and len(options.files) > 1:
        raise UserError(f"--stream: one FILE at a time; leave {options.files[1]} out")
    for name in ("rate", "stdin"):
        if name in streaming and not piped:
            raise UserError(f"--{name}: only for standard input (`-`); leave it out")
    quiet_libraries()
    if options.stream:
        source = sys.stdin.buffer if piped else options.files[0]
        same = ("checkpoint", "window_seconds", "look_ahead_ms")
        given = {name: getattr(options, name) for name in same} | streaming
        recorded = piped and not sys.stdin.isatty()
        with interrupts.first_ends_input("standard input") if recorded else contextlib.nullcontext():
            _print_stream(options, source, given)
        return
    (decoder,) = read_decoders(options.decoder and [options.decoder], options)
    from joint_st.decoding.inputs import AudioFiles

    files = AudioFiles(options.files)
    how = {
        "head": options.head,
        "decoder": decoder,
        "fusion": read_fusion(options),
        "window_seconds": options.window_seconds,
        "look_ahead_ms": options.look_ahead_ms,
        "checkpoint": options.checkpoint,
    }
    if options.format != "text":
        from joint_st.word_times.transcripts import transcribe_to

        best = read_nbest(options, [decoder])
        transcribe_to(options.directory, files, **how, best=best, form=options.format, output=options.output)
    else:
        from joint_st.decoding.transcribe import transcribe_files

        for file, text in transcribe_files(options.directory, files, **how):
            print(text if len(options.files) == 1 else f"{file}\t{text}", flush=True)
    if files.unread:
        raise SystemExit(1)


def _print_stream(options: argparse.Namespace, source: Path | BinaryIO, given: dict) -> None:
    if options.format == "json":
        from joint_st.word_times.transcripts import listen_to

        for line in listen_to(options.directory, source, **given):
            print(line, flush=True)
        return
    from joint_st.decoding.transcribe import listen

    for said in listen(options.directory, source, **given):
        print(f"{said.seconds:.2f}\t{said.head}\t{said.text}", flush=True)


def _check_format(options: argparse.Namespace) -> None:
    if options.stream and options.format not in ("text", "json"):
        raise UserError(f"--format {options.format}: --stream prints as the audio comes; take text or json")
    if options.stream and options.output is not None:
        raise UserError("--output: --stream prints as the audio comes; leave it out")
    for name in ("nbest", "output"):
        if options.format == "text" and getattr(options, name) is not None:
            raise UserError(f"--{name}: needs another format than text; add --format json")
    if options.nbest is not None and options.format != "json":
        raise UserError(f"--nbest: --format {options.format} has no place for a list; take json")
