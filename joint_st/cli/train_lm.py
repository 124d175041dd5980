"""`joint-st train-lm`."""

from __future__ import annotations

import argparse

from joint_st.cli.options import config_argument
from joint_st.cli.parser import OVERRIDES, Commands
from joint_st.cli.train import run_training, training_arguments


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    train = commands.add(
        "train-lm",
        "train a neural language model over a run's labels, or go on with it",
        """
        joint-st train-lm configs/quickstart_lm.py
        joint-st train-lm configs/quickstart_lm.py --workdir runs/lm --data.tokenizer.path runs/wide/tokenizer
        joint-st train-lm configs/quickstart_lm.py --data.train text:a.txt,text:b.txt --model.width 512
        joint-st evaluate runs/quickstart --lm runs/quickstart_lm --tune
        joint-st evaluate runs/quickstart --rescore runs/quickstart_lm --tune
        """,
        f"%(prog)s CONFIG [--workdir RUN] [--print-config] {OVERRIDES}",
    )
    config_argument(train)
    training_arguments(train)
    train.set_defaults(run=_train_lm)


def _train_lm(options: argparse.Namespace) -> None:
    run_training(options, "LmConfig", "joint_st.training.lm:train_lm")
