"""`joint-st train` and `joint-st train-lm`."""

from __future__ import annotations

import argparse
from pathlib import Path

from joint_st import storage
from joint_st.cli.options import config_argument, load_config, process_arguments, quiet_libraries, verify_argument
from joint_st.cli.parser import OVERRIDES, Commands, folder, steps


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    train = commands.add(
        "train",
        "train a model, or continue a run",
        """
        joint-st train configs/quickstart.py
        joint-st train configs/quickstart.py --workdir runs/wide --model.width 256
        joint-st train configs/quickstart.py --model.width 256 --print-config
        joint-st train configs/quickstart.py --workdir runs/traced --profile
        joint-st train configs/quickstart.py --help
        """,
        f"%(prog)s CONFIG [--workdir RUN] [--print-config] {OVERRIDES}",
        "Config",
    )
    config_argument(train)
    train.add_argument(
        "--fingerprint",
        metavar="HASH",
        help="refuse to train where the resolved config has another fingerprint; a sweep gives that of what it resolved",
    )
    training_arguments(train)
    train.set_defaults(run=_train, trainer=_asr)
    train_lm = commands.add(
        "train-lm",
        "train a neural language model over a run's labels, or continue one",
        """
        joint-st train-lm configs/quickstart_lm.py
        joint-st train-lm configs/quickstart_lm.py --workdir runs/lm --data.tokenizer.path runs/wide/tokenizer
        joint-st train-lm configs/quickstart_lm.py --data.train text:a.txt,text:b.txt --model.width 512
        joint-st evaluate runs/quickstart --lm runs/quickstart_lm --tune
        joint-st evaluate runs/quickstart --rescore runs/quickstart_lm --tune
        """,
        f"%(prog)s CONFIG [--workdir RUN] [--print-config] {OVERRIDES}",
        "LmConfig",
    )
    config_argument(train_lm)
    training_arguments(train_lm)
    train_lm.set_defaults(run=_train, trainer=_lm)


def training_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for the run's directory and for which one of several processes this is."""
    parser.add_argument(
        "--workdir",
        metavar="RUN",
        type=folder,
        help="directory of the run, or gs://BUCKET/FOLDER; `runs/NAME` by default, NAME from the config",
    )
    parser.add_argument("--print-config", action="store_true", help="print the resolved config and stop")
    parser.add_argument(
        "--profile",
        metavar="FROM:TO",
        type=steps,
        nargs="?",
        const=range(0),
        help="write a trace of some steps for TensorBoard and xprof into RUN/profile, and print their ten costliest "
        "operations; counted from this start, FROM steps come before the first traced one, and TO is the last one: "
        "10:15 by default, later where training begins on text alone",
    )
    verify_argument(parser)
    process_arguments(parser)


def _train(options: argparse.Namespace) -> None:
    config = load_config(options)
    if config is None:
        return
    if options.print_config:
        from joint_st.config import show

        print(show(config))
        return
    if expected := getattr(options, "fingerprint", None):
        from joint_st.sweeps.sweep import check_fingerprint

        check_fingerprint(config, expected, options.config)
    quiet_libraries()
    from joint_st.distributed.processes import processes

    with processes(options.coordinator, options.processes, options.process):
        there = storage.path(options.config)
        workdir = options.workdir or (there if there.is_dir() else Path("runs") / config.name)
        options.trainer(config, workdir, options.profile)


def _asr(config, workdir: Path, profile: range | None) -> None:
    from joint_st.training.asr import train_asr

    train_asr(config, workdir, profile)


def _lm(config, workdir: Path, profile: range | None) -> None:
    from joint_st.training.lm import train_lm

    train_lm(config, workdir, profile)
