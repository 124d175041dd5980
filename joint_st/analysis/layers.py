"""The analysis of a model's layers on pairs of speech and text; compiled once, and run with the weights of any step."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import jax
import numpy as np
import tqdm

from joint_st.analysis.measure import ALIGNMENTS, DISTANCES, Found, make_forward
from joint_st.analysis.pairs import ExamplePair, NothingToCompare, choose_pairs, spread
from joint_st.analysis.report import LayerReport, Measured
from joint_st.analysis.scores import absolute_boundary_errors, chance
from joint_st.config import Config, ModelConfig
from joint_st.data.buckets import Buckets
from joint_st.data.dataset import Dataset
from joint_st.data.loader import batches, reading
from joint_st.data.plan import BatchPlan, PlannedBatch
from joint_st.data.symbols import SymbolSizes
from joint_st.decoding.long import in_one_window
from joint_st.distributed.mesh import fetch, put_batch, rows_here, rows_shared
from joint_st.errors import UserError
from joint_st.models.functional import Weights
from joint_st.ops.matching import cheapest

log = logging.getLogger(__name__)

EXAMPLES = 3
"""Number of utterances that have a figure of their own."""


def layer_names(model: ModelConfig) -> tuple[str, ...]:
    """Return the names of the depths at which speech and text are compared, [L]: the encoders' outputs, then each
    shared layer's; from the depth on at which text enters."""
    streaming = (f"streaming {k + 1}" for k in range(model.streaming_layers))
    full_context = (f"full context {k + 1}" for k in range(model.full_context_layers))
    return ("encoders", *streaming, *full_context)[model.text_depth :]


class LayerAnalysis:
    """Compares speech and text in every layer, on up to `utterances` of a dataset, evenly spread over those that one
    window of decoding holds (`Config.window_seconds`).

    The text is clean, and its units are repeated as in evaluation, so that it knows nothing of the audio's timing. The
    best alignment is the one that the run trains with, or `skip` where that one does not minimise the cost. If `chosen`
    gives the numbers of some utterances, only these are compared, and each has a figure. Raises `UserError` where the
    dataset has no text units.
    """

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        mesh: jax.sharding.Mesh,
        sizes: SymbolSizes,
        *,
        utterances: int = 64,
        chosen: Sequence[int] | None = None,
        name: str = "layers",
    ):
        self._config = config
        self._dataset = dataset
        self._mesh = mesh
        self._name = name
        # All that a layer outputs is compared, so memory grows with the square of the length.
        within = in_one_window(config, dataset)
        among, name, seconds = np.flatnonzero(within), dataset.corpus.name, config.window_seconds
        if chosen is None and len(dataset) and not len(among):
            raise NothingToCompare(f"{name}: all utterances are longer than {seconds:g} s, the most that is compared")
        if chosen is None and len(among) < len(dataset):
            log.warning(
                "%s: left out %d of %d, longer than %g s", name, len(dataset) - len(among), len(dataset), seconds
            )
        self._pairs = choose_pairs(dataset, spread(among, utterances) if chosen is None else np.unique(chosen))
        lengths = dataset.lengths[self._pairs.index]
        self._plan = _PlanOfSome(self._pairs.index, dataset, config)
        # Utterances of medium length, which can be read in a figure.
        by_length = np.argsort(lengths, kind="stable")
        some = by_length
        if chosen is None:
            some = by_length[np.linspace(0, len(lengths) - 1, EXAMPLES + 2).astype(int)[1:-1]]
        self._examples = list(dict.fromkeys(some.tolist()))
        matching = config.losses.matching
        self._best = cheapest(matching.alignment)
        self._forward = make_forward(config, sizes, self._best, mesh)

    def __call__(self, weights: Weights) -> LayerReport:
        """Return the report of a model with `weights`. Utterances that cannot be read are left out.

        Raises `UserError` where none can be read.
        """
        config = self._config
        read = batches(
            self._dataset,
            self._plan,
            parts=rows_here(self._mesh),
            shared=rows_shared(self._mesh),
            **reading(config.data),
        )
        parts, examples = [], {}
        total = self._plan.steps_per_epoch
        for batch in tqdm.tqdm(read, self._name, total, unit="batch", leave=False, disable=None, delay=1):
            paired = batch.arrays["paired"]
            here = np.searchsorted(self._pairs.index, batch.local_rows["paired"]).astype(np.int32)
            here = np.where(paired["valid"], here, np.int32(-1))
            inputs = put_batch(self._inputs(paired, here) | {"pair": here}, self._mesh)
            pair = fetch(inputs.pop("pair"))
            there = [n for n in self._examples if n in pair]
            # As many rows in every batch, and no more than it has: memory does not grow with the examples of others.
            rows = np.zeros(min(len(self._examples), len(pair)), np.int32)
            rows[: len(there)] = [np.argmax(pair == n) for n in there]
            key = jax.random.fold_in(jax.random.key(config.seed), batch.number)
            found = self._forward(weights, inputs, rows, key)
            costs, found = found.costs, fetch(found._replace(costs=()))
            parts += [self._numbers(found, row, n) for row, n in enumerate(pair) if n >= 0]
            for slot, n in enumerate(there):
                if found.frames[rows[slot]] and found.text_frames[rows[slot]]:  # else there is nothing to draw
                    examples[n] = self._example(found, rows[slot], n, fetch(costs[slot]))
        if not parts:
            raise UserError(f"{self._dataset.corpus.name}: none of its utterances can be read")
        return self._report(parts, [examples[n] for n in self._examples if n in examples])

    def _inputs(self, paired, pair: np.ndarray) -> dict[str, np.ndarray]:
        """Return the speech of a batch, and the units of its own texts and of the wrong ones."""
        pairs = self._pairs
        both = np.stack([pair, np.where(pair >= 0, pairs.wrong[pair], -1)], axis=1)
        return {
            "audio": paired["audio"],
            "audio_lengths": paired["audio_lengths"],
            "units": np.where(both[..., None] >= 0, pairs.units[both], 0),
            "unit_lengths": np.where(both >= 0, pairs.unit_lengths[both], 0),
        }

    def _numbers(self, found: Found, row: int, n: int) -> dict:
        """Return the measurements of pair `n`, which is in row `row` of a batch; layers come first."""
        measures, pairs = found.measures, self._pairs
        # Without a wrong text, only the distance to it is unknown.
        known = (pairs.wrong[n] >= 0) | (np.arange(len(DISTANCES)) < len(ALIGNMENTS))
        numbers = {
            name: getattr(measures, name)[:, row] for name in ("matched", "norms", "square_norms", "centres", "pooled")
        }
        numbers["distances"] = np.where(known, measures.distances[:, row], np.nan)
        numbers["feasible"] = np.all(measures.feasible[0, row] | ~known)
        numbers["frames"] = (found.frames[row], found.text_frames[row])
        numbers["pair"] = n
        true = pairs.word_times[n]
        numbers["boundaries"] = 0 if true is None else np.count_nonzero(~np.isnan(true.ravel()[1:-1]))
        positions = measures.positions[:, row, :, : found.frames[row]]
        units = np.minimum(found.unit[row][positions], len(pairs.words[n]) - 1)
        numbers["boundary_seconds"] = np.zeros(positions.shape[:2])
        if true is not None:
            for which in np.ndindex(positions.shape[:2]):
                errors = absolute_boundary_errors(
                    pairs.words[n], units[which], true, self._config.model.features.frame_seconds
                )
                numbers["boundary_seconds"][which] = np.nansum(errors)
        return numbers

    def _example(self, found: Found, row: int, n: int, costs: np.ndarray) -> ExamplePair:
        pairs, frames, text_frames = self._pairs, found.frames[row], found.text_frames[row]
        symbols = self._dataset.units.symbols
        return ExamplePair(
            id=self._dataset.id(int(pairs.index[n])),
            text=pairs.texts[n],
            layers=layer_names(self._config.model),
            costs=costs[:, :frames, :text_frames],
            positions=found.measures.positions[:, row, 0, :frames],
            unit=found.unit[row, :text_frames],
            symbols=tuple(symbols[unit] for unit in pairs.units[n, : pairs.unit_lengths[n]]),
            words=pairs.words[n],
            word_times=pairs.word_times[n],
            frame_seconds=self._config.model.features.frame_seconds,
        )

    def _report(self, parts: list[dict], examples: list[ExamplePair]) -> LayerReport:
        parts = sorted(parts, key=lambda part: part["pair"])
        columns = {name: [part[name] for part in parts] for name in parts[0]}
        alone = {name: np.array(columns.pop(name)) for name in ("feasible", "frames", "boundaries")}
        texts = [self._pairs.texts[n] for n in columns.pop("pair")]
        measured = Measured(texts=texts, **alone, **{k: np.stack(x, axis=1) for k, x in columns.items()})
        facts = {
            "alignment": self._best,
            "cost": self._config.losses.matching.cost,
            "utterances": len(texts),
            "chance": chance(texts),
            "infeasible": int(np.count_nonzero(~measured.feasible)),
        }
        return LayerReport(measured.rows(layer_names(self._config.model)), facts, examples)


class _PlanOfSome(BatchPlan):
    """A plan for one pass over some utterances of a dataset, in a single shape: padding costs less time than a second
    compilation."""

    def __init__(self, index: np.ndarray, dataset: Dataset, config: Config):
        lengths = dataset.lengths[index]
        buckets = Buckets.choose(
            lengths,
            dataset.label_lengths[index],
            count=1,
            multiple=config.model.features.samples_per_frame,
            batch_size=config.evaluation.batch_size,
        )
        super().__init__(lengths, buckets, shuffle=False)
        self._index = index

    def __getitem__(self, i: int) -> PlannedBatch:
        bucket, rows = super().__getitem__(i)
        return PlannedBatch(bucket, np.where(rows >= 0, self._index[rows], -1))
