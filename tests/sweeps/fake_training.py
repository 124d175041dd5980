"""Stands in for `joint-st train BASE --workdir RUN --path=value ...`: it writes the files of a training at once.

What it does depends on the arm: one called `fails...` does; `waits...` is long, saves at SIGTERM, and finishes when it
is continued; `deaf...` is long and ignores SIGTERM; `long...` has saved, is long, and finishes when it is continued.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import time

import numpy as np

from joint_st import storage
from joint_st.config import load, override, save
from joint_st.errors import UserError
from joint_st.evaluation.origin import SUFFIX, Origin
from joint_st.evaluation.rates import make_rows
from joint_st.evaluation.report import score, write_rows, write_utterances
from joint_st.runs.directory import COMPLETE, RunDirectory
from joint_st.sweeps.sweep import check_fingerprint

SENTENCES = [f"{'name' if i % 3 else 'other'} called at {'noon' if i % 2 else 'one'} and {i}" for i in range(40)]


def main(base: str, _, workdir: str, *flags: str) -> None:
    values = dict(flag.removeprefix("--").split("=", 1) for flag in flags)
    fingerprint = values.pop("fingerprint")
    config = override(load(base), values)
    try:
        check_fingerprint(config, fingerprint, base)
    except UserError as error:
        print(f"joint-st: error: {error}", file=sys.stderr)
        sys.exit(2)
    run = RunDirectory(storage.path(workdir))
    run.root.mkdir(parents=True, exist_ok=True)
    starts = run.root / "starts"
    starts.write_text((starts.read_text() if starts.exists() else "") + "started\n")
    arm = config.name.partition("/")[0]
    print("training", config.name, flush=True)
    if arm.startswith("fails"):
        print("joint-st: error: there is no such thing", file=sys.stderr)
        sys.exit(2)
    save(config, run.config)
    if arm.startswith(("waits", "deaf")) and not run.checkpoint_steps:
        wait(run, deaf=arm.startswith("deaf"))
    if arm.startswith("long") and not run.checkpoint_steps:
        checkpoint(run, 2, 0.5)
        wait(run, deaf=True)
    checkpoint(run, config.training.steps, 0.3)
    evaluate(config, run)


def wait(run: RunDirectory, deaf: bool) -> None:
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    (run.root / "draft").write_text(str(os.getpid()))
    (run.root / "draft").rename(run.root / "waiting")
    while not asked or deaf:
        time.sleep(0.02)
    checkpoint(run, 2, 0.5)
    sys.exit(143)


def checkpoint(run: RunDirectory, step: int, wer: float) -> None:
    folder = run.checkpoints / str(step)
    (folder / "facts").mkdir(parents=True)
    (folder / "facts" / "metadata").write_text(json.dumps({"step": step, "wer": wer}))
    (folder / COMPLETE).touch()


def evaluate(config, run: RunDirectory) -> None:
    """Each word is misheard with probability `optimizer.beta1`; the streaming head does it twice as often."""
    rng = np.random.default_rng(config.seed)
    ids = [f"u{i}" for i in range(len(SENTENCES))]
    scored = []
    decoders = {"greedy": config.optimizer.beta1}
    if order := config.evaluation.ngram_order:
        # Another weight for each seed, as tuning finds.
        name = f"beam 16, word {order}-gram lm.arpa weight {config.seed + 0.5:g} bonus 2, tuned on dev"
        decoders[name] = config.optimizer.beta1 / 2
    for split in config.data.test:
        for (decoder, rate), (head, times) in itertools.product(
            decoders.items(), (("streaming", 2), ("full_context", 1))
        ):
            heard = [
                " ".join(word if rng.uniform() > times * rate else "what" for word in text.split())
                for text in SENTENCES
            ]
            scored += score(
                ids,
                SENTENCES,
                heard,
                [1.0] * len(ids),
                split=split,
                head=head,
                decoder=decoder,
                subset_of=lambda word: "text_only" if word == "name" else "heard",
            )
    rows = make_rows(scored, normalizer="none v1", step=config.training.steps)
    table = run.evaluation(config.training.steps, config.data.test, decoders)
    write_rows(rows, table)
    utterances = table.with_suffix(".jsonl")
    write_utterances(scored, utterances)
    if order:
        fingerprints = {decoder: decoder for decoder in decoders}
        origin = Origin.of(run, config.training.steps, "none v1", config.data.test, fingerprints, config.window_seconds)
        utterances.with_suffix(SUFFIX).write_text(origin.content(utterances.read_text()))


if __name__ == "__main__":
    main(*sys.argv[1:])
