"""Compares confidence measures: functions of a head's outputs for a word's labels that predict whether the word is
correct.

    python benchmarks/confidence.py RUN [--data NAME=SOURCE] [--decoder greedy|beam]

For each head it prints the log loss on half of the speakers, with a temperature (`joint_st.word_times.confidence`)
fitted on the other half, the calibration error there before and after, and the AUC. The data are the config's dev set
by default. The entropies (Laptev and Ginsburg, arXiv 2212.08703) need heads whose emissions are logits.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from joint_st.cli.options import quiet_libraries, read_sources
from joint_st.data.scripts import tokens_of
from joint_st.data.text_units.units import Spelling
from joint_st.decoding.decoders import Beam, Greedy
from joint_st.decoding.forward import Forward
from joint_st.decoding.recognise import common_buckets, recognise
from joint_st.evaluation.calibration import (
    area_under_curve,
    expected_calibration_error,
    first_half,
    fit_temperature,
)
from joint_st.evaluation.tuning import development_sets
from joint_st.evaluation.wer import EQUAL, align_words
from joint_st.passes import PASSES
from joint_st.runs.trained import load_trained
from joint_st.word_times.confidence import LEAST, tempered

ALPHA = 1 / 3
"""Order of the Tsallis entropy."""


@dataclasses.dataclass(frozen=True)
class Raw:
    """A decoder that returns, with the labels, everything that the measures are computed from."""

    decoder: Greedy | Beam
    tables = None

    @property
    def name(self):
        return self.decoder.name

    def on_device(self, heads, emissions, mask, mesh, tables):
        found = self.decoder.n_best(heads, emissions, mask, mesh, tables, 1)
        rows = []
        for head, logits, best in zip(heads, emissions, found):
            spans = head.label_spans(logits, mask, best.labels[:, 0], best.lengths[:, 0])
            log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
            entropy = -(jnp.exp(log_probs) * log_probs).sum(-1) / np.log(logits.shape[-1])
            most = logits.shape[-1] ** (1 - ALPHA)
            tsallis = (jnp.exp(ALPHA * log_probs).sum(-1) - 1) / (most - 1)
            rows.append((best.labels[:, 0], best.lengths[:, 0], *spans[:4], entropy, tsallis))
        return tuple(rows)

    def on_host(self, fetched):
        return list(zip(*fetched))


def measures(own, starts, ends, means, peaks, entropy, tsallis) -> dict[str, float]:
    """Return each confidence of the word whose labels are `own`."""
    frames = np.concatenate([np.arange(starts[u], ends[u]) for u in own])
    return {
        "product of labels' peaks": np.prod(peaks[own]),
        "product of labels' means over frames": np.prod(means[own]),
        "least peak of a label": peaks[own].min(),
        "geometric mean of labels' peaks": np.exp(np.log(peaks[own] + 1e-9).mean()),
        "mean posterior over all frames": np.average(means[own], weights=(ends - starts)[own]),
        "mean of the frames' normalised entropies": 1 - entropy[frames].mean(),
        "mean of their Tsallis entropies (1 / 3)": 1 - tsallis[starts[own[0]] : ends[own[-1]]].mean(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", metavar="NAME=SOURCE", nargs="+", default=[])
    parser.add_argument("--decoder", choices=("greedy", "beam"), default="greedy")
    arguments = parser.parse_args()
    quiet_libraries()
    trained = load_trained(arguments.run)
    decoder = Raw(Greedy() if arguments.decoder == "greedy" else Beam())
    datasets = development_sets(trained, read_sources(arguments.data), {}, "--data")
    forward = Forward(trained.config, trained.symbols.sizes, trained.mesh, [decoder])
    buckets = common_buckets(trained.config, list(datasets.values()))
    spelling = Spelling(trained.tokenizer)
    words = {head: [] for head in PASSES}
    for name, dataset in datasets.items():
        with jax.set_mesh(trained.mesh):
            heard = list(
                recognise(
                    forward,
                    trained.weights,
                    dataset,
                    buckets,
                    trained.mesh,
                    trained.config,
                    decoders=[decoder],
                    name=name,
                    spell=lambda found: found,
                )
            )
        for one in heard:
            entry = dataset.entry(one.index)
            reference = [word.text for word in tokens_of(trained.normalizer(entry.text))]
            for head, (labels, length, *found) in one.hypotheses[decoder.name].items():
                said, label, token = spelling.label_tokens(labels[:length].tolist())
                ops = align_words(reference, [word.text for word in said])
                for n, op in enumerate(op for op in ops if op.hypothesis is not None):
                    own = label[token == n]
                    speaker = entry.speaker or entry.id
                    words[head].append((speaker, op.kind == EQUAL, measures(own, *found)))
    for head, rows in words.items():
        half = first_half([speaker for speaker, _, _ in rows], [1] * len(rows))
        correct = np.array([right for _, right, _ in rows])
        print(f"{head}, {decoder.name}: {len(rows)} words, {100 * correct.mean():.1f} % correct")
        print(f"{'':42} log loss  ECE % before  after    AUC      T")
        for name in rows[0][2]:
            sure = np.clip([found[name] for _, _, found in rows], LEAST, 1 - LEAST)
            temperature = fit_temperature(sure[half], correct[half])
            rest, right = sure[~half], correct[~half]
            after = np.clip(tempered(rest, temperature), LEAST, 1 - LEAST)
            loss = -np.where(right, np.log(after), np.log1p(-after)).mean()
            errors = [100 * expected_calibration_error(each, right) for each in (rest, after)]
            print(
                f"{name:42} {loss:8.3f} {errors[0]:13.1f} {errors[1]:6.1f} {area_under_curve(rest, right):6.3f} "
                f"{temperature:6.2f}"
            )


if __name__ == "__main__":
    main()
