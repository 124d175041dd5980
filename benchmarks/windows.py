"""WER of long recordings for several lengths of windows, compared with that of their separate sentences.

    python benchmarks/windows.py RUN [--data NAME=SOURCE] [--windows 6 8 10 15 30 60] [--minutes 2] [--recordings 5]

The utterances of a source (the config's dev set by default, so that nothing is chosen on a test split) are joined,
without a pause between them, into recordings of about so many minutes, which are decoded greedily. Seconds are those
of decoding after compilation.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import jax
import numpy as np

from joint_st.cli.options import quiet_libraries, read_sources
from joint_st.data.dataset import open_paired
from joint_st.decoding.decoders import Greedy
from joint_st.decoding.long import LongRecordings
from joint_st.distributed.mesh import keep_compiled
from joint_st.evaluation.wer import ALL, count_errors, total
from joint_st.passes import PASSES
from joint_st.runs.trained import load_trained


def join(dataset, samples: int, count: int) -> list[list[int]]:
    """Indices of the utterances of each recording of at least so many samples; `count` at most."""
    recordings, length = [[]], 0
    for i in range(len(dataset)):
        if length >= samples:
            if len(recordings) == count:
                break
            recordings.append([])
            length = 0
        recordings[-1].append(i)
        length += int(dataset.lengths[i])
    return recordings


def wers(texts, references, normalizer) -> dict[str, float]:
    return {
        head: total(
            count_errors(reference, normalizer(text[head]))[ALL] for text, reference in zip(texts, references)
        ).wer
        for head in PASSES
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", metavar="NAME=SOURCE", nargs="+", default=[])
    parser.add_argument("--windows", metavar="SECONDS", type=float, nargs="+", default=[6, 8, 10, 15, 30, 60])
    parser.add_argument("--context", metavar="SECONDS", type=float)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--recordings", type=int, default=5)
    arguments = parser.parse_args()
    quiet_libraries()
    trained = load_trained(arguments.run)
    config = trained.config
    keep_compiled(config.training.compilation_cache)
    sources = list(read_sources(arguments.data).values()) or list(config.data.dev)
    features = config.model.features
    dataset = open_paired(sources, config.data, features, trained.normalizer, trained.tokenizer, training=False)
    recordings = join(dataset, int(60 * arguments.minutes * features.sample_rate), arguments.recordings)
    heard = {i: dataset.load(i).audio for indices in recordings for i in indices}
    joined = [np.concatenate([heard[i] for i in indices]) for indices in recordings]
    seconds = sum(map(len, joined)) / features.sample_rate
    print(f"{len(heard)} utterances in {len(joined)} recordings of {seconds:.0f} s; WER %")
    print("                 " + "".join(f"{head:>14}" for head in PASSES) + "   seconds")

    def decode(audios, window):
        decoder = LongRecordings(
            config,
            trained.symbols.sizes,
            trained.mesh,
            [Greedy()],
            PASSES,
            window_seconds=window,
            context_seconds=arguments.context,
        )
        decoder(trained.weights, audios[0])
        began = time.perf_counter()
        found = [decoder(trained.weights, audio)["greedy"] for audio in audios]
        texts = [{head: trained.tokenizer.decode(labels) for head, labels in one.items()} for one in found]
        return texts, time.perf_counter() - began

    def show(name, texts, references, seconds):
        rates = wers(texts, references, trained.normalizer)
        print(f"{name:17}" + "".join(f"{100 * rates[head]:14.1f}" for head in PASSES) + f"{seconds:10.1f}", flush=True)

    with jax.set_mesh(trained.mesh):
        longest = max(map(len, heard.values())) / features.sample_rate
        texts, seconds = decode(list(heard.values()), longest + 1)
        show("heard apart", texts, [dataset.text(i) for i in heard], seconds)
        references = [" ".join(dataset.text(i) for i in indices) for indices in recordings]
        for window in arguments.windows:
            texts, seconds = decode(joined, window)
            show(f"windows of {window:g} s", texts, references, seconds)


if __name__ == "__main__":
    main()
