"""What a run opens before its first step: its texts' tokenizer and units, its state, and a word to the reader."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
import time

from joint_st import storage
from joint_st.config import Config
from joint_st.data.buckets import Buckets
from joint_st.data.dataset import Dataset, open_paired, open_texts
from joint_st.data.index import Indexes
from joint_st.data.normalizers import Normalizer
from joint_st.data.pipeline import text_plan, training_plan
from joint_st.data.plan import BatchPlan, PlannedBatch
from joint_st.data.text_units import Units, load_units
from joint_st.data.texts import learn_from_texts
from joint_st.data.tokenizers import DESCRIPTION, Tokenizer, load_tokenizer
from joint_st.distributed.mesh import describe
from joint_st.distributed.peers import current
from joint_st.models.functional import count_weights
from joint_st.runs.checkpoints import Checkpoints
from joint_st.runs.directory import RunDirectory
from joint_st.training.step import TrainState, make_init, state_shapes


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """What a run trains on, and the plans of its batches."""

    tokenizer: Tokenizer
    units: Units | None
    paired: Dataset
    plan: BatchPlan
    dev: Dataset | None
    text: Dataset | None
    text_plan: BatchPlan | None
    text_first: int
    """Batches at the beginning that are of text alone."""

    @property
    def unit_count(self) -> int:
        """Size of the inventory of text units; 0 where there is no text encoder."""
        return self.units.size if self.units else 0

    @property
    def text_buckets(self) -> Buckets | None:
        """Of sentences; None where no batches hold text alone."""
        return self.text_plan.buckets if self.text else None

    @property
    def text_and_plan(self) -> tuple[Dataset, BatchPlan] | None:
        """What text-only batches are made of."""
        return (self.text, self.text_plan) if self.text else None

    def planned(self, i: int) -> PlannedBatch | None:
        """The paired part of batch `i`; None where it is of text alone."""
        return None if i < self.text_first else self.plan[i - self.text_first]

    def buckets_of(self, i: int) -> tuple[int | None, int]:
        """The audio's bucket of batch `i` (None without audio), and the text's (0 where there is no text)."""
        planned = self.planned(i)
        return planned.bucket if planned else None, self.text_plan[i].bucket if self.text else 0

    @property
    def fingerprint(self) -> str:
        """Changes with the lengths of the utterances and sentences, and so with the batch plan."""
        digest = hashlib.sha256(self.paired.lengths.tobytes() + self.paired.label_lengths.tobytes())
        if self.units:
            digest.update(self.paired.unit_lengths.tobytes())
        if self.text:
            digest.update(self.text.unit_lengths.tobytes() + self.text.label_lengths.tobytes())
        return digest.hexdigest()[:16]

    @property
    def fingerprint_of_all(self) -> str:
        """Changes with the lengths of the dev set too."""
        return self.fingerprint + (self.dev.fingerprint if self.dev else "")


def open_data(config: Config, run: RunDirectory, normalize: Normalizer) -> TrainingData:
    """Everything a run reads, as its config and its directory say."""
    began, indexes = time.perf_counter(), Indexes(config.data.index_cache, normalize)
    tokenizer, units = open_inventories(config, run, indexes)
    made_with = config.data, config.model.features, normalize, tokenizer, units

    def opened(sources, training):
        return open_paired(sources, *made_with, training=training, indexes=indexes)

    paired = opened(config.data.train, True)
    text = (
        open_texts(config.data, normalize, tokenizer, units, indexes=indexes) if config.data.text_batch_size else None
    )
    data = TrainingData(
        tokenizer,
        units,
        paired,
        training_plan(paired, config.data, config.seed),
        opened(config.data.dev, False) if config.data.dev else None,
        text,
        text_plan(text, config.data, config.seed) if text else None,
        config.training.text_first_steps,
    )
    data.buckets_of(data.text_first)
    say(indexes.describe(time.perf_counter() - began))
    return data


def open_inventories(config: Config, run: RunDirectory, indexes: Indexes) -> tuple[Tokenizer, Units | None]:
    """The run's tokenizer and text units; made with the vocabulary from the training texts where it has none yet."""
    if not (run.tokenizer / DESCRIPTION).exists():
        # Elsewhere until all are whole, the tokenizer last: the process may be killed at any moment.
        with storage.draft_folder(run.root / ".texts") as draft:
            learnt = learn_from_texts(config, indexes)
            learnt.tokenizer.save(draft / "tokenizer")
            learnt.vocabulary.save(draft)
            if learnt.units:
                learnt.units.save(draft / "units")
                storage.move_into_place(draft / "units", run.units)
            storage.move_into_place(draft / run.vocabulary.name, run.vocabulary)
            storage.move_into_place(draft / "tokenizer", run.tokenizer, last=DESCRIPTION)
    return load_tokenizer(run.tokenizer), load_units(run.units) if config.data.units.kind != "none" else None


def open_state(config: Config, vocabulary: int, units: int, mesh, checkpoints: Checkpoints) -> TrainState:
    """The state to start from: the run's latest complete checkpoint, or fresh weights."""
    latest = checkpoints.latest()
    if latest is None:
        return make_init(config, vocabulary, units, mesh)()
    return checkpoints.restore(latest, state_shapes(config, vocabulary, units, mesh))


def introduce(config: Config, run: RunDirectory, data: TrainingData, state: TrainState, mesh) -> None:
    """Print the derived numbers before anything long begins."""
    features, plan = config.model.features, data.plan
    sizes, bounds = plan.buckets.batch_sizes, plan.buckets.bounds
    seconds = max(size * bound for size, bound in zip(sizes, bounds)) / features.sample_rate
    start = int(state.step)
    begin = f"goes on from step {start} of" if start else "starts;"
    read = f", {data.unit_count} text units" if data.units else ""
    say(f"{config.name} in {run.root} {begin} {config.training.steps} steps")
    say(f"model    {count_weights(state.params):,} parameters, {data.tokenizer.size} labels, blank included{read}")
    say(f"devices  {describe(mesh)}")
    say(f"train    {data.paired.describe()}")
    if data.dev:
        say(f"dev      {data.dev.describe()}")
    say(f"batches  up to {seconds:.0f} audio-seconds: {plan.describe(features.sample_rate, 's')}")
    if data.text:
        say(f"text     {data.text.describe()}")
        first = f"; the first {data.text_first} steps are on text alone" if data.text_first else ""
        say(f"beside   {data.text_plan.describe(1, 'units')}{first}")


def say(line: str) -> None:
    """One line of progress, on stderr with the bars; of process 0 where there are several."""
    if current().is_first:
        print(line, file=sys.stderr, flush=True)
