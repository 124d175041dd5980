"""Finds the weights of fusion and of rescoring on a development split.

A hypothesis's score is linear in the weights, so once a beam's hypotheses and a language model's scores of them are
known, a whole grid of weights is tried on them at once, and a larger grid if the best point is at its edge. This
suffices for rescoring. Fusion finds other hypotheses with other weights: the search is repeated with the best weights,
and its hypotheses are added to the earlier ones, until the grid's best point no longer changes, as in minimum error
rate training (Och, "Minimum Error Rate Training in Statistical Machine Translation", 2003). The WER of the searches
then decides. The bonus of hot words is found by searches alone, from coarse steps to fine ones.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from joint_st.config import EvaluationConfig, Source
from joint_st.data.dataset import Dataset, open_paired
from joint_st.decoding.decoders import Beam, Decoder, NBestScores, Tables
from joint_st.decoding.forward import Forward
from joint_st.decoding.fusion.build import Fused
from joint_st.decoding.fusion.word_lm import WordLM
from joint_st.decoding.long import LongRecordings
from joint_st.decoding.recognise import common_buckets, recognise
from joint_st.decoding.rescoring import Rescoring, RescoringWeights
from joint_st.distributed.mesh import replicated
from joint_st.errors import UserError
from joint_st.evaluation.ranking import errors_and_length, ranking_metric
from joint_st.evaluation.wer import ALL, count_errors
from joint_st.passes import PASSES
from joint_st.runs.trained import Trained

ROUNDS = 12
"""Largest number of searches for the weights of a fused language model."""

GRID_STEP = 0.05
"""Step of the weight in a grid; the steps of the bonus are twice as large for labels, and four times for words."""
GRID_POINTS = 41
"""Number of points along each axis of the first grid."""
LARGEST = 32.0
"""Largest weight of the largest grid."""

STRETCH = 1.5
"""Factor by which the best point is moved outwards when the search no longer moves."""
STRETCHES = 2
"""How often it is moved at most, where it comes to a point that was tried and is worse: the next one may be better."""

SCALES = (2.0, 1.0, 0.5)
"""Steps of the trials for the bonus of hot words, the coarsest first, in units of the finest."""
HOT_WORD_BONUS_STEP = 2.5
MOST_TRIALS = 60

Point = tuple[float, ...]


def tuned(
    fused: Fused,
    decoders: Sequence[Decoder],
    trained: Trained,
    sources: Mapping[str, Source],
    reported: Mapping[str, Dataset],
    passes: Sequence[str] = PASSES,
    window_seconds: float | None = None,
) -> Fused:
    """Return `fused` with the weights of the lowest WER over the heads of `passes`; the smallest of equally good ones.

    If the CER ranks checkpoints (`joint_st.evaluation.ranking`), it is used instead.

    First the fused language model's weight and bonus are found, then the bonus of hot words, then those of rescoring.
    sources: sources by name; if empty, the dev set of the run's config. reported: datasets that are evaluated with the
    weights found. window_seconds: longer recordings are decoded in windows of that length; None: the run's own. Raises
    `UserError` where these share an utterance with the sources, and where there is nothing to
    tune on.
    """
    datasets = development_sets(trained, sources, reported, "--tune")
    references = References(datasets, trained.config.evaluation, passes)
    searches = functools.partial(_Search, trained=trained, references=references, window_seconds=window_seconds)
    (beam,) = (one for one in decoders if isinstance(one, Beam))
    with jax.set_mesh(trained.mesh):
        if fused.lm:
            fused = _tune_lm(fused, beam, searches, references)
        if fused.hot_words:
            fused = _tune_hot_words(fused, beam, searches, references)
        if fused.rescoring:
            fused = _tune_rescoring(fused, beam, searches, references)
    return dataclasses.replace(fused, tuned=references.names)


def development_sets(
    trained: Trained, sources: Mapping[str, Source], reported: Mapping[str, Dataset], option: str
) -> dict[str, Dataset]:
    """Return the datasets of named sources, or of the dev set of the run's config if none is named.

    Raises `UserError`, which mentions `option`, where there are neither, and where one of their utterances is also in a
    reported dataset.
    """
    config = trained.config
    sources = {name: [source] for name, source in sources.items()} or {"dev": list(config.data.dev)}
    if sources == {"dev": []}:
        raise UserError(f"{trained.run.config}: data.dev names no source; give {option} NAME=SOURCE")
    datasets = {
        name: open_paired(
            of_name, config.data, config.model.features, trained.normalizer, trained.tokenizer, training=False
        )
        for name, of_name in sources.items()
    }
    for (name, dataset), (other, evaluated) in itertools.product(datasets.items(), reported.items()):
        if shared := len(_utterances(dataset) & _utterances(evaluated)):
            raise UserError(
                f"{option} {name}: {shared} of its utterances are also in {other}, which is reported; take others"
            )
    return datasets


def _tune_lm(fused: Fused, beam: Beam, searches: Callable[..., _Search], references: References) -> Fused:
    """Return the same with the weights of the fused language model tuned."""
    fusion = fused.fusion
    judge = Rescoring(fusion.lm, RescoringWeights(1.0, 0.0, fusion.weights.unknown_penalty))
    decoder = NBestScores(dataclasses.replace(beam, fused=dataclasses.replace(fused, rescoring=judge)))
    search = searches(decoder)
    point, tried, known = (float(fusion.weights.lm), float(fusion.weights.insertion_bonus)), {}, {}
    for _ in range(ROUNDS):
        weights = fusion.weights._replace(lm=point[0], insertion_bonus=point[1])
        found = search(Tables(fusion._replace(weights=weights), judge))
        tried[point] = 0
        for row, (name, index, hypotheses) in enumerate(found):
            of_row = known.setdefault(row, {})
            for n, labels in enumerate(hypotheses.labels):
                log_prob, count = float(hypotheses.log_probs[n]), float(hypotheses.counts[n])
                without = float(hypotheses.scores[n]) - point[0] * log_prob - point[1] * count
                key = labels.tobytes()
                if key not in of_row:
                    of_row[key] = [without, log_prob, count, search.errors(name, index, labels)]
                # Another search may have pruned some of its alignments.
                of_row[key][0] = max(of_row[key][0], without)
                tried[point] += of_row[key][-1] if n == 0 else 0
        references.print_rate(tried[point], f"--lm-weight {point[0]:g} --insertion-bonus {point[1]:g}")
        *point, _ = best_on_grid(*Lists.of(known.values()), _bonus_steps(fusion.lm))
        point = tuple(point)
        if point in tried:
            # The beam has no other hypotheses there, but may have some further out: no weights can bring back what it
            # has pruned.
            point = _further_out(tried)
        if point is None:
            break
    best = _fewest(tried)
    return fused.with_weights(fusion.weights._replace(lm=best[0], insertion_bonus=best[1]))


def _tune_hot_words(fused: Fused, beam: Beam, searches: Callable[..., _Search], references: References) -> Fused:
    """Return the same with the bonus of hot words tuned."""
    fusion = fused.fusion
    first_pass = dataclasses.replace(beam, fused=dataclasses.replace(fused, rescoring=None, rescorer=""))
    search = searches(first_pass)

    def errors_at(point: Point) -> int:
        weights = fusion.weights._replace(hot_word_bonus=point[0])
        found = search(Tables(fusion._replace(weights=weights), None))
        errors = sum(search.errors(name, index, labels) for name, index, labels in found)
        references.print_rate(errors, f"--hot-word-bonus {point[0]:g}")
        return errors

    (best,) = climb(errors_at, (fusion.weights.hot_word_bonus,), (HOT_WORD_BONUS_STEP,), least=(0.0,))
    return fused.with_weights(fusion.weights._replace(hot_word_bonus=best))


def _tune_rescoring(fused: Fused, beam: Beam, searches: Callable[..., _Search], references: References) -> Fused:
    """Return the same with the weights of rescoring tuned."""
    search = searches(NBestScores(dataclasses.replace(beam, fused=fused)))
    lists = Lists.of(
        {
            labels.tobytes(): [score, log_prob, count, search.errors(name, index, labels)]
            for labels, score, log_prob, count in zip(*hypotheses, strict=True)
        }
        for name, index, hypotheses in search(search.decoder.tables)
    )
    weight, bonus, fewest = best_on_grid(*lists, _bonus_steps(fused.rescoring.lm))
    references.print_rate(fewest, f"--rescore-weight {weight:g} --rescore-bonus {bonus:g}")
    least = np.where(np.isfinite(lists.scores), lists.errors, lists.errors.max()).min(axis=1).sum()
    references.print_rate(int(least), "the best hypothesis of each beam, which no weights can better")
    return fused.with_rescoring(fused.rescoring.weights._replace(weight=weight, bonus=bonus))


class References:
    """The normalised transcripts of some datasets, which the heads of `passes` decode."""

    def __init__(self, datasets: Mapping[str, Dataset], config: EvaluationConfig, passes: Sequence[str] = PASSES):
        self.datasets = datasets
        self.passes = tuple(passes)
        self.names = ", ".join(datasets)
        self._texts = {name: list(one.texts()) for name, one in datasets.items()}
        texts = [text for texts in self._texts.values() for text in texts]
        self._metric = ranking_metric(config, texts)
        self._lengths: dict[tuple[str, int], int] = {}
        if not any(text.split() for text in texts):
            raise UserError(f"--tune {self.names}: its transcripts hold no words; give another source")

    def errors(self, name: str, index: int, text: str) -> int:
        """Return the errors in a text as the hypothesis for an utterance."""
        said = self.datasets[name].normalizer(text)
        counted = count_errors(self._texts[name][index], said)[ALL]
        errors, self._lengths[name, index] = errors_and_length(counted, self._metric)
        return errors

    def print_rate(self, errors: int, what: str) -> None:
        """Print the error rate of all heads together, over the utterances that could be read."""
        length = len(self.passes) * sum(self._lengths.values())
        rate = f"{100 * errors / length:.1f} %" if length else "-"
        print(f"{self.names}: {self._metric.upper()} {rate} with {what}", file=sys.stderr)


class _Search:
    """A search over every utterance and head; compiled once, and run with tables of any weights."""

    def __init__(
        self,
        decoder: Beam | NBestScores,
        trained: Trained,
        references: References,
        window_seconds: float | None = None,
    ):
        self.decoder = decoder
        self._trained = trained
        self._references = references
        model = (trained.config, trained.symbols.sizes, trained.mesh, [decoder], references.passes)
        self._forward = Forward(*model)
        self._long = LongRecordings(*model, window_seconds=window_seconds or trained.config.window_seconds)
        self._buckets = common_buckets(trained.config, list(references.datasets.values()), self._long.longest)

    def __call__(self, tables: Tables) -> Iterator[tuple[str, int, Any]]:
        """Yield dataset, index, and what `decoder.on_host` returns, always in the same order."""
        tables = jax.device_put(tables, replicated(self._trained.mesh))
        decode, long = (functools.partial(one, tables=(tables,)) for one in (self._forward, self._long))
        for name, dataset in self._references.datasets.items():
            nothing = True
            for one in recognise(
                decode,
                self._trained.weights,
                dataset,
                self._buckets,
                self._trained.mesh,
                self._trained.config,
                decoders=[self.decoder],
                passes=self._references.passes,
                long=long,
                name=name,
                spell=lambda found: found,
            ):
                nothing = False
                for by_head in one.hypotheses.values():
                    for head in self._references.passes:
                        yield name, one.index, by_head[head]
            if nothing:
                raise UserError(f"{name}: none of its {len(dataset)} utterances can be read; correct the source")

    def errors(self, name: str, index: int, labels: np.ndarray) -> int:
        """Return the errors in the text of labels as the hypothesis for an utterance."""
        return self._references.errors(name, index, self._trained.tokenizer.decode(labels))


def _bonus_steps(lm) -> int:
    return 4 if isinstance(lm, WordLM) else 2


def _fewest(tried: Mapping[Point, int]) -> Point:
    """Return the point with the fewest errors; the smallest of equally good ones."""
    return min(tried, key=lambda point: (tried[point], tuple(map(abs, point))))


def _further_out(tried: Mapping[Point, int]) -> Point | None:
    """Return the outermost of the points with the fewest errors, moved outwards to one that was not tried; None where there
    is none."""
    fewest = min(tried.values())
    point = max((point for point in tried if tried[point] == fewest), key=lambda point: tuple(map(abs, point)))
    for _ in range(STRETCHES):
        point = tuple(round(STRETCH * x, 6) for x in point)
        if point not in tried:
            return point
    return None


class Lists(NamedTuple):
    """The hypotheses of M utterances, [M, N]; scores are -inf where there is none."""

    scores: np.ndarray
    log_probs: np.ndarray
    counts: np.ndarray
    errors: np.ndarray

    @classmethod
    def of(cls, rows: Iterable[Mapping[Any, Sequence[float]]]) -> Lists:
        """Make the lists from score, log probability, length and errors of each hypothesis, by row."""
        rows = [list(row.values()) for row in rows]
        table = np.zeros((len(rows), max(map(len, rows)), 4))
        table[..., 0] = -np.inf
        for row, hypotheses in zip(table, rows):
            row[: len(hypotheses)] = hypotheses
        return cls(*np.moveaxis(table[..., :3], 2, 0), table[..., 3].astype(int))


def best_on_grid(scores, log_probs, counts, errors, bonus_steps: int) -> tuple[float, float, int]:
    """Return the weight and the bonus with which the best-scored hypotheses of the lists have the fewest errors, and
    their number.

    bonus_steps: steps from one bonus to the next, in units of `GRID_STEP`. The smallest of equally good points is
    taken; if it is at the upper edge of the weights, or at either edge of the bonuses, a grid twice as wide, with steps
    twice as large, is tried too.
    """
    rows, wide = np.arange(len(errors)), 1
    trials: dict[Point, int] = {}
    while True:
        weights = wide * GRID_STEP * np.arange(GRID_POINTS)
        bonuses = wide * bonus_steps * GRID_STEP * (np.arange(GRID_POINTS) - GRID_POINTS // 2)
        for weight, bonus in itertools.product(weights, bonuses):
            chosen = np.argmax(scores + weight * log_probs + bonus * counts, axis=1)
            trials[round(float(weight), 6), round(float(bonus), 6)] = int(errors[rows, chosen].sum())
        best = _fewest(trials)
        inside = best[0] < weights[-1] - GRID_STEP / 2 and abs(best[1]) < bonuses[-1] - GRID_STEP / 2
        if inside or weights[-1] >= LARGEST:
            return *best, trials[best]
        wide *= 2


def climb(
    errors_at: Callable[[Point], int], start: Point, steps: Point, least: Point, most: int = MOST_TRIALS
) -> Point:
    """Return the point with the fewest errors found by trying all neighbours of the best one, until none is better.

    It starts with the coarsest of `SCALES` times `steps` and continues with finer ones. The point has neighbours on all
    sides that were tried, unless there were `most` trials before, or it is at `least`. The smallest of equally good
    points is taken.
    """
    tried: dict[Point, int] = {}
    best = tuple(float(max(x, low)) for x, low in zip(start, least))
    for scale in SCALES:
        while True:
            around = itertools.product(*((x, x - scale * step, x + scale * step) for x, step in zip(best, steps)))
            for point in around:
                inside = all(x >= low for x, low in zip(point, least))
                if inside and point not in tried and len(tried) < most:
                    tried[point] = errors_at(point)
            found = _fewest(tried)
            if found == best:
                break
            best = found
    return best


def _utterances(dataset: Dataset) -> set[tuple[str, str]]:
    """Return each utterance by its name and its text, since many corpora use the same names."""
    return {(dataset.id(i), dataset.text(i)) for i in range(len(dataset))}
