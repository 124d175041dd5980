"""The index of a source: what is known about each row without its audio, found in one pass and kept on disk for all
runs.

`Entries` depend on a source and a normaliser, not on labels: ids, normalised texts, seconds, languages.
`Counts` are how many symbols a tokenizer or text units make of each text. Both change with the source's files.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import logging
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tqdm

from joint_st.config import Source
from joint_st.data.columns import Cache, Columns, Writer
from joint_st.data.normalizers import Normalizer
from joint_st.data.sources import Corpus, open_source
from joint_st.data.text_units import TOGETHER, Units
from joint_st.data.text_units.units import Spelling
from joint_st.data.tokenizers import UNKNOWN, Tokenizer
from joint_st.data.utterance import Entry, Utterance
from joint_st.distributed.peers import current
from joint_st.errors import UserError
from joint_st.ops.ctc import frames_needed

FORMAT = 5
"""Number that stands for the format of the files and for how their content is computed; files of another format are not
read."""

log = logging.getLogger(__name__)

MOST_NAMED = 10
"""Number of unknown characters that are named in a warning, the most frequent ones; all are counted."""

AUDIO, PROBLEM, SYNTHETIC = 1, 2, 8
"""Flags of a row: it has audio; the audio is known to be unreadable; its source states that a machine speaks."""

ID_LENGTH = 4
"""Number of bytes that hold the length of an id which replaces the source's."""

BAR = {"delay": 1, "leave": False, "disable": None}


class Entries:
    """The rows of one source with normalised texts; a corpus in which each utterance has a unique id."""

    def __init__(self, corpus: Corpus, columns: Columns):
        self.corpus = corpus
        self.name = corpus.name
        self.place, self.version = getattr(corpus, "place", ""), getattr(corpus, "version", "")
        self.seconds: np.ndarray = columns.columns["seconds"]
        """Length of the audio as the source states it, float64 [N]; 0 where there is none."""
        self.flags: np.ndarray = columns.columns["flags"]
        """`AUDIO`, `PROBLEM` and `SYNTHETIC`, uint8 [N]."""
        self.language: np.ndarray = columns.columns["language"]
        """Index in `languages`, int32 [N]."""
        self.languages: list[str] = columns.about["languages"]
        """BCP 47 tags; an empty one stands for rows whose source states none."""
        self.words: np.ndarray = columns.columns["words"]
        """Number of words in the normalised text, int32 [N]."""
        self.text_hash: np.ndarray = columns.columns["text_hash"]
        """Hash of the normalised text, uint64 [N]."""
        self._ends = columns.columns["end"]
        self._id_bytes = columns.columns["id_bytes"]
        self._own_id = columns.columns["own_id"]
        self._columns = columns

    def __len__(self) -> int:
        return len(self._ends)

    def id(self, row: int) -> str:
        """Return the id of a row, which no other row of its corpus has."""
        if at := int(self._own_id[row]):
            length = int.from_bytes(self._columns.content(at, at + ID_LENGTH), "little")
            return _decoded(self._columns.content(at + ID_LENGTH, at + ID_LENGTH + length))
        start = self._start(row)
        return _decoded(self._columns.content(start, start + int(self._id_bytes[row])))

    def entry(self, row: int) -> Entry:
        """Return what the source states about a row without its audio, under the row's unique id."""
        return dataclasses.replace(self.corpus.entry(row), id=self.id(row))

    def where(self, row: int) -> str:
        """Return the place of a row in its file, for messages."""
        return self.corpus.where(row)

    def __getitem__(self, row: int) -> Utterance:
        """Return the utterance of a row as in its source. Raises `UnreadableAudio`."""
        return dataclasses.replace(self.corpus[row], id=self.id(row))

    def text(self, row: int) -> str:
        """Return the normalised text of a row."""
        return _decoded(self._columns.content(self._start(row) + int(self._id_bytes[row]), int(self._ends[row])))

    def language_of(self, row: int) -> str:
        """Return the language tag of a row; empty where its source states none."""
        return self.languages[self.language[row]]

    def texts(self) -> Iterator[tuple[str, str]]:
        """Yield (normalised text, language tag) of each row."""
        return ((self.text(row), self.language_of(row)) for row in range(len(self)))

    def _start(self, row: int) -> int:
        return int(self._ends[row - 1]) if row else 0


class Counts(NamedTuple):
    """Lengths of the texts of a source in symbols of some kind."""

    lengths: np.ndarray
    """Symbols of each text, int32 [N]."""
    frames: np.ndarray
    """Fewest frames in which CTC can emit them, int32 [N]."""
    unknown: np.ndarray
    """Characters of each text that the tokenizer cannot spell, int32 [N]; zeros for units."""


class Indexes:
    """The indexes of the sources of a job under one normaliser; each source is opened once."""

    def __init__(self, cache: str, normalizer: Normalizer):
        self.normalizer = normalizer
        self.cache = Cache(cache)
        # Keyed by sections as JSON, because not every value of a section can be hashed.
        self._entries: dict[str, Entries] = {}
        self._counts: dict[tuple[str, str], tuple[Counts, list[tuple[str, int]]]] = {}
        self._told: set[tuple[str, str]] = set()

    def entries(self, source: Source) -> Entries:
        """Return the entries of a source. Raises `UserError` where it does not exist, and for a broken line."""
        own = source.model_dump_json()
        if own not in self._entries:
            self._entries[own] = self._open(open_source(source))
        return self._entries[own]

    def labels(self, source: Source, tokenizer: Tokenizer) -> Counts:
        """Return the number of labels of each text of a source. Warns about characters that have no label, and names
        the most frequent ones."""
        own = source.model_dump_json(), tokenizer.digest
        counts, unknown = self._counted(
            source, tokenizer.digest, lambda texts: [tokenizer.encode(text) for text, _ in texts], tokenizer
        )
        if own not in self._told:
            self._told.add(own)
            _tell_unknown(self.entries(source).corpus.name, counts, unknown)
        return counts

    def units(self, source: Source, units: Units | None) -> Counts:
        """Return the number of text units of each text of a source; None where there are no units.

        Warns about the languages whose texts have none, and names the first of the utterances.
        """
        if units is None:
            none = np.broadcast_to(np.int32(0), len(self.entries(source)))
            return Counts(none, none, none)

        def encode(texts: Sequence[tuple[str, str]]) -> list[np.ndarray]:
            units.prepare(texts)
            return [units.encode(*example) for example in texts]

        own = source.model_dump_json(), units.digest
        if own not in self._counts:
            _tell_refusals(self.entries(source), units)
        # Units that spell are counted as the labels of their tokenizer are, because both share a file.
        counts, _ = self._counted(
            source, units.digest, encode, units.tokenizer if isinstance(units, Spelling) else None
        )
        return counts._replace(unknown=np.broadcast_to(np.int32(0), len(counts.unknown)))

    def symbols(
        self, source: Source, digest: str, symbols_of: Callable[[Sequence[tuple[str, str]]], set[str]]
    ) -> set[str]:
        """Return all that `symbols_of` finds in (text, language tag) of the rows; see
        `joint_st.data.text_units.units.Gather`."""
        entries = self.entries(source)
        name, key = self._key(entries.corpus)
        found = self.cache.open(
            f"{_hash(f'{name} {digest}')}.symbols",
            f"{key} {digest}" if key else "",
            lambda writer: (
                {},
                {
                    "symbols": sorted(
                        set(itertools.chain.from_iterable(symbols_of(texts) for _, texts in _chunks(entries)))
                    )
                },
            ),
        )
        return set(found.about["symbols"])

    def describe(self, seconds: float) -> str:
        """Return a line that says how long it took from opening the sources to the first planned batch."""
        made = self.cache.made
        how = f"{made} index{'es' * (made > 1)} made" if made else "all indexes found"
        return f"data     open and planned in {seconds:.2f} s, {how} in {self.cache.folder}"

    def _open(self, corpus: Corpus) -> Entries:
        name, key = self._key(corpus)

        def make(writer: Writer):
            return _gather(corpus, self.normalizer, writer)

        made = self.cache.made
        found = self.cache.open(name, key, make)
        if self.cache.made == made:
            # A missing audio file may exist by now, although its manifest has not changed.
            for row in np.flatnonzero(found.columns["flags"] & PROBLEM):
                if not corpus.entry(int(row)).problem:
                    found = self.cache.open(name, key, make, anew=True)
                    break
        return Entries(corpus, found)

    def _key(self, corpus: Corpus) -> tuple[str, str]:
        """Return the name of a corpus's file, and the key of what it depends on; both are empty where its source states
        neither."""
        place, version = getattr(corpus, "place", ""), getattr(corpus, "version", "")
        key = f"{FORMAT} {place} {version} {self.normalizer} {unicodedata.unidata_version}" if place else ""
        return f"{_hash(f'{place} {self.normalizer.name}')}.entries", key

    def _counted(
        self,
        source: Source,
        digest: str,
        encode: Callable[[Sequence[tuple[str, str]]], list[np.ndarray]],
        tokenizer: Tokenizer | None,
    ) -> tuple[Counts, list[tuple[str, int]]]:
        """Return the counts of the symbols that `encode` makes, and how often each character occurs that the tokenizer
        they come from cannot spell."""

        def unknown_in(symbols: np.ndarray, text: str) -> list[str]:
            return tokenizer.unknown(text) if tokenizer is not None and (symbols == UNKNOWN).any() else []

        own = source.model_dump_json(), digest
        if own not in self._counts:
            entries = self.entries(source)
            name, key = self._key(entries.corpus)
            found = self.cache.open(
                f"{_hash(f'{name} {digest}')}.counts",
                f"{key} {digest}" if key else "",
                lambda writer: _count(entries, encode, unknown_in),
            )
            counts = Counts(*(found.columns[name] for name in Counts._fields))
            self._counts[own] = counts, found.about["unknown"]
        return self._counts[own]


def _gather(corpus: Corpus, normalizer: Normalizer, writer: Writer) -> tuple[dict, dict]:
    """Go once through a corpus, and write its ids and normalised texts."""
    seconds, flags, language, words = array("d"), array("B"), array("i"), array("i")
    ends, id_bytes, hashes, id_hashes = array("q"), array("i"), array("Q"), array("Q")
    languages: dict[str, int] = {}
    rows = tqdm.trange(len(corpus), desc=f"indexing {corpus.name}", unit=" utterances", **BAR)
    for entry in map(corpus.entry, rows):
        text = normalizer(entry.text)
        count = len(text.split())
        own, encoded = _encoded(entry.id), _encoded(text)
        ends.append(writer.add(own + encoded))
        id_bytes.append(len(own))
        hashes.append(_short_hash(encoded))
        id_hashes.append(_short_hash(own))
        seconds.append(entry.seconds)
        words.append(count)
        flags.append(AUDIO * entry.has_audio + PROBLEM * bool(entry.problem) + SYNTHETIC * bool(entry.synthetic))
        language.append(languages.setdefault(entry.language, len(languages)))
    own_id = np.zeros(len(ends), np.int64)
    for row, id in unique_ids(corpus, np.array(id_hashes, np.uint64)).items():
        content = _encoded(id)
        own_id[row] = writer.add(len(content).to_bytes(ID_LENGTH, "little") + content) - len(content) - ID_LENGTH
    columns = {
        "seconds": np.array(seconds, np.float64),
        "flags": np.array(flags, np.uint8),
        "language": np.array(language, np.int32),
        "words": np.array(words, np.int32),
        "text_hash": np.array(hashes, np.uint64),
        "end": np.array(ends, np.int64),
        "id_bytes": np.array(id_bytes, np.int32),
        "own_id": own_id,
    }
    return columns, {"languages": list(languages)}


def unique_ids(corpus: Corpus, hashes: np.ndarray) -> dict[int, str]:
    """Return unique ids, by row, for the rows of a corpus whose id another row has too. hashes: hashes of all ids, [N].

    An id that the source made up is replaced by its longer form, and gets a number if that is not unique either.
    Raises `UserError` where the source itself states one id for two rows.
    """
    order = np.argsort(hashes, kind="stable")
    same = hashes[order][1:] == hashes[order][:-1]
    doubtful = np.zeros(len(hashes), bool)
    doubtful[order[1:][same]] = doubtful[order[:-1][same]] = True
    taken: dict[str, int] = {}
    entries = {int(row): corpus.entry(int(row)) for row in np.flatnonzero(doubtful)}
    count = Counter(entry.id for entry in entries.values())  # different ids may have equal hashes
    for row, entry in entries.items():
        if entry.full_id:
            continue
        if entry.id in taken:
            places = f"{corpus.where(taken[entry.id])} and {corpus.where(row)}"
            raise UserError(f"{places}: both have the id {entry.id!r}; give each utterance an id of its own")
        taken[entry.id] = row
    found: dict[int, str] = {}
    numbers: dict[tuple[str, str], int] = {}  # the last one of each id, below which none is free
    ordered = hashes[order]
    for row, entry in entries.items():
        if not entry.full_id or count[entry.id] == 1:
            continue
        same_ids = entry.id, entry.full_id
        number = numbers.get(same_ids, 1)
        id = _numbered(entry.full_id, number)
        while id in taken or (id != entry.id and _contains(ordered, _short_hash(_encoded(id)))):
            number += 1
            id = _numbered(entry.full_id, number)
        taken[id], numbers[same_ids] = row, number
        found[row] = id
    return found


def _numbered(id: str, number: int) -> str:
    return id if number == 1 else f"{id} ({number})"


def _contains(ordered: np.ndarray, number: int) -> bool:
    at = int(np.searchsorted(ordered, np.uint64(number)))
    return at < len(ordered) and int(ordered[at]) == number


def _short_hash(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _count(
    entries: Entries,
    encode: Callable[[Sequence[tuple[str, str]]], Iterable[np.ndarray]],
    unknown_in: Callable[[np.ndarray, str], list[str]],
) -> tuple[dict, dict]:
    """Return the columns of `Counts`, and how often each unknown character occurs, the most frequent ones first."""
    counts = Counts(*np.zeros((3, len(entries)), np.int32))
    unknown: Counter[str] = Counter()
    for rows, texts in _chunks(entries):
        for row, symbols, (text, _) in zip(rows, encode(texts), texts):
            counts.lengths[row], counts.frames[row] = len(symbols), frames_needed(symbols)
            characters = unknown_in(symbols, text)
            counts.unknown[row] = len(characters)
            unknown.update(characters)
    return counts._asdict(), {"unknown": unknown.most_common()}


def _tell_unknown(name: str, counts: Counts, unknown: list[tuple[str, int]]) -> None:
    if unknown and current().is_first:
        total, texts = int(counts.unknown.sum()), np.count_nonzero(counts.unknown)
        log.warning(
            "%s: %d characters in %d texts are not in the tokenizer, and become unknown labels: %s",
            *(name, total, texts, name_most_frequent(unknown)),
        )


def name_most_frequent(unknown: Sequence[tuple[str, int]]) -> str:
    """Return the first `MOST_NAMED` of some characters with how often each occurs, and how many more there are."""
    named = ", ".join(f"{character!r} {count}" for character, count in unknown[:MOST_NAMED])
    return named + (f" and {len(unknown) - MOST_NAMED} other ones" if len(unknown) > MOST_NAMED else "")


def _tell_refusals(entries: Entries, units: Units) -> None:
    for place, language in enumerate(entries.languages):
        rows = np.flatnonzero((entries.language == place) & (entries.words > 0))
        if current().is_first and len(rows) and (why := units.refusal(language)):
            first = entries.id(int(rows[0]))
            log.warning(
                "%s: %d texts are left without text units, the first of them %s: %s",
                entries.corpus.name,
                len(rows),
                first,
                why,
            )


def _chunks(entries: Entries) -> Iterator[tuple[list[int], list[tuple[str, str]]]]:
    """Yield the rows whose texts are not empty in chunks, with their (text, language tag)."""
    with tqdm.tqdm(total=len(entries), desc=f"texts of {entries.corpus.name}", unit=" texts", **BAR) as bar:
        for start in range(0, len(entries), TOGETHER):
            stop = min(start + TOGETHER, len(entries))
            rows = [row for row in range(start, stop) if entries.words[row]]
            yield rows, [(entries.text(row), entries.language_of(row)) for row in rows]
            bar.update(stop - start)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # JSON may hold halves of surrogate pairs


def _decoded(content: bytes) -> str:
    return content.decode("utf-8", "surrogatepass")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
