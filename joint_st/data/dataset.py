"""A data set: the rows that it takes from its sources, their lengths, and what was left out and why."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from joint_st.config import DataConfig, FeaturesConfig, LmDataConfig, Source
from joint_st.data.audio import UnreadableAudio, resample
from joint_st.data.augmentation import Augmentation, Speech, make_augmentation
from joint_st.data.index import AUDIO, PROBLEM, SYNTHETIC, Entries, Indexes
from joint_st.data.kept import KeptSpeech
from joint_st.data.left_out import counted, kept_rows, tell_problems, tell_too_long
from joint_st.data.normalizers import Normalizer
from joint_st.data.sources import Concatenated, read_whole
from joint_st.data.table import Table, open_table
from joint_st.data.text_units import Units
from joint_st.data.tokenizers import Tokenizer
from joint_st.data.utterance import Entry, Utterance
from joint_st.data.word_times import unit_ends, word_times
from joint_st.errors import UserError

log = logging.getLogger(__name__)


class Example(NamedTuple):
    """An utterance or a text, ready for training."""

    audio: np.ndarray
    """int16 [samples] at the model's rate; empty for a text."""
    labels: np.ndarray
    """int32 [L]."""
    units: np.ndarray
    """int32 [U]; empty where the utterance takes part with its audio alone."""
    unit_ends: np.ndarray
    """Encoder frame (exclusive) at which each unit ends, int32 [U]; zeros where the times of words are unknown."""
    language: str = ""
    """BCP 47 tag; empty where the source states none."""


class Dataset:
    """`N` rows of some sources: utterances where it has `features`, otherwise texts. Text and audio are read on demand.

    All columns are in the order of the rows.
    """

    def __init__(
        self,
        table: Table,
        rows: np.ndarray,
        dropped: dict[str, int],
        normalizer: Normalizer,
        tokenizer: Tokenizer,
        units: Units | None,
        features: FeaturesConfig | None = None,
        *,
        max_units: int | None = None,
        augmentation: Augmentation | None = None,
        length_tolerance: float = 0.0,
        strict: bool = False,
        keep_gib: float = 0.0,
    ):
        self.rows = rows
        """Number of each utterance's row in the corpus, int64 [N]."""
        self.dropped = dropped
        """Number of rows that were left out, by reason."""
        self.unreadable: dict[int, str] = {}
        """Utterances that this host has failed to read so far, by number: which file, and why."""
        self.hashes: dict[int, str] | None = None
        """Hashes of the samples of the utterances that this host has read, by number; collected where this is a
        dictionary."""
        self.features = features
        self.normalizer = normalizer
        self.tokenizer = tokenizer
        self.units = units
        self.augmentation = augmentation
        self.length_tolerance = length_tolerance
        self.strict = strict
        self.label_lengths = table.labels.lengths[rows]
        """Labels, int32 [N]."""
        lengths = table.units.lengths[rows]
        self._takes_units = lengths > 0 if max_units is None else (lengths > 0) & (lengths <= max_units)
        self.unit_lengths = np.where(self._takes_units, lengths, np.int32(0))
        """Units of the text encoder, int32 [N]; 0 where the utterance takes part with its audio alone."""
        self._table = table
        self._kept = KeptSpeech(keep_gib)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def corpus(self) -> Concatenated:
        """The sources, opened, one after the other."""
        return self._table.corpus

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """Samples at the model's rate, as the source states them, int32 [N]."""
        assert self.features is not None
        return _samples(self._table.seconds[self.rows], self.features.sample_rate)

    @functools.cached_property
    def frames_needed(self) -> np.ndarray:
        """Fewest frames in which CTC can emit the labels, int32 [N]."""
        return self._table.labels.frames[self.rows]

    @functools.cached_property
    def unit_frames_needed(self) -> np.ndarray:
        """Fewest frames in which CTC can emit the units, int32 [N]; 0 where there are none."""
        return np.where(self._takes_units, self._table.units.frames[self.rows], np.int32(0))

    @functools.cached_property
    def unknown_characters(self) -> np.ndarray:
        """Number of characters in the text that the tokenizer cannot spell, int32 [N]; each becomes an unknown label,
        or a part of one."""
        return self._table.labels.unknown[self.rows]

    @functools.cached_property
    def synthetic(self) -> np.ndarray:
        """Whether the source states that a machine speaks, bool [N]."""
        return self._table.flags[self.rows] & SYNTHETIC > 0

    @functools.cached_property
    def words(self) -> np.ndarray:
        """Number of words in the normalised text, int32 [N]."""
        return self._table.column(lambda entries: entries.words)[self.rows]

    @property
    def corpora(self) -> tuple[str, ...]:
        """Name of each source."""
        return tuple(entries.corpus.name for entries in self._table.entries)

    @functools.cached_property
    def corpus_of(self) -> np.ndarray:
        """Index in `corpora` of each row's source, int32 [N]."""
        sizes = [len(entries) for entries in self._table.entries]
        return np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)[self.rows]

    @property
    def languages(self) -> tuple[str, ...]:
        """BCP 47 tags of the sources' rows; an empty one stands for rows whose source states none."""
        return self._table.languages

    @functools.cached_property
    def language_of(self) -> np.ndarray:
        """Index in `languages` of each row's language, int32 [N]."""

        def of(entries: Entries) -> np.ndarray:
            places = [self.languages.index(language) for language in entries.languages]
            return np.array(places, np.int32)[entries.language] if places else np.zeros(0, np.int32)

        return self._table.column(of)[self.rows]

    @property
    def fingerprint(self) -> str:
        """Text that changes with the lengths of the utterances."""
        return hashlib.sha256(self.lengths.tobytes() + self.label_lengths.tobytes()).hexdigest()[:16]

    @property
    def fingerprint_of_texts(self) -> str:
        """Text that changes with the normalised texts, or their order."""
        return hashlib.sha256(self.text_hashes().tobytes()).hexdigest()[:16]

    def entry(self, n: int) -> Entry:
        """Return row `n` as in its source, without audio, under its unique id."""
        return self.corpus.entry(int(self.rows[n]))

    def id(self, n: int) -> str:
        """Return the id of row `n`, which no other row of its corpus has."""
        entries, row = self._table.where(int(self.rows[n]))
        return entries.id(row)

    def text(self, n: int) -> str:
        """Return the normalised text of row `n`."""
        entries, row = self._table.where(int(self.rows[n]))
        return entries.text(row)

    def texts(self) -> Iterator[str]:
        """Return the normalised text of each row."""
        return map(self.text, range(len(self)))

    def language(self, n: int) -> str:
        """Return the language tag of row `n`; empty where its source states none."""
        entries, row = self._table.where(int(self.rows[n]))
        return entries.language_of(row)

    def text_hashes(self) -> np.ndarray:
        """Return hashes of the normalised texts, uint64 [N]."""
        return self._table.column(lambda entries: entries.text_hash)[self.rows]

    def utterance(self, n: int) -> Utterance:
        """Return utterance `n` as in its source.

        Raises `UnreadableAudio`, also where its audio is not as long as stated (`data.length_tolerance`).
        """
        row = int(self.rows[n])
        return read_whole(self.corpus, row, self.id(n), float(self._table.seconds[row]), self.length_tolerance)

    def load(self, n: int, draw: tuple[int, int] | None = None) -> Example:
        """Return row `n` for training, with its audio decoded if it is an utterance. Raises `UnreadableAudio`.

        draw: (seed, step) for which its augmentation is drawn; None for no augmentation.
        """
        text, language = self.text(n), self.language(n)
        labels = self.tokenizer.encode(text)
        none = np.zeros(0, np.int32)
        if self.features is None:
            units = none if self.units is None else self.units.encode(text, language)
            return Example(np.zeros(0, np.int16), labels, units, np.zeros_like(units), language)
        speech = self._kept(n, self._read)
        if draw is not None and self.augmentation is not None:
            speech = self.augmentation(speech, *draw, n)
        audio, times = speech.audio, speech.word_times
        if self.units is None or not self.unit_lengths[n]:
            return Example(audio, labels, none, none, language)
        units = self.units.encode(text, language)
        if times is None:
            return Example(audio, labels, units, np.zeros_like(units), language)
        words = self.units.words(text, language)
        ends = unit_ends(words, *times, self.features.frame_seconds, self.features.frames(len(audio)))
        return Example(audio, labels, units, ends, language)

    def _read(self, n: int) -> Speech:
        """Return the speech of utterance `n` at the model's rate, as long as the plan assumes."""
        assert self.features is not None
        utterance, rate = self.utterance(n), self.features.sample_rate
        if self.hashes is not None:
            self.hashes[n] = utterance.hash()
        audio = resample(utterance.audio, utterance.sample_rate, rate)[: self.lengths[n]]
        return Speech(audio, rate, word_times(utterance, self.text(n), self.normalizer))

    def note_unreadable(self, n: int, error: UnreadableAudio) -> None:
        """Count utterance `n` as unreadable and warn once; raise the error where the config is strict."""
        if self.strict:
            raise error
        message = f"{error.path}: {error.why}"
        # The first thread is the one whose own string is kept.
        if self.unreadable.setdefault(n, message) is message:
            log.warning("skipped %s", message)

    @property
    def seconds(self) -> float:
        """Length of the audio in seconds."""
        assert self.features is not None
        return self.features.seconds(int(self.lengths.sum(dtype=np.int64)))

    @property
    def synthetic_seconds(self) -> float:
        """Length of the synthetic speech among the audio, in seconds."""
        assert self.features is not None
        return self.features.seconds(int(self.lengths[self.synthetic].sum(dtype=np.int64)))

    def describe(self) -> str:
        """Return in one line what the data set holds and what was dropped."""
        dropped = counted(self.dropped) or "none"
        total = int(self.unknown_characters.sum(dtype=np.int64))
        unknown = f"; {total} unknown characters in {np.count_nonzero(self.unknown_characters)}" if total else ""
        if self.features is None:
            kind, lengths = ("labels", self.label_lengths) if self.units is None else ("text units", self.unit_lengths)
            total = int(lengths.sum(dtype=np.int64))
            return f"{len(self)} texts, {total / len(self):.1f} {kind} each; dropped {dropped}{unknown}"
        alone = np.count_nonzero(self.unit_lengths == 0) if self.units else 0
        without = (
            f"; {alone} without losses on their text, which has no text units or more than data.max_text_units"
            if alone
            else ""
        )
        made = f", {np.count_nonzero(self.synthetic)} of them synthetic ({self.synthetic_seconds / 3600:.2f} h)"
        made = made if self.synthetic.any() else ""
        return f"{len(self)} utterances, {self.seconds / 3600:.2f} h{made}; dropped {dropped}{without}{unknown}"


def open_paired(
    sources: Iterable[Source],
    data: DataConfig,
    features: FeaturesConfig,
    normalizer: Normalizer,
    tokenizer: Tokenizer,
    units: Units | None = None,
    *,
    training: bool,
    indexes: Indexes | None = None,
) -> Dataset:
    """Open the utterances of some sources; no audio is decoded.

    Left out are utterances without audio and those known to be unreadable; in training also those outside
    `min_seconds`..`max_seconds`, those without text, and those with more labels than CTC can emit in their frames (a
    repeated label needs a blank between). In training, those with more than `max_text_units` take part with their audio
    alone. indexes: the indexes of the job, if it has opened sources already. Raises `UserError` where no utterance is
    left, and, where the config is strict, for the first unreadable one.
    """
    indexes = indexes or Indexes(data.index_cache, normalizer)
    sources = tuple(sources)
    entries = [indexes.entries(source) for source in sources]
    tell_problems(entries, data.strict)
    table = open_table(indexes, sources, tokenizer, units)
    unreadable = "unreadable", table.flags & PROBLEM > 0
    reasons = [("without audio", table.flags & AUDIO == 0), unreadable]
    if training:
        frames = features.frames(_samples(table.seconds, features.sample_rate))
        reasons += [
            ("too short", table.seconds < data.min_seconds),
            ("too long", table.seconds > data.max_seconds),
            ("with empty text", table.labels.lengths == 0),
            ("with more labels than CTC can emit in their frames", frames < table.labels.frames),
        ]
    rows, dropped = kept_rows(reasons, len(table))
    if not len(rows):
        why = counted(dropped) or "the sources are empty"
        if unreadable[1].any():
            entry = table.corpus.entry(int(unreadable[1].argmax()))
            why += f": {entry.id}: {entry.problem}"
        raise UserError(f"data: no utterance of {table.corpus.name} is left ({why}); correct the sources")
    if training:
        readable = table.flags & (AUDIO | PROBLEM) == AUDIO
        tell_too_long("data.max_seconds", table.seconds[readable], data.max_seconds, "seconds")
    return Dataset(
        table,
        rows,
        dropped,
        normalizer,
        tokenizer,
        units,
        features,
        max_units=data.max_text_units if training else None,
        augmentation=make_augmentation(data.augmentation) if training else None,
        length_tolerance=data.length_tolerance,
        strict=data.strict,
        keep_gib=data.keep_audio_gib if training else 0.0,
    )


def open_texts(
    data: DataConfig, normalizer: Normalizer, tokenizer: Tokenizer, units: Units, *, indexes: Indexes | None = None
) -> Dataset:
    """Open the texts of `data.text`; if the source has audio, it is not read.

    Left out are texts that are empty once normalised, have no units, or have more than `data.max_text_units`. indexes:
    as in `open_paired`. Raises `UserError` where none is left.
    """
    indexes = indexes or Indexes(data.index_cache, normalizer)
    table = open_table(indexes, data.text, tokenizer, units)
    empty = table.labels.lengths == 0
    reasons = [
        ("empty", empty),
        ("without text units", table.units.lengths == 0),
        ("too long", table.units.lengths > data.max_text_units),
    ]
    rows, dropped = kept_rows(reasons, len(table), in_order=True)
    if not len(rows):
        why = counted(dropped) or "the sources are empty"
        raise UserError(f"data.text: no text of {table.corpus.name} is left ({why}); correct the sources")
    tell_too_long("data.max_text_units", table.units.lengths, data.max_text_units, "text units")
    return Dataset(table, rows, dropped, normalizer, tokenizer, units)


def open_lm_texts(
    sources: Iterable[Source],
    data: LmDataConfig,
    normalizer: Normalizer,
    tokenizer: Tokenizer,
    field: str,
    held_out: Dataset | None = None,
    *,
    indexes: Indexes | None = None,
) -> Dataset:
    """Open the texts of some sources as labels; if a source has audio, it is not read.

    Left out are texts that are empty once normalised, have more than `data.max_labels` labels, or are in `held_out`
    too. field: field of the config, for messages. indexes: as in `open_paired`. Raises `UserError` where none is left.
    """
    indexes = indexes or Indexes(data.index_cache, normalizer)
    table = open_table(indexes, sources, tokenizer, None)
    reasons = [
        ("empty", table.labels.lengths == 0),
        ("too long", table.labels.lengths > data.max_labels),
        ("that data.dev has too", _among(table, held_out)),
    ]
    rows, dropped = kept_rows(reasons, len(table))
    if not len(rows):
        why = counted(dropped) or "the sources are empty"
        raise UserError(f"{field}: no text of {table.corpus.name} is left ({why}); correct the sources")
    tell_too_long("data.max_labels", table.labels.lengths, data.max_labels, "labels")
    return Dataset(table, rows, dropped, normalizer, tokenizer, None)


def _samples(seconds: np.ndarray, rate: int) -> np.ndarray:
    """Return the samples in a number of seconds, rounded up, int32 [N]."""
    # A duration of 0.3 s gives 4800.000000000001 samples or so, which must not become one sample more.
    return np.minimum(np.ceil(seconds * rate - 1e-3), np.iinfo(np.int32).max).astype(np.int32)


def _among(table: Table, held_out: Dataset | None) -> np.ndarray:
    """Return whether the text of each row is among the held-out texts, bool [rows]."""
    if held_out is None:
        return np.zeros(len(table), bool)
    found = np.isin(table.column(lambda entries: entries.text_hash), held_out.text_hashes())
    texts = set(held_out.texts()) if found.any() else set()
    for row in np.flatnonzero(found):  # different texts may have equal hashes
        entries, own = table.where(int(row))
        found[row] = entries.text(own) in texts
    return found
