"""Aligns a corpus of utterances with their texts by a trained run, which gives the times of the words."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
import tqdm

from joint_st.data.audio import UnreadableAudio, resample
from joint_st.data.buckets import Buckets
from joint_st.data.plan import BatchPlan
from joint_st.data.sources import Corpus, read_whole
from joint_st.data.text_units.units import Spelling
from joint_st.data.utterance import Entry
from joint_st.data.word_times import states_times, word_times
from joint_st.decoding.windows import Windows
from joint_st.distributed.mesh import over_batch, put_batch
from joint_st.heads.model import model_structure
from joint_st.models.functional import merge
from joint_st.ops.ctc import frames_needed
from joint_st.ops.forced_alignment import forced_alignment
from joint_st.ops.masks import length_mask
from joint_st.passes import FULL_CONTEXT, PASSES
from joint_st.runs.trained import Trained
from joint_st.word_times.spans import Aligned, CannotAlign, Failed, Frames, divided, unit_spans, word_spans
from joint_st.word_times.text import as_written, labels_of

WINDOW_SECONDS = 40
"""Recordings longer than this are encoded in windows of this length."""
CONTEXT_SECONDS = 5
"""Context in seconds on either side of the part of a window that is kept."""


MOST_PATH_BYTES = 4 * 2**30
"""Most memory for finding the likeliest path of one recording, which takes a byte for each label in each frame; one that
needs more is left out, so that it does not end a job of many."""


class Emissions:
    """The emissions of one head of a run and, if `units`, the logits of its text units, for audio of any length."""

    def __init__(self, trained: Trained, head: str, units: bool):
        features = trained.config.model.features
        self._trained = trained
        self.windows = Windows.of_seconds(WINDOW_SECONDS, CONTEXT_SECONDS, features)
        structure = model_structure(trained.config, trained.symbols.sizes)

        @jax.jit
        def emit(weights, audio, audio_lengths):
            model = merge(structure, weights)
            encoded = model(audio, audio_lengths)
            found = {"labels": model.head(head).emissions(getattr(encoded, head))}
            return found | ({"units": encoded.units} if units else {})

        self._emit = emit

    def __call__(self, audio: np.ndarray, lengths: np.ndarray) -> dict[str, Any]:
        """Return trees of arrays [B, T, ...] of audio int16 [B, S]; B divides over the mesh."""
        batch = put_batch({"audio": audio, "lengths": lengths}, self._trained.mesh)
        return self._emit(self._trained.weights, batch["audio"], batch["lengths"])

    def of_long(self, audio: np.ndarray) -> dict[str, Any]:
        """Return trees of arrays [T, ...] of audio int16 [S] of any length, on the host."""
        groups = self.windows.groups(audio, self._trained.mesh.size)
        parts = [jax.device_get(self(rows, lengths)) for rows, lengths, _ in groups]
        return jax.tree.map(lambda *some: self.windows.stitch(np.concatenate(some), len(audio)), *parts)


@dataclass(frozen=True)
class AlignmentJob:
    """An utterance to align."""

    row: int
    """Row of the utterance in the corpus."""
    id: str
    written: str
    """The text as in the source."""
    text: str
    """The normalised text."""
    language: str
    labels: np.ndarray
    """Labels of the text, int32 [U]."""
    units: np.ndarray
    """Text units, int32 [units]; empty where the run has no head for units."""
    samples: int
    """Length of the audio at the model's sample rate, as the source states it."""
    channel: int
    """Number of the channel of its file, counted from 1."""


@dataclass(frozen=True)
class JobBatch:
    """Utterances that are aligned together, and the shapes of their arrays."""

    jobs: list[AlignmentJob]
    rows: int
    samples: int
    labels: int
    units: int
    in_windows: bool
    """Whether this is one utterance that is too long to be encoded as a whole."""


LENGTH_STEP = 50
"""Lengths are rounded up to a multiple of this many frames, so that aligning one file after another needs few
compilations."""


def plan(
    jobs: Sequence[AlignmentJob], window: int, *, frame: int, buckets: int, batch_size: int, devices: int
) -> list[JobBatch]:
    """Gather jobs in batches, the longest first.

    Jobs of at most `window` samples share `buckets` shapes, with `batch_size` rows in a batch of the longest; each
    longer job is alone. frame: samples of a frame. devices: number that the rows of every batch divide over.
    """
    step = LENGTH_STEP * frame
    long = sorted((job for job in jobs if job.samples > window), key=lambda job: -job.samples)
    batches = [
        JobBatch([job], devices, _up(job.samples, step), _up(len(job.labels), 64), _up(len(job.units), 64), True)
        for job in long
    ]
    short = [job for job in jobs if job.samples <= window]
    if short:
        lengths = np.array([job.samples for job in short])
        shapes = Buckets.choose(
            lengths,
            np.array([len(job.labels) for job in short]),
            np.array([len(job.units) for job in short]),
            count=buckets,
            multiple=step,
            # Fewer rows if there are few jobs; like `batch_size`, this number divides over the devices.
            batch_size=min(batch_size, _up(len(short), devices)),
        )
        order = BatchPlan(lengths, shapes, shuffle=False)
        for i in range(order.steps_per_epoch):
            k, rows = order[i]
            own = [short[row] for row in rows if row >= 0]
            widths = shapes.bounds[k], shapes.label_bounds[k], shapes.unit_bounds[k]
            batches.append(JobBatch(own, len(rows), *widths, False))
    return batches


def _up(number: int, multiple: int) -> int:
    return -(-max(number, 1) // multiple) * multiple


AHEAD = 2
"""Number of batches that are read while one is aligned."""


class ReadUtterance(NamedTuple):
    """The audio of an utterance, and the true times of its words."""

    audio: np.ndarray
    """int16 [samples] at the model's sample rate."""
    true: tuple[np.ndarray, np.ndarray] | None
    """See `joint_st.data.word_times.word_times`."""
    states_times: bool
    """Whether the source states when words are spoken."""


class Aligner:
    """Aligns utterances with their texts by one head of a run's checkpoint; compiled once for each shape.

    Where the run was trained to recognise text units (`losses.unit_ctc.weight`), their times come from the audio
    encoder's own head.
    """

    def __init__(self, trained: Trained, head: str = FULL_CONTEXT):
        if head not in PASSES:
            raise ValueError(f"{head!r} is no pass; there is {', '.join(PASSES)}")
        self._trained = trained
        self._head = head
        self._units = trained.units if trained.config.losses.trains_units else None
        self.unknown_units: Counter[str] = Counter()
        """How often each symbol (phoneme) that the run's units lack occurs in the texts so far."""
        self._spelling = Spelling(trained.tokenizer)
        self._features = trained.config.model.features
        self._frame_s = self._features.frame_seconds
        self._emissions = Emissions(trained, head, self._units is not None)
        structure = model_structure(trained.config, trained.symbols.sizes)
        locate = over_batch(lambda head, *rows: head.label_spans(*rows), trained.mesh, whole=1)

        def labels(weights, emissions, frames, *labels):
            mask = length_mask(frames, jax.tree.leaves(emissions)[0].shape[1])
            return locate(merge(structure, weights).head(head), emissions, mask, *labels)

        # The path itself stays on the device.
        units = over_batch(lambda *batch: forced_alignment(*batch)[1:], trained.mesh)
        self._align = {"labels": jax.jit(labels), "units": jax.jit(lambda weights, *batch: units(*batch))}

    @property
    def language(self) -> str:
        """The language of phonemes of texts that state none; empty where no phonemes are aligned."""
        return getattr(self._units, "language", "")

    def __call__(self, corpus: Corpus, name: str = "aligning") -> list[Aligned | Failed]:
        """Return the result for each utterance in the order of the corpus; `name` titles a progress bar."""
        results: dict[int, Aligned | Failed] = {}
        self.align(corpus, results, name)
        return [results[i] for i in range(len(corpus))]

    def align(self, corpus: Corpus, results: dict[int, Aligned | Failed], name: str = "aligning") -> None:
        """Put the result for each utterance into `results`, by its row in the corpus, as soon as there is one, so that
        those are known which were found before an interrupt; `name` titles a progress bar."""
        config, mesh = self._trained.config, self._trained.mesh
        batches = plan(
            self._jobs(corpus, results),
            self._emissions.windows.size,
            frame=self._features.samples_per_frame,
            buckets=config.data.buckets,
            batch_size=config.evaluation.batch_size,
            devices=mesh.size,
        )
        bar = tqdm.tqdm(total=len(corpus), desc=name, unit=" utterances", leave=False, disable=None, delay=1)
        bar.update(len(results))
        with bar, jax.set_mesh(mesh), ThreadPoolExecutor(config.data.read_threads) as readers:
            for batch, heard in self._read(corpus, batches, readers):
                results |= self._align_batch(batch, heard)
                bar.update(len(batch.jobs))

    def _jobs(self, corpus: Corpus, failed: dict[int, Aligned | Failed]) -> list[AlignmentJob]:
        """Return the jobs that can be aligned, as far as that is known without the audio; the others go into
        `failed`."""
        entries = []
        rows = tqdm.trange(len(corpus), desc="reading texts", unit=" utterances", leave=False, disable=None, delay=1)
        for i in rows:
            entry = corpus.entry(i)
            try:
                self._check_audio(entry)
                if why := self._units and self._units.refusal(entry.language):
                    raise CannotAlign(why)
                entries.append((i, entry, *labels_of(entry.text, self._trained.normalizer, self._trained.tokenizer)))
            except CannotAlign as error:
                failed[i] = Failed(entry.id, str(error))
        if self._units is not None:
            self._units.prepare((text, entry.language) for _, entry, text, _ in entries)
            for _, entry, text, _ in entries:
                self.unknown_units.update(self._units.unknown(text, entry.language))
        none = np.zeros(0, np.int32)
        jobs = []
        for i, entry, text, labels in entries:
            job = AlignmentJob(
                row=i,
                id=entry.id,
                written=entry.text,
                text=text,
                language=entry.language,
                labels=labels,
                units=none if self._units is None else self._units.encode(text, entry.language),
                samples=self._features.samples(entry.seconds),
                channel=entry.channel,
            )
            if why := self._too_large(job):
                failed[i] = Failed(job.id, why)
            else:
                jobs.append(job)
        return jobs

    def _too_large(self, job: AlignmentJob) -> str:
        """Return why the likeliest path of an utterance takes too much memory (`MOST_PATH_BYTES`); empty where it does
        not."""
        frames, symbols = self._features.frames(job.samples), max(len(job.labels), len(job.units))
        needed = frames * (symbols + 1)
        if needed <= MOST_PATH_BYTES:
            return ""
        return (
            f"{self._features.seconds(job.samples):.0f} s with {symbols} labels take {needed / 2**30:.1f} GiB to align, "
            f"more than {MOST_PATH_BYTES / 2**30:g}; cut it into parts with texts of their own (manifest keys offset and "
            "duration)"
        )

    def _check_audio(self, entry: Entry) -> None:
        if not entry.has_audio:
            raise CannotAlign("it has no audio")
        if entry.problem:
            raise CannotAlign(entry.problem)

    def _read(
        self, corpus: Corpus, batches: Iterable[JobBatch], readers: ThreadPoolExecutor
    ) -> Iterator[tuple[JobBatch, list[ReadUtterance | Failed]]]:
        """Yield the batches with their utterances, read ahead by threads."""
        ahead: deque = deque()

        def first():
            batch, futures = ahead.popleft()
            return batch, [future.result() for future in futures]

        for batch in batches:
            ahead.append((batch, [readers.submit(self._hear, corpus, job) for job in batch.jobs]))
            if len(ahead) > AHEAD:
                yield first()
        while ahead:
            yield first()

    def _hear(self, corpus: Corpus, job: AlignmentJob) -> ReadUtterance | Failed:
        try:
            tolerance = self._trained.config.data.length_tolerance
            utterance = read_whole(corpus, job.row, job.id, self._features.seconds(job.samples), tolerance)
        except UnreadableAudio as error:
            return Failed(job.id, error.why if error.path == job.id else f"{error.path}: {error.why}")
        rate = self._features.sample_rate
        audio = resample(utterance.audio, utterance.sample_rate, rate)
        true = word_times(utterance, job.text, self._trained.normalizer)
        return ReadUtterance(audio[: job.samples], true, states_times(utterance))

    def _align_batch(self, batch: JobBatch, heard: list[ReadUtterance | Failed]) -> dict[int, Aligned | Failed]:
        results: dict[int, Aligned | Failed] = {
            job.row: one for job, one in zip(batch.jobs, heard) if isinstance(one, Failed)
        }
        read = [(job, one) for job, one in zip(batch.jobs, heard) if isinstance(one, ReadUtterance)]
        if not read:
            return results
        emissions = self._emit(batch, [one.audio for _, one in read])
        frames = [self._features.frames(len(one.audio)) for _, one in read]
        labels = self._paths("labels", batch.rows, emissions, frames, [job.labels for job, _ in read], batch.labels)
        units = [None] * len(read)
        if self._units is not None:
            units = self._paths("units", batch.rows, emissions, frames, [job.units for job, _ in read], batch.units)
        for (job, one), *paths in zip(read, labels, units):
            results[job.row] = self._result(job, one, *paths)
        return results

    def _emit(self, batch: JobBatch, audios: list[np.ndarray]) -> dict[str, Any]:
        """Return the `Emissions` of a batch, [rows, T, ...], T the same for all batches of its shape."""
        if batch.in_windows:
            found = self._emissions.of_long(audios[0])
            frames = batch.samples // self._features.samples_per_frame

            def pad(x):
                rest = ((0, 0),) * (x.ndim - 1)
                return np.pad(x[None], ((0, batch.rows - 1), (0, frames - len(x)), *rest))

            return jax.tree.map(pad, found)
        audio = np.zeros((batch.rows, batch.samples), np.int16)
        lengths = np.zeros(batch.rows, np.int32)
        for row, own in enumerate(audios):
            audio[row, : len(own)] = own
            lengths[row] = len(own)
        return self._emissions(audio, lengths)

    def _paths(self, which, rows, emissions, frames, labels, most) -> list[tuple[Frames, float] | None]:
        """Return the frames of the labels, or units, of each utterance and the mean log probability of its path; None
        where there is no path."""
        ids = np.zeros((rows, most), np.int32)
        for row, own in enumerate(labels):
            ids[row, : len(own)] = own
        batch = {"frames": np.zeros(rows, np.int32), "labels": ids, "lengths": np.zeros(rows, np.int32)}
        batch["frames"][: len(frames)] = frames
        batch["lengths"][: len(labels)] = [len(own) for own in labels]
        own = emissions[which]
        if any(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(own)):
            own = put_batch(own, self._trained.mesh)
        batch = put_batch(batch, self._trained.mesh)
        found = self._align[which](self._trained.weights, own, batch["frames"], batch["labels"], batch["lengths"])
        starts, ends, scores, _, log_probs, feasible = jax.device_get(found)
        paths = []
        for b, n in enumerate(map(len, labels)):
            own = Frames(starts[b, :n], ends[b, :n], scores[b, :n])
            paths.append((own, float(log_probs[b]) / frames[b]) if feasible[b] else None)
        return paths

    def _result(self, job: AlignmentJob, heard: ReadUtterance, labels, units) -> Aligned | Failed:
        seconds = self._features.seconds(len(heard.audio))
        if labels is None:
            return Failed(job.id, self._why_not(job, seconds, self._features.frames(len(heard.audio))))
        frames, log_prob = labels
        tokens, label, token = self._spelling.label_tokens(job.labels.tolist())
        words = word_spans(tokens, token, divided(frames, label), self._frame_s, seconds)
        spaced = not any(one.joined for one in tokens)
        if units is not None:
            symbols = [self._units.symbols[i] for i in job.units]
            # What stands between spaces is several tokens in a script without them; its units are given to the first.
            first = np.append([n for n, one in enumerate(tokens) if not one.joined], -1).astype(np.int32)
            of_words = first[self._units.words(job.text, job.language)]
            units = unit_spans(symbols, of_words, units[0], self._frame_s, seconds)
        return Aligned(
            id=job.id,
            seconds=seconds,
            text=job.text,
            head=self._head,
            log_prob=log_prob,
            words=words,
            written=as_written(job.written, self._trained.normalizer, words),
            units=units,
            true=heard.true if spaced else None,
            states_times=heard.states_times,
            channel=job.channel,
        )

    def _why_not(self, job: AlignmentJob, seconds: float, frames: int) -> str:
        needed = int(frames_needed(job.labels))
        if needed > frames:
            return (
                f"its text cannot fit its audio: {len(job.labels)} labels need {needed} frames, and {seconds:.2f} s "
                f"have {frames}; is it the text of other audio?"
            )
        return "the model gives its text probability 0 or NaN; try another checkpoint"
