"""Reads batches without threads and with threads; prints audio-seconds per second.

    python benchmarks/input_pipeline.py [MANIFEST]

Each way takes its turn in every round, so that whatever else the machine does falls on all alike; compare the
ratios of one run. Without a manifest, utterances of noise are written as FLAC, two thirds at 16 kHz and one
third at 44.1 kHz.

On 2 CPU cores that other jobs kept busy too, over no threads (two runs each; processes were measured when loaders could
still be sent to them):

                                    noise, FLAC    Common Voice, MP3    Arctic, Opus
    8 threads                       1.09, 1.59     1.14, 2.45           1.12, 1.18
    whole batches, Grain threads    1.03, 0.95     1.20, 1.17           1.21, 1.21
    2 processes                     1.00, 0.80     1.02, 0.95           1.08, 1.20
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grain
import numpy as np
import soundfile

from joint_st.config import DataConfig, FeaturesConfig, ManifestSource
from joint_st.data.batch import Batch
from joint_st.data.dataset import Dataset, open_paired
from joint_st.data.loader import BatchLoader, Numbers, batches
from joint_st.data.normalizers import normalizer
from joint_st.data.plan import BatchPlan, training_plan
from joint_st.data.tokenizers import Characters

ROUNDS = 3
BATCHES = 12
"""Batches that are timed in a round."""

RUN_UP = 6
"""Batches before them, until buffers hold what they hold in the long run."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", nargs="?", help="JSONL manifest; synthetic noise where none is given")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        prepared, plan = _dataset(arguments.manifest or _noise(Path(folder)))
        print(prepared.describe())
        print(plan.describe(16000, "s"))
        _compare(
            {
                "no threads": lambda start: _no_threads(prepared, plan, start),
                "1 thread": lambda start: _threads(prepared, plan, start, 1),
                "4 threads": lambda start: _threads(prepared, plan, start, 4),
                "8 threads": lambda start: _threads(prepared, plan, start, 8),
                "whole batches in 4 Grain threads": lambda start: _grain_threads(prepared, plan, start, 4),
            }
        )


def _no_threads(prepared: Dataset, plan: BatchPlan, start: int) -> Iterator[Batch]:
    return map(BatchLoader(prepared, plan), itertools.count(start))


def _threads(prepared: Dataset, plan: BatchPlan, start: int, threads: int) -> Iterator[Batch]:
    yield from batches(prepared, plan, start=start, read_threads=threads, prefetch=4)


def _grain_threads(prepared: Dataset, plan: BatchPlan, start: int, threads: int) -> Iterator[Batch]:
    numbers = grain.MapDataset.source(Numbers(start, sys.maxsize))
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    return iter(numbers.map(BatchLoader(prepared, plan)).to_iter_dataset(options))


def _compare(ways: dict[str, Callable[[int], Iterator[Batch]]]):
    rates = {name: [] for name in ways}
    for round_number in range(ROUNDS):
        for name, open_iterator in ways.items():
            iterator = open_iterator(round_number * (RUN_UP + BATCHES))
            for _ in range(RUN_UP):
                next(iterator)
            begin = time.perf_counter()
            samples = sum(
                int(batch.arrays["paired"]["audio_lengths"].sum()) for batch in itertools.islice(iterator, BATCHES)
            )
            rates[name].append(samples / 16000 / (time.perf_counter() - begin))
            if hasattr(iterator, "close"):
                iterator.close()  # `map` has nothing to close
    base = rates["no threads"]
    print(f"{'':34s}{'audio-s/s':>10s}{'ratio':>8s}")
    for name, found in rates.items():
        ratio = statistics.median(ours / theirs for ours, theirs in zip(found, base))
        print(f"{name:34s}{statistics.median(found):10.0f}{ratio:8.2f}")


def _dataset(manifest: str) -> tuple[Dataset, BatchPlan]:
    features = FeaturesConfig()
    data = DataConfig(train=(ManifestSource(path=manifest),))
    tokenizer = Characters(" 'abcdefghijklmnopqrstuvwxyz")
    prepared = open_paired(data.train, data, features, normalizer("english"), tokenizer, training=True)
    return prepared, training_plan(prepared, data, seed=0)


def _noise(folder: Path) -> str:
    random = np.random.default_rng(0)
    lines = []
    for i, rate in enumerate([16000] * 400 + [44100] * 200):
        seconds = random.uniform(1, 8)
        soundfile.write(folder / f"{i}.flac", random.normal(0, 0.05, round(seconds * rate)), rate)
        lines.append(json.dumps({"audio_filepath": f"{i}.flac", "duration": seconds, "text": "noise"}))
    (folder / "manifest.jsonl").write_text("\n".join(lines))
    return str(folder / "manifest.jsonl")


if __name__ == "__main__":
    main()
