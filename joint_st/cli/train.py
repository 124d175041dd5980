"""`joint-st train`."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from joint_st import storage
from joint_st.cli.options import config_argument, load_config, process_arguments, quiet_libraries
from joint_st.cli.parser import OVERRIDES, Commands


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    train = commands.add(
        "train",
        "train a model, or go on with a run",
        """
        joint-st train configs/quickstart.py
        joint-st train configs/quickstart.py --workdir runs/wide --model.width 256
        joint-st train configs/quickstart.py --model.width 256 --print-config
        joint-st train configs/quickstart.py --help
        """,
        f"%(prog)s CONFIG [--workdir RUN] [--print-config] {OVERRIDES}",
    )
    config_argument(train)
    training_arguments(train)
    train.set_defaults(run=_train)


def training_arguments(parser: argparse.ArgumentParser) -> None:
    """Where a run is, and which process of it this is."""
    parser.add_argument(
        "--workdir",
        metavar="RUN",
        type=storage.path,
        help="directory of the run, or gs://BUCKET/FOLDER; `runs/NAME` by default, NAME from the config",
    )
    parser.add_argument("--print-config", action="store_true", help="print the resolved config, and stop")
    process_arguments(parser)


def _train(options: argparse.Namespace) -> None:
    run_training(options, "Config", "joint_st.training.asr:train_asr")


def run_training(options: argparse.Namespace, kind: str, trainer: str) -> None:
    """Train the config that is named, which has to be of `kind`, by the function `trainer`, MODULE:NAME; or show it."""
    config = load_config(options, kind)
    if config is None:
        return
    if options.print_config:
        from joint_st.config import show

        print(show(config))
        return
    quiet_libraries()
    from joint_st.distributed.processes import processes

    with processes(options.coordinator, options.processes, options.process):
        module, _, name = trainer.partition(":")
        train = getattr(importlib.import_module(module), name)
        there = storage.path(options.config)
        train(config, options.workdir or (there if there.is_dir() else Path("runs") / config.name))
