"""TFDS datasets stored as ArrayRecord, read without TensorFlow."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
import tqdm
from pydantic import JsonValue
from tensorflow_datasets.core.naming import parse_builder_name_kwargs
from tensorflow_datasets.core.read_only_builder import builder_from_files
from tensorflow_datasets.core.registered import DatasetNotFoundError

from joint_st.config import TfdsSource
from joint_st.data.audio import UnreadableAudio
from joint_st.data.corpora import built_here
from joint_st.data.paths import cache_folder, expand, refuse_bucket
from joint_st.data.sources.corpus import opens
from joint_st.data.sources.lines import Lines
from joint_st.data.utterance import Entry, Utterance
from joint_st.errors import UserError
from joint_st.json_files import parse_json

FORMAT = 6
"""Number of the format of the file of entries; files of another number are not read."""

KNOWN = {"id", "audio", "sample_rate", "num_samples", "text", "language", "speaker", "word_starts", "word_ends"}
KNOWN |= {"synthetic"}
"""Features with a meaning of their own; all others go to `Utterance.extra`."""


@opens("tfds")
class Tfds:
    """The utterances of one split.

    Features: `text`, and for speech `audio` (int16 [samples]) and `sample_rate` (Hz); optionally `id`, `language`,
    `speaker`, `noise` (its name, or that of the condition), `snr` (dB), `synthetic` (whether a machine speaks),
    `num_samples`, and `word_starts` and `word_ends`, the first sample of each word and the one after its last (seconds
    if they are floats). An utterance without samples is text alone. A record can only be read as a whole, audio
    included, so the entries of a split are gathered once and kept on disk.
    """

    def __init__(self, config: TfdsSource):
        # Imported here, because our own builders import TFDS, which takes a while.
        from joint_st.data.corpora import build_if_absent

        given = config.data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
        refuse_bucket(given)
        data_dir = str(expand(given))
        if not config.data_dir:  # do not write into a folder that the config of someone else's run names
            build_if_absent(config.name, data_dir)
        where = f"{config.name} in {data_dir}"
        builder = _builder(config.name, data_dir)
        self.name = builder.name
        self._split = config.split
        try:
            source = builder.as_data_source(config.split)
            len(source)  # of a slice that ends before it begins, such as train[5:2], it is an error
        except ValueError:
            splits = ", ".join(sorted(builder.info.splits))
            raise UserError(
                f"{where}: no split {config.split!r}; it has {splits} (and slices such as train[:10%])"
            ) from None
        except NotImplementedError:
            raise UserError(
                f"{where}: stored as {builder.info.file_format.name}, which needs TensorFlow; "
                "prepare it with file_format='array_record'"
            ) from None
        self._features: Any = builder.info.features
        if "text" not in self._features or ("audio" in self._features) != ("sample_rate" in self._features):
            raise UserError(
                f"{where}: its features are {', '.join(sorted(self._features))}; "
                "speech needs audio, sample_rate and text"
            )
        _check_audio(where, self._features)
        self._records = source.data_source
        length = "num_samples" if "num_samples" in self._features else "audio"
        wanted = {"id", "text", "language", "speaker", "noise", "snr", "sample_rate"}
        wanted = (wanted | {"synthetic", length}) & set(self._features)
        self._brief: Any = tfds.features.FeaturesDict({key: self._features[key] for key in sorted(wanted)})
        written = os.stat(os.path.join(builder.data_path, "dataset_info.json")).st_mtime_ns
        self.place = f"tfds {builder.data_path} {config.split}"
        self.version = f"{written} {len(self)}"

    @functools.cached_property
    def _entries(self) -> EntryFile:
        """The entries, gathered on first use, which reads all records, audio included."""
        return _entry_file(f"{self.place} {self.version}", self._read_entries())

    def __len__(self) -> int:
        return len(self._records)

    def entry(self, i: int) -> Entry:
        return self._entries[i]

    def where(self, i: int) -> str:
        """Return the split and the record of an utterance."""
        return f"{self.name} {self._split}, record {i}"

    def _read_entries(self) -> Iterator[Entry]:
        what = f"indexing {self.name} {self._split}"
        rows = tqdm.trange(len(self), desc=what, unit=" utterances", delay=1, leave=False, disable=None)
        return map(self._read_entry, rows)

    def _read_entry(self, i: int) -> Entry:
        example = self._brief.deserialize_example_np(self._records[i])
        samples = example["num_samples"] if "num_samples" in example else len(example.get("audio", ()))
        rate = int(example.get("sample_rate", 0))
        return Entry(
            id=self._id(example, i),
            seconds=int(samples) / rate if samples and rate > 0 else 0.0,
            text=self._text(example, i),
            has_audio=bool(samples),
            language=self._language(example),
            speaker=str(_plain(example.get("speaker", ""))),
            noise=str(_plain(example.get("noise", ""))),
            snr=_finite(example.get("snr")),
            synthetic=bool(example.get("synthetic", False)),
        )

    def __getitem__(self, i: int) -> Utterance:
        example = self._features.deserialize_example_np(self._records[i])
        return Utterance(
            id=self._id(example, i),
            audio=self._audio(example, i),
            sample_rate=int(example.get("sample_rate", 0)),
            text=self._text(example, i),
            language=self._language(example),
            speaker=str(_plain(example.get("speaker", ""))),
            corpus=self.name,
            word_times=self._word_times(example, i),
            extra={key: _plain(value) for key, value in example.items() if key not in KNOWN},
        )

    def _text(self, example: dict, i: int) -> str:
        """Return the text of an utterance; raises `UserError` where it is not in UTF-8."""
        text = _plain(example["text"])
        if not isinstance(text, str):
            raise UserError(f"{self.where(i)}: its text is not in UTF-8; prepare the dataset with text that is")
        return text

    def _audio(self, example: dict, i: int) -> np.ndarray:
        """Return the samples, int16, which a data set may store as wider whole numbers."""
        audio = np.asarray(example.get("audio", ()))
        if audio.dtype != np.int16 and audio.size and not (-(2**15) <= audio.min() <= audio.max() < 2**15):
            raise UnreadableAudio(self.where(i), "its samples have more than 16 bits")
        return audio.astype(np.int16)

    def _word_times(self, example: dict, i: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the times of the words; raises `UserError` where one ends before it begins."""
        times = _word_times(example)
        if times and (times[1] < times[0]).any():
            raise UserError(f"{self.where(i)}: a word ends before it begins; word_ends are no durations")
        return times

    def _id(self, example: dict, i: int) -> str:
        return str(_plain(example["id"])) if "id" in example else f"{self._split}-{i}"

    def _language(self, example: dict) -> str:
        """Return the language of an utterance, whose number a data set may have in place of its name; empty where it is not
        labelled."""
        language = _plain(example.get("language", ""))
        if not isinstance(language, int | np.integer):
            return str(language)
        if not hasattr(self._features["language"], "names"):
            return str(language)
        # TFDS writes -1 where there is no label, and reads that as the last name.
        return self._features["language"].names[language] if language >= 0 else ""


class EntryFile:
    """Entries in a file of lines; each is `[id, seconds, text, language, speaker, noise, snr, synthetic]`.

    An entry takes twelve bytes of memory.
    """

    def __init__(self, path: Path):
        self._lines = Lines(path)

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, i: int) -> Entry:
        identifier, seconds, text, language, speaker, noise, snr, synthetic = json.loads(self._lines[i])
        has_audio = seconds > 0
        return Entry(identifier, seconds, text, has_audio, language, speaker, noise, snr, synthetic=synthetic)


def _entry_file(key: str, entries: Iterable[Entry]) -> EntryFile:
    """Open the entries stored under `key`, which must change whenever the entries do; they are written if absent."""
    digest = hashlib.sha256(f"{FORMAT} {key}".encode()).hexdigest()[:32]
    path = cache_folder("index") / f"{digest}.jsonl"
    if not path.exists():
        # Written elsewhere until it is complete, because runs that start together may all write it.
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            whole = Path(folder) / path.name
            with open(whole, "w", encoding="utf-8") as file:
                for entry in entries:
                    own = (entry.id, entry.seconds, entry.text, entry.language, entry.speaker)
                    more = (entry.noise, entry.snr, entry.synthetic)
                    file.write(json.dumps((*own, *more)) + "\n")
            whole.replace(path)
    return EntryFile(path)


def _check_audio(where: str, features: Any) -> None:
    """Raise `UserError` where the samples of a dataset are not whole numbers of a single channel."""
    if "audio" not in features:
        return
    dtype, shape = np.dtype(features["audio"].np_dtype), features["audio"].shape
    if not np.issubdtype(dtype, np.integer) or len(shape) != 1:
        form = ", ".join("samples" if size is None else str(size) for size in shape)
        raise UserError(f"{where}: its audio is {dtype} [{form}]; store speech as int16 [samples]")


def _word_times(example: dict) -> tuple[np.ndarray, np.ndarray] | None:
    """Return starts and ends in seconds; whole numbers are samples."""
    if not {"word_starts", "word_ends", "sample_rate"} <= example.keys():
        return None
    times = [np.asarray(example[key]) for key in ("word_starts", "word_ends")]
    rate = float(example["sample_rate"])
    starts, ends = (t / rate if np.issubdtype(t.dtype, np.integer) else t.astype(float) for t in times)
    return starts, ends


def _finite(value) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None


def _builder(name: str, data_dir: str) -> Any:
    try:
        builder_name, _ = parse_builder_name_kwargs(name)
    except ValueError:
        raise UserError(f"{name}: no name of a TFDS dataset; write name, name/config or name:1.0.0") from None
    _refuse_foreign_features(Path(data_dir) / builder_name.name)
    # Read directly from the files: the code that made a dataset may need TensorFlow, its files do not.
    try:
        return builder_from_files(name, data_dir=data_dir)
    except ImportError:
        raise UserError(
            f"{name} in {data_dir}: it has features that need TensorFlow; "
            "store speech as an int16 Tensor, and its rate as the feature sample_rate"
        ) from None
    except DatasetNotFoundError:
        hint = f"; build it with `joint-st data build {name} --data-dir {data_dir}`" if built_here(name) else ""
        raise UserError(f"{name} in {data_dir}: no such TFDS dataset; there is {_present(data_dir)}{hint}") from None


def _refuse_foreign_features(folder: Path) -> None:
    """Raise `UserError` where a dataset names features that are not TFDS's own, because TFDS imports whatever module
    they name."""
    for file in (*folder.glob("*/features.json"), *folder.glob("*/*/features.json")):
        for name in _classes(parse_json(file.read_bytes(), JsonValue, str(file))):
            if not name.startswith("tensorflow_datasets."):
                raise UserError(f"{file}: the feature {name} is not one of TFDS's own; prepare it with those alone")


def _classes(features: Any) -> Iterator[str]:
    """Yield the names of classes in the description of features, in today's and in older forms."""
    if isinstance(features, dict):
        for key, value in features.items():
            if key in ("pythonClassName", "python_class_name", "type") and isinstance(value, str) and "." in value:
                yield value
            yield from _classes(value)
    elif isinstance(features, list):
        for value in features:
            yield from _classes(value)


def _present(data_dir: str) -> str:
    if not os.path.isdir(data_dir):
        return "no such folder"
    names = sorted(e.name for e in os.scandir(data_dir) if e.is_dir() and e.name != "downloads")
    return ", ".join(names) or "none there"


def _plain(value) -> Any:
    """Return bytes as text, sequences of scalars as arrays, and sequences of bytes as lists of text. Bytes that are not
    UTF-8, such as an image, stay as they are."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        values = [_plain(inner) for inner in value]
        return np.asarray(values) if values and isinstance(values[0], np.generic) else values
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [_plain(inner) for inner in value]
    return value
