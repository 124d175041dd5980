"""Computes every number of the quickstart in the README, by the commands that it names.

    joint-st train configs/quickstart.py
    python -m benchmarks.quickstart runs/quickstart --json benchmarks/results/quickstart.json

A 3-gram of the run's own texts and an LSTM over their letters are made in a separate folder (`--work`). They are kept
from one call to the next, and so are the tables, so that a stopped call continues; a folder of another run, or of other
weights of this one, is refused. Weights are tuned on the dev split.
It takes about a quarter of an hour on 2 CPU cores. The file holds the rows as `joint-st evaluate --json` writes them,
each with the command that printed it, and the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jax

from benchmarks import machine
from benchmarks.machine import CHECKOUT
from joint_st import storage
from joint_st.evaluation.origin import identity
from joint_st.runs.directory import RunDirectory


def joint_st(*arguments) -> None:
    """Run a command, its output shown as it comes."""
    print(f"\n$ joint-st {' '.join(map(str, arguments))}", flush=True)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")])}
    subprocess.run([sys.executable, "-m", "joint_st", *map(str, arguments)], check=True, env=environment)


def claim(work: Path, run: Path) -> None:
    """Make a folder for the numbers of a run's best checkpoint; ends with one line where it holds those of another."""
    directory = RunDirectory(run)
    step = max(directory.best_steps(), default=0)
    made_of = f"{run.resolve()} step {step} {identity(directory, step)}\n"
    file = work / "made_of.txt"
    if file.exists():
        there = file.read_text(encoding="utf-8")
    else:
        there = "an unknown run" if work.is_dir() and any(work.iterdir()) else made_of
    if there != made_of:
        sys.exit(f"{work}: has the numbers of {there.strip()}, and not of {made_of.strip()}; remove it, or give --work")
    work.mkdir(parents=True, exist_ok=True)
    file.write_text(made_of, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished quickstart")
    parser.add_argument("--work", type=Path, help="folder of the language models and tables; RUN/../quickstart_numbers")
    parser.add_argument("--json", type=Path, help="file to write the rows to")
    parser.add_argument("--figure", type=Path, help="file to copy the figure of the layers to")
    arguments = parser.parse_args()
    run, work = arguments.run, arguments.work or arguments.run.parent / "quickstart_numbers"
    claim(work, run)
    ngram, lstm = work / "lm.arpa", work / "lstm"
    if not ngram.exists():
        joint_st("data", "ngram", run, "--order", 3, "--level", "word", "--out", ngram)
    joint_st("train-lm", CHECKOUT / "configs" / "quickstart_lm.py", "--workdir", lstm)

    beam = ("--decoder", "beam")
    evaluations = {
        "greedy": ("--decoder", "greedy"),
        "beam": beam,
        "beam_3gram": ("--lm", ngram, "--tune"),
        "beam_lstm": ("--lm", lstm, "--tune"),
        "beam_rescored": (*beam, "--rescore", lstm, "--tune"),
        "beam_3gram_rescored": ("--lm", ngram, "--rescore", lstm, "--tune"),
    }
    rows = []
    for name, options in evaluations.items():
        # One head at a time, so that the real-time factor is that of one.
        for head in ("streaming", "full_context"):
            table = work / f"{name}_{head}.json"
            began = time.perf_counter()
            if not table.exists():
                joint_st("evaluate", run, *options, "--head", head, "--json", table)
            command = ["joint-st", "evaluate", "RUN", *map(str, options), "--head", head]
            command = " ".join(command).replace(str(work), "WORK")
            found = json.loads(table.read_text())
            rows += [{"name": name, "command": command, **row} for row in found]
            print(f"  {time.perf_counter() - began:.0f} s", flush=True)
    table = work / "streams.json"
    if not table.exists():
        joint_st("evaluate", run, "--stream", "--json", table)
    streams = json.loads(table.read_text())
    joint_st("align", run, "--data", "test=tfds:spoken_grammar:test", "--by", "labels", 0, 1, -1)
    joint_st("analyze", run, "--json", work / "layers.json")
    layers = json.loads((work / "layers.json").read_text())
    if arguments.figure:
        figure = max((run / "analysis").glob("*_layers.png"), key=storage.modified)
        arguments.figure.write_bytes(figure.read_bytes())
    for row in [*rows, *streams, *layers]:
        row.pop("run", None)
    found = {
        "device": machine.device(),
        "commit": machine.commit(),
        "jax": jax.__version__,
        "rows": rows,
        "streams": streams,
        "layers": layers,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
