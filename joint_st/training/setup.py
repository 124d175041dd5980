"""Opens what a run needs before its first step: its inventories, its data and their plans, its state."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
import time
from collections.abc import Iterator

import jax
import numpy as np

from joint_st import storage
from joint_st.config import Config, FeaturesConfig, LmConfig, SpecAugmentConfig, TextConfig
from joint_st.data.batch import Batch, Shape
from joint_st.data.buckets import Buckets
from joint_st.data.confusions import Confusions, read_confusions
from joint_st.data.dataset import Dataset, open_paired, open_texts
from joint_st.data.index import Indexes
from joint_st.data.loader import batches, reading
from joint_st.data.normalizers import Normalizer, misfit
from joint_st.data.paths import expand
from joint_st.data.plan import Along, BatchPlan, text_plan, training_plan
from joint_st.data.symbols import Symbols, save_languages
from joint_st.data.texts import learn_from_texts, open_indexes
from joint_st.data.tokenizers import DESCRIPTION
from joint_st.distributed.mesh import describe, rows_here, rows_shared
from joint_st.distributed.peers import current
from joint_st.models.front_end import SEEN
from joint_st.models.functional import count_weights
from joint_st.runs.checkpoints import Checkpoints
from joint_st.runs.directory import RunDirectory
from joint_st.runs.trained import read_symbols
from joint_st.training.compilation import shapes_of_batches
from joint_st.training.optimizer import shrinkage
from joint_st.training.step import make_init, state_shapes
from joint_st.training.weights import Start, starting_state


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """The training data of a run, and the plans of its batches."""

    symbols: Symbols
    paired: Dataset
    plan: BatchPlan
    dev: Dataset | None
    text: Dataset | None
    text_plan: BatchPlan | None
    text_first: int
    """Number of text-only batches at the beginning."""
    text_from: int = 0
    """Number of batches at the beginning without text-only rows; 0 where there are no such rows at all."""
    confusions: Confusions | None = None
    """The counts by which units of text are confused."""

    @property
    def text_buckets(self) -> dict[str, Buckets]:
        """The buckets of text-only batches; empty where there are none."""
        return {"text": self.text_plan.buckets} if self.text_plan else {}

    @property
    def speech_buckets(self) -> dict[str, Buckets]:
        """The buckets of batches of speech alone."""
        return {"paired": self.plan.buckets}

    @property
    def buckets(self) -> dict[str, Buckets]:
        """The buckets of each part of the other batches."""
        return self.speech_buckets | self.text_buckets

    def shapes(self, steps: int) -> tuple[Shape, ...]:
        """Return the shapes of the batches that hold all parts, in a training of that many steps."""
        if min(map(len, self.buckets.values())) == 1 or not self.text_plan:
            return tuple(shapes_of_batches(self.buckets))
        first = max(self.text_first, self.text_from)
        paired = self.plan.buckets_of(first - self.text_first, steps - self.text_first)
        text = self.text_plan.buckets_of(first - self.text_from, steps - self.text_from)
        return tuple(sorted({Shape(*pair) for pair in zip(paired.tolist(), text.tolist())}))

    def batches(self, config: Config, mesh: jax.sharding.Mesh, start: int) -> Iterator[Batch]:
        """Yield batches from number `start` on, with this host's rows."""
        return batches(
            self.paired,
            self.plan,
            text=(self.text, self.text_plan) if self.text else None,
            text_first=self.text_first,
            text_from=self.text_from,
            languages=self.symbols.languages,
            start=start,
            parts=rows_here(mesh),
            shared=rows_shared(mesh),
            **reading(config.data),
        )

    @property
    def fingerprint(self) -> str:
        """Return a fingerprint of the lengths of utterances and sentences, and so of the batch plan."""
        return _fingerprint(*self._lengths.values())

    @property
    def fingerprint_by_field(self) -> dict[str, str]:
        """Return a fingerprint for each field of the config whose utterances or sentences are trained on."""
        return {field: _fingerprint(lengths) for field, lengths in self._lengths.items()}

    @property
    def texts_by_field(self) -> dict[str, str]:
        """Return a fingerprint of the texts of each field of the config that a run trains on or is ranked by."""
        sets = {"data.train": self.paired, "data.text": self.text, "data.dev": self.dev}
        return {field: data.fingerprint_of_texts for field, data in sets.items() if data}

    @property
    def _lengths(self) -> dict[str, bytes]:
        lengths = {"data.train": self.paired.lengths.tobytes() + self.paired.label_lengths.tobytes()}
        if self.symbols.units:
            lengths["data.train"] += self.paired.unit_lengths.tobytes()
        if self.text:
            lengths["data.text"] = self.text.unit_lengths.tobytes() + self.text.label_lengths.tobytes()
        return lengths

    @property
    def fingerprint_of_all(self) -> str:
        """Return a fingerprint that includes the lengths of the dev set."""
        return self.fingerprint + (self.dev.fingerprint if self.dev else "")


def _fingerprint(*contents: bytes) -> str:
    return hashlib.sha256(b"".join(contents)).hexdigest()[:16]


def open_data(config: Config, run: RunDirectory, normalize: Normalizer) -> TrainingData:
    """Open everything that a run reads, according to its config and its directory."""
    began, indexes = time.perf_counter(), Indexes(config.data.index_cache, normalize)
    symbols = open_symbols(config, run, indexes)

    def opened(sources, training):
        made_with = config.data, config.model.features, normalize, symbols.labels, symbols.units
        return open_paired(sources, *made_with, training=training, indexes=indexes)

    paired = opened(config.data.train, True)
    text = None
    if config.data.text_batch_size:
        text = open_texts(config.data, normalize, symbols.labels, symbols.units, indexes=indexes)
    training, plan = config.training, training_plan(paired, config.data, config.seed)
    along = Along(plan, training.text_from_step - training.text_first_steps, training.steps - training.text_first_steps)
    data = TrainingData(
        symbols,
        paired,
        plan,
        opened(config.data.dev, False) if config.data.dev else None,
        text,
        text_plan(text, config.data, config.seed, along) if text else None,
        training.text_first_steps,
        training.text_from_step if text else 0,
        open_confusions(config, run, symbols) if config.text.confusions else None,
    )
    _ = data.plan[0], data.text_plan and data.text_plan[0]  # kept for the job, and part of the measured time
    log(indexes.describe(time.perf_counter() - began))
    return data


def open_confusions(config: Config, run: RunDirectory, symbols: Symbols) -> Confusions:
    """Read the counts that `text.confusions` names, and keep a copy in the run, which later starts read."""
    units = symbols.units.symbols
    if run.text_confusions.is_file():
        return read_confusions(run.text_confusions, units)
    path = expand(config.text.confusions)
    counts = read_confusions(path, units)
    storage.write_whole(run.text_confusions, path.read_bytes())
    return counts


def open_symbols(config: Config, run: RunDirectory, indexes: Indexes | None = None) -> Symbols:
    """Open the run's inventories; if it has none yet, make them and the vocabulary from the training texts.

    indexes: the indexes of the job, if it has opened its sources already.
    """
    if not (run.tokenizer / DESCRIPTION).exists():
        # Written elsewhere until all are complete, the tokenizer last, because the process may be killed at any moment.
        with storage.draft_folder(run.root / ".texts") as draft:
            symbols, vocabulary = learn_from_texts(config, indexes or open_indexes(config))
            symbols.labels.save(draft / "tokenizer")
            vocabulary.save(draft)
            save_languages(symbols.languages, draft)
            if symbols.units:
                symbols.units.save(draft / "units")
                storage.move_into_place(draft / "units", run.units)
            for path in (run.vocabulary, run.languages):
                storage.move_into_place(draft / path.name, path)
            run.sum_up_inventories(draft / "tokenizer")
            storage.move_into_place(draft / "tokenizer", run.tokenizer, last=DESCRIPTION)
    return read_symbols(config, run)


def open_state(config: Config, symbols: Symbols, mesh, checkpoints: Checkpoints) -> Start:
    """Return the starting state: from the latest complete checkpoint, from another run's weights, or fresh."""
    return starting_state(
        config,
        checkpoints,
        symbols,
        lambda sizes: state_shapes(config, sizes, mesh),
        lambda: make_init(config, symbols.sizes, mesh)(),
    )


def print_summary(config: Config, run: RunDirectory, data: TrainingData, begun: Start, mesh) -> None:
    """Print the derived numbers before anything long begins."""
    features, plan, symbols = config.model.features, data.plan, data.symbols
    sizes, bounds = plan.buckets.batch_sizes, plan.buckets.bounds
    seconds = features.seconds(max(size * bound for size, bound in zip(sizes, bounds)))
    read = f", {symbols.sizes.units} text units" if symbols.units else ""
    print_start(config, run, begun)
    log(
        f"model    {count_weights(begun.state.params):,} parameters, {symbols.sizes.labels} labels, blank included{read}"
    )
    log(f"devices  {describe(mesh)}")
    log(f"train    {data.paired.describe()}")
    if data.dev:
        log(f"dev      {data.dev.describe()}")
    log(f"batches  up to {seconds:.0f} audio-seconds: {plan.describe(features.sample_rate, 's')}")
    if data.confusions:
        log(f"text     {data.confusions.describe(config.text.confusion_scale)}")
    if data.text:
        log(f"text     {data.text.describe()}")
        first = f"; the first {data.text_first} steps are on text alone" if data.text_first else ""
        when = f"from step {data.text_from + 1} on" if data.text_from else "in each step too"
        log(f"batches  of text, {when}: {data.text_plan.describe(1, 'text units')}{first}")
        if remark := _too_short(config.text, data.text):
            log(f"warning  {remark}")
    if remark := _narrow_masks(config.spec_augment, data.paired.seconds / len(data.paired), features):
        log(f"warning  {remark}")
    print_decay(config)
    if remark := misfit(config.data.normalizer, (*symbols.languages, *config.data.units.languages)):
        log(f"warning  {remark}")
    for unused in config.unused:
        log(f"warning  {unused}")


def print_decay(config: Config | LmConfig) -> None:
    """Print what weight decay comes to over a run, which depends on the steps and the learning rates as well."""
    held = config.training.text_first_steps if isinstance(config, Config) else 0
    if config.optimizer.weight_decay:
        share = shrinkage(config.optimizer, config.training.steps, held)
        log(
            f"decay    {config.optimizer.weight_decay:g}: alone, it would shrink the kernels by {share:.1%} over the run"
        )


def _too_short(text: TextConfig, sentences: Dataset) -> str:
    """Return a remark on sentences that no number of frames drawn for their units lets CTC spell; empty if there are
    none."""
    most = {"none": 1, "fixed": text.repeat_most}.get(text.repetition)
    count = np.count_nonzero(sentences.frames_needed > most * sentences.unit_lengths) if most else 0
    if not count:
        return ""
    return (
        f"text.repetition: {count} of {len(sentences)} sentences have too few frames, {most} for each unit, so CTC cannot "
        "spell their labels: no loss is on them; repeat units more often, or take wordpieces (data.tokenizer.kind)"
    )


def _narrow_masks(augment: SpecAugmentConfig, seconds: float, features: FeaturesConfig) -> str:
    """Return a remark on masks in time that hide hardly a frame of the encoder whole in an utterance of the mean length, so
    that they regularise little; empty where they do, or where there are none."""
    widest = int(augment.time_share * seconds * 1000 / features.hop_ms)
    if not augment.time_masks or widest >= 1.5 * SEEN:
        return ""
    return (
        f"spec_augment.time_share: in an utterance of the mean length, {seconds:.1f} s, spans have up to {widest} feature "
        f"frames, and a frame of the encoder sees {SEEN}, so hardly one is hidden whole; raise it, or set "
        "spec_augment.time_masks to 0"
    )


def print_start(config: Config | LmConfig, run: RunDirectory, begun: Start) -> None:
    """Print which run starts, or from which step it continues, and whose weights it takes."""
    start, steps = int(begun.state.step), config.training.steps
    if start > steps:
        begin = f"has {start} steps behind it, more than training.steps {steps}: nothing is left to train"
    elif start == steps:
        begin = f"has all of its {steps} steps behind it: nothing is left to train"
    else:
        begin = f"goes on from step {start} of {steps} steps" if start else f"starts; {steps} steps"
    log(f"{config.name} in {run.root} {begin}")
    if begun.summary:
        log(f"weights  {begun.summary}")


def log(line: str) -> None:
    """Print one line of progress on stderr, above the progress bars; of several processes, only process 0 prints."""
    if current().is_first:
        print(line, file=sys.stderr, flush=True)
