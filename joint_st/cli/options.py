"""Options that several commands share, and the objects that are made from them."""

from __future__ import annotations

import argparse
import glob
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from joint_st import storage
from joint_st.cli.parser import checkpoint, complete, count, index, local_input, number, whole_number, window
from joint_st.errors import UserError
from joint_st.passes import PASSES

DECODERS = ("greedy", "beam")
WEIGHT, BONUS, PENALTY = number(0, 100), number(-100, 100), number(0, 1000)
"""Ranges of factors of log probabilities, of bonuses added to scores, and of penalties subtracted from them."""
OF_BEAM = (
    "decoder",
    "beam",
    "candidates",
    "lm",
    "lm_weight",
    "lm_level",
    "insertion_bonus",
    "unknown_penalty",
    "hot_words",
    "hot_word_bonus",
    "rescore",
    "rescore_weight",
    "rescore_bonus",
    "rescore_level",
)
"""Options of the commands that decode; none of them can be given with --stream."""


def config_argument(parser: argparse.ArgumentParser) -> None:
    """Add CONFIG, and a --help that also shows the config's fields."""
    parser.add_argument(
        "config",
        metavar="CONFIG",
        nargs="?",
        help="a Python config file, the JSON of one, or a run's directory",
    )
    parser.add_argument(
        "-h",
        "--help",
        action="store_true",
        help="show this help; after a CONFIG, also every field that can be overridden",
    )


def run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add RUN and its checkpoint."""
    parser.add_argument("directory", metavar="RUN", type=storage.path, help="directory of a run, or gs://...")
    parser.add_argument(
        "--checkpoint",
        metavar="best|latest|STEP",
        type=checkpoint,
        default="best",
        help="the best one by WER or CER on the dev set (the default), the latest one, or that of a step",
    )
    verify_argument(parser)


def checkpoints_argument(parser: argparse.ArgumentParser, which: str) -> None:
    """Add the option for several checkpoints; `which` begins its help."""
    parser.add_argument(
        "--checkpoint",
        metavar="best|latest|STEP",
        type=checkpoint,
        nargs="+",
        default=["best"],
        help=f"{which}the best one by WER or CER on the dev set (the default), the latest one, or that of a step",
    )
    verify_argument(parser)


def verify_argument(parser: argparse.ArgumentParser) -> None:
    """Add the flag that skips comparing a run's files with their checksums."""
    parser.add_argument(
        "--no-verify",
        action="store_true",
        help="read the files of runs without comparing them with their checksums",
    )


def beam_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the size of a beam."""
    parser.add_argument(
        "--beam",
        metavar="N",
        type=whole_number(1, 10_000),
        help="number of prefixes that the beam keeps; 16 by default",
    )
    parser.add_argument(
        "--candidates",
        metavar="N",
        type=whole_number(1, 100_000),
        help="number of labels that the beam tries in each frame; 8 by default",
    )


def fusion_arguments(parser: argparse.ArgumentParser) -> None:
    """Add language models and hot words for the beam search."""
    parser.add_argument(
        "--lm",
        metavar="LM",
        type=local_input,
        help="fuse a language model: an n-gram over words or over the run's labels (an ARPA file or a KenLM trie), "
        "or the directory of a neural one (`joint-st train-lm`)",
    )
    parser.add_argument(
        "--lm-weight", metavar="W", type=WEIGHT, help="factor of the LM's natural log probability; 0.5 by default"
    )
    parser.add_argument(
        "--insertion-bonus",
        metavar="B",
        type=BONUS,
        help="bonus for each word (or label, with an LM over labels); 0 by default",
    )
    parser.add_argument(
        "--unknown-penalty",
        metavar="P",
        type=PENALTY,
        help="subtracted from the log probability of unknown words; 10 by default",
    )
    parser.add_argument(
        "--hot-words",
        metavar="FILE",
        type=local_input,
        help="file of words or phrases to favour, one per line; ` :W` after a phrase makes it count for W bonuses",
    )
    parser.add_argument(
        "--hot-word-bonus", metavar="X", type=BONUS, help="bonus for each hot word in a hypothesis; 5 by default"
    )
    parser.add_argument(
        "--rescore",
        metavar="LM",
        type=local_input,
        help="reorder the n-best hypotheses of the beam by a language model of any kind that --lm takes",
    )
    parser.add_argument(
        "--rescore-weight",
        metavar="W",
        type=WEIGHT,
        help="factor of the rescoring LM's natural log probability; 0.5 by default",
    )
    parser.add_argument(
        "--rescore-bonus",
        metavar="B",
        type=BONUS,
        help="bonus for each word (or label, with an LM over labels); 0 by default",
    )
    for option in ("lm", "rescore"):
        parser.add_argument(
            f"--{option}-level",
            choices=("word", "label"),
            help=f"what the tokens of the n-gram model --{option} are, where that cannot be told from the file",
        )


def chunk_argument(parser: argparse.ArgumentParser) -> None:
    """Add the length of audio that a stream is fed at once."""
    parser.add_argument(
        "--chunk-ms",
        metavar="MS",
        type=number(1, 60_000, "number of ms"),
        help="length of the chunks of audio that --stream feeds, whole look-aheads; 320 by default, or the look-ahead "
        "where that is longer",
    )


def look_ahead_argument(parser: argparse.ArgumentParser) -> None:
    """Add the look-ahead of the streaming layers."""
    parser.add_argument(
        "--look-ahead-ms",
        metavar="MS",
        type=number(0, 60_000, "number of ms"),
        help="how long the streaming layers wait for later audio, up to the longest that the run was trained with "
        "(model.look_ahead_ms); the first of them by default. --chunk-ms, in contrast, is how much audio comes at a time",
    )


def draw_argument(parser: argparse.ArgumentParser) -> None:
    """Add what resamples draw."""
    parser.add_argument(
        "--draw",
        choices=("utterances", "speakers"),
        default="utterances",
        help="what intervals and tests draw again and again: utterances (the default), or speakers with all their utterances, "
        "which resemble each other; they need the manifest key or TFDS feature speaker",
    )


def window_argument(parser: argparse.ArgumentParser) -> None:
    """Add the length above which recordings are decoded in windows."""
    parser.add_argument(
        "--window-seconds",
        metavar="S",
        type=window,
        help="decode longer recordings in overlapping windows of this length; by default twice "
        "data.max_seconds, between 8 and 30 seconds",
    )


def process_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which one of several processes this is."""
    group = parser.add_argument_group(
        "one process of several",
        "Start the same command on every host with these three options. They are not needed on Google Cloud TPUs, under\n"
        "Slurm (srun) and under Open MPI 4 (mpirun). All processes must start within 300 s. If one fails, all end\n"
        "within 60 s with a non-zero status, and process 0 prints which one and why. If one was killed or lost its\n"
        "host, the status is 75, and the same command continues from the last checkpoint.",
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="address and a free port where process 0 listens")
    group.add_argument("--processes", metavar="N", type=count, help="number of processes")
    group.add_argument("--process", metavar="I", type=index, help="number of this process, from 0 on")


def stream_options(options: argparse.Namespace, names: Sequence[str], refused: Sequence[str]) -> dict:
    """Return the given ones among the options `names`, which need --stream; `refused` must not be given together with
    it."""
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if given and not options.stream:
        raise UserError(f"--{next(iter(given)).replace('_', '-')}: needs --stream; add it")
    for name in refused if options.stream else ():
        if getattr(options, name) not in (None, options.parser.get_default(name)):
            raise UserError(f"--{name.replace('_', '-')}: --stream decodes greedily and with both heads; leave it out")
    return given


def read_sources(items: Sequence[str], option: str = "--data") -> dict:
    """Return sources by name, as written NAME=SOURCE on the command line; a name must not be given twice."""
    from joint_st.config import parse_source

    data = {}
    for item in items:
        name, equals, source = item.partition("=")
        if not (name and equals and source):
            raise UserError(f"{option} {item}: written NAME=SOURCE, as in mine=corpus/test.jsonl")
        if name in data:
            raise UserError(f"{option} {item}: the name {name} is given twice; give each source a name of its own")
        data[name] = parse_source(source)
    return data


def read_decoders(names: Sequence[str] | None, options: argparse.Namespace) -> list:
    """Return the decoders with the given names, each once."""
    fused = [name for name in ("lm", "hot_words", "rescore") if getattr(options, name, None)]
    names = names or ["beam" if fused else "greedy"]
    for name in fused:
        if "beam" not in names:
            raise UserError(f"--{name.replace('_', '-')}: needs the beam search; add --decoder beam")
    sizes = {name: getattr(options, name) for name in ("beam", "candidates") if getattr(options, name) is not None}
    if sizes and "beam" not in names:
        raise UserError(f"--{next(iter(sizes))}: needs the beam search; add --decoder beam")
    from joint_st.decoding.decoders import Beam, Greedy

    return [Beam(**sizes) if name == "beam" else Greedy() for name in dict.fromkeys(names)]


def read_nbest(options: argparse.Namespace, decoders: Sequence) -> int:
    """Return the number of hypotheses to list, 1 by default; raises `UserError` where a beam is narrower."""
    from joint_st.decoding.decoders import Beam

    best = options.nbest or 1
    for one in decoders:
        if isinstance(one, Beam) and best > one.beam:
            raise UserError(f"--nbest {best}: the beam keeps {one.beam} hypotheses; add --beam {best}")
    return best


def read_passes(names: Sequence[str]) -> tuple[str, ...]:
    """Return the passes with the given names, in the order of tables."""
    return tuple(name for name in PASSES if name in names)


def read_fusion(options: argparse.Namespace):
    """Return the files and weights to fuse with the beam search; None where nothing is fused."""
    needed = {
        "lm_weight": ["lm"],
        "insertion_bonus": ["lm"],
        "unknown_penalty": ["lm", "rescore"],
        "hot_word_bonus": ["hot_words"],
        "rescore_weight": ["rescore"],
        "rescore_bonus": ["rescore"],
        "lm_level": ["lm"],
        "rescore_level": ["rescore"],
    }
    for name, files in needed.items():
        if getattr(options, name) is not None and not any(getattr(options, file) for file in files):
            file = f"--{files[0].replace('_', '-')}"
            raise UserError(f"--{name.replace('_', '-')}: needs {file}; add {file} FILE")
    if not (options.lm or options.hot_words or options.rescore):
        return None
    from joint_st.decoding.fusion import Weights
    from joint_st.decoding.fusion.build import FusionFiles
    from joint_st.decoding.rescoring import RescoringWeights

    def read(kind, names):
        """Return weights of a kind, with the values of the given ones among these options."""
        values = ((field, getattr(options, name)) for field, name in zip(kind._fields, names, strict=True))
        return kind(**{field: value for field, value in values if value is not None})

    weights = read(Weights, ("lm_weight", "insertion_bonus", "unknown_penalty", "hot_word_bonus"))
    rescoring = read(RescoringWeights, ("rescore_weight", "rescore_bonus", "unknown_penalty"))
    levels = options.lm_level, options.rescore_level
    return FusionFiles(options.lm, options.hot_words, weights, options.rescore, rescoring, *levels)


def read_config(options: argparse.Namespace):
    """Return the config of the file that the options name, with their overrides."""
    from joint_st import config as configs
    from joint_st.config import load, override

    config = load(options.config, getattr(configs, options.config_type))
    # Only now are the sections known that the file itself registers.
    return override(config, complete(options.overrides, type(config)))


def load_config(options: argparse.Namespace):
    """Return the resolved config, of the type that the command takes; None after its help was printed."""
    if options.config is None:
        if not options.help:
            options.parser.error("CONFIG is missing")
        options.parser.print_help()
        return None
    from joint_st.config import describe

    config = read_config(options)
    if options.help:
        from joint_st.config.file import docstring

        options.parser.print_help()
        heading = docstring(options.config)
        print(f"\n{options.config}:\n" + (f"\n{heading}\n" if heading else ""))
        print(describe(config))
        return None
    return config


def quiet_libraries() -> None:
    """Keep messages of Orbax (absl) and of XLA's C++ out of the progress.

    Whatever Orbax reports as an error is also raised as an exception and printed in one line. The same holds for
    TensorStore, which prints a traceback for each array.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if not _may_have_accelerator():
        # Where libtpu is installed, JAX asks it for TPUs, and it prints many lines if it finds none.
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import absl.logging

    absl.logging.set_verbosity(absl.logging.FATAL)
    sys.unraisablehook = _report_named


def _report_named(unraisable) -> None:
    """Print an exception that could not be raised, unless it comes from C++ that calls back into Python and names no
    object."""
    if unraisable.object is not None:
        sys.__unraisablehook__(unraisable)


_ACCELERATORS = ("/dev/nvidia*", "/dev/dxg", "/dev/kfd", "/dev/accel*", "/dev/vfio/[0-9]*")
"""Files by which Linux gives access to GPUs and TPUs."""

_VENDORS = ("0x10de", "0x1002", "0x1ae0")
"""Makers of GPUs and TPUs by their numbers on the PCI bus: NVIDIA, AMD, Google."""


_OF_JAX = "TPU_SKIP_MDS_QUERY"
"""Variables that JAX sets where it has found no TPU."""


def _may_have_accelerator() -> bool:
    """Return whether this machine shows any sign of a GPU or a TPU; true on systems other than Linux, where that is
    unknown."""
    if sys.platform != "linux" or any(name.startswith("TPU_") for name in os.environ if name != _OF_JAX):
        return True
    if any(glob.glob(pattern) for pattern in _ACCELERATORS):
        return True
    vendors = (Path(file).read_text().strip() for file in glob.glob("/sys/bus/pci/devices/*/vendor"))
    return any(vendor in _VENDORS for vendor in vendors)
