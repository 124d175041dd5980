"""The index of a data set: its content, when it is made again, and what happens if its file is damaged."""

import dataclasses
import json
import logging
import random
import shutil
import tempfile

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from joint_st import storage
from joint_st.config import DataConfig, FeaturesConfig, LmDataConfig, ManifestSource, TextSource, UnitsConfig
from joint_st.data.columns import Columns, Damaged, Writer
from joint_st.data.dataset import open_lm_texts, open_paired, open_texts
from joint_st.data.index import Indexes
from joint_st.data.normalizers import normalizer
from joint_st.data.sources import Concatenated, open_source
from joint_st.data.sources.manifest import Manifest
from joint_st.data.sources.text import Sentences
from joint_st.data.text_units import make_units
from joint_st.data.text_units.units import Spelling
from joint_st.data.tokenizers import Characters
from joint_st.errors import UserError
from joint_st.ops.ctc import frames_needed

ENGLISH = normalizer("english")
CHARACTERS = Characters(" 'abcdefghijklmnopqrstuvwxyz")
WORDS = "a bb see too eleven fine ooo Grüße 12 ?! doesn't".split()


@pytest.fixture
def sources(tmp_path):
    """A manifest of 40 utterances, some with word times, and a file of sentences."""
    draw = random.Random(1)
    soundfile.write(tmp_path / "a.wav", np.zeros(48000, np.int16), 16000)
    lines = []
    for i in range(40):
        words = draw.choices(WORDS, k=draw.randint(0, 6))
        line = {"id": f"u{i}", "audio_filepath": "a.wav", "offset": 0, "duration": draw.uniform(0.05, 3)}
        line |= {"text": " ".join(words)}
        line |= {"language": draw.choice(["en", "de", None])}
        if i % 3 == 0:
            line |= {"word_starts": [0.0] * len(words), "word_ends": [0.01] * len(words)}
        lines.append(json.dumps(line))
    (tmp_path / "m.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "t.txt").write_text("one two\n\n?!\nthree three\n")
    return ManifestSource(path=str(tmp_path / "m.jsonl")), TextSource(path=str(tmp_path / "t.txt"), language="fr")


def config(sources, tmp_path, **fields):
    return DataConfig(train=sources[:1], text=sources, index_cache=str(tmp_path / "cache"), **fields)


def opened(data, normalize=ENGLISH, tokenizer=CHARACTERS, units=None, training=False):
    """Return the utterances of `data.train`, and how many files of the index were made for them."""
    indexes = Indexes(data.index_cache, normalize)
    made_with = data, FeaturesConfig(), normalize, tokenizer, units
    return open_paired(data.train, *made_with, training=training, indexes=indexes), indexes.cache.made


def contents(dataset):
    """Return everything that a data set knows about its rows."""
    names = ("rows", "label_lengths", "unit_lengths", "frames_needed", "unit_frames_needed", "words")
    columns = {name: getattr(dataset, name).tolist() for name in names}
    if dataset.features:
        columns["lengths"] = dataset.lengths.tolist()
    rows = [(dataset.id(n), dataset.text(n), dataset.language(n)) for n in range(len(dataset))]
    return columns, rows, dataset.dropped, [dataset.languages[i] for i in dataset.language_of]


def least_frames(symbols):
    """Length of the shortest path that spells the symbols: one frame each, and a blank (None) where needed."""
    path = []
    for symbol in symbols:
        path += [None, symbol] if path and path[-1] == symbol else [symbol]
    return len(path)


@pytest.mark.parametrize("kind", ["none", "characters", "phonemes"])
def test_columns_are_what_each_row_says(sources, tmp_path, kind):
    data = config(sources, tmp_path)
    texts = [(ENGLISH(open_source(sources[0]).entry(i).text), "en") for i in range(40)]
    units = make_units(UnitsConfig(kind=kind), texts)
    corpus = Concatenated([open_source(source) for source in sources])
    paired, _ = opened(data, units=units)
    read = open_texts(data, ENGLISH, CHARACTERS, units or make_units(UnitsConfig(kind="characters"), texts))
    assert paired.corpora == (tmp_path.name,) and read.corpora == (tmp_path.name, "t")
    assert len(paired) == 40 and not paired.dropped
    for dataset in (paired, read):
        symbols = dataset.units
        for n, row in enumerate(dataset.rows):
            entry = corpus.entry(int(row))
            text = ENGLISH(entry.text)
            labels = CHARACTERS.encode(text).tolist()
            encoded = symbols.encode(text, entry.language).tolist() if symbols else []
            assert (dataset.id(n), dataset.text(n), dataset.language(n)) == (entry.id, text, entry.language)
            assert dataset.entry(n) == entry
            assert dataset.languages[dataset.language_of[n]] == entry.language
            assert dataset.corpora[dataset.corpus_of[n]] == (tmp_path.name if row < 40 else "t")
            assert (dataset.label_lengths[n], dataset.frames_needed[n]) == (len(labels), least_frames(labels))
            assert (dataset.unit_lengths[n], dataset.unit_frames_needed[n]) == (len(encoded), least_frames(encoded))
            assert dataset.words[n] == len(text.split())
            example = dataset.load(n)
            assert (example.labels.tolist(), example.units.tolist()) == (labels, encoded)
            assert example.language == entry.language
    assert read.dropped["empty"] == sum(not ENGLISH(corpus.entry(i).text) for i in range(len(corpus)))
    assert read.lengths is not None if read.features else not len(read.load(0).audio)


@given(st.lists(st.integers(1, 3), max_size=8))
def test_fewest_frames(symbols):
    assert frames_needed(np.array(symbols, np.int32)) == least_frames(symbols)


def test_a_second_opening_reads_no_source(sources, tmp_path, monkeypatch):
    data = config(sources, tmp_path)
    units = make_units(UnitsConfig(kind="characters"), [("one two three", "")])

    def both():
        indexes = Indexes(data.index_cache, ENGLISH)
        made_with = ENGLISH, CHARACTERS, units
        paired = open_paired(data.train, data, FeaturesConfig(), *made_with, training=True, indexes=indexes)
        texts = open_texts(data, *made_with, indexes=indexes)
        return contents(paired), contents(texts), paired.fingerprint, indexes.cache.made

    *first, made = both()
    assert made == 6  # entries, labels and units of two sources
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name.startswith(".")]
    reads = []
    for corpus in (Manifest, Sentences):
        monkeypatch.setattr(corpus, "entry", lambda self, i: reads.append(i))
        monkeypatch.setattr(corpus, "__len__", lambda self: reads.append("length"))
    *second, made = both()
    assert (second, made, reads) == (first, 0, [])


def test_what_an_index_depends_on_makes_it_anew(sources, tmp_path):
    data = config(sources, tmp_path)
    first, made = opened(data)
    assert made == 2 and opened(data)[1] == 0
    # Entries and counts; or counts alone, where the texts are the same.
    renamed = dataclasses.replace(ENGLISH, version=ENGLISH.version + 1, apply=lambda text: ENGLISH(text)[::-1])
    again, made = opened(data, renamed)
    assert made == 2 and again.text(3) == first.text(3)[::-1]
    assert opened(data)[1] == 2
    assert opened(data, normalizer("basic"))[1] == 2
    assert opened(data, tokenizer=Characters("abc"))[1] == 1
    assert opened(data)[1] == 0  # of other tokenizers and normalisers by name, each has its own
    with_units = make_units(UnitsConfig(kind="characters"), [("abc", "")])
    assert opened(data, units=with_units)[1] == 0  # counted as labels above: the same characters
    assert opened(data, units=make_units(UnitsConfig(kind="phonemes"), [("abc", "en")]))[1] == 1
    assert opened(data, units=make_units(UnitsConfig(kind="phonemes", language="de"), [("abc", "en")]))[1] == 1
    bounds = data.model_copy(update={"max_seconds": 1.0, "max_text_units": 2, "strict": True})
    assert opened(bounds, units=with_units, training=True)[1] == 0


def test_labels_and_units_of_one_tokenizer_are_counted_apart(tmp_path, caplog):
    (tmp_path / "t.txt").write_text("abc\nxyz\n")
    source, few = TextSource(path=str(tmp_path / "t.txt")), Characters("abc")
    for first in ("units", "labels"):
        cache = str(tmp_path / first)
        for kind in (first, "labels", "units"):
            caplog.clear()
            indexes = Indexes(cache, ENGLISH)
            if kind == "labels":
                assert indexes.labels(source, few).unknown.tolist() == [0, 3] and "3 characters" in caplog.text
            assert indexes.units(source, Spelling(few)).unknown.tolist() == [0, 0]
            assert caplog.text.count("characters") == (kind == "labels")
    assert indexes.labels(source, few).unknown.tolist() == [0, 3] and "3 characters" in caplog.text


def test_a_changed_line_makes_it_anew(sources, tmp_path):
    data = config(sources, tmp_path)
    first, _ = opened(data)
    path = tmp_path / "m.jsonl"
    lines = path.read_text().splitlines()
    changed = json.loads(lines[7]) | {"text": "another line", "duration": 2.5}
    path.write_text("\n".join([*lines[:7], json.dumps(changed), *lines[8:-1]]))
    again, made = opened(data)
    assert made == 2 and len(again) == 39
    assert (again.text(7), again.label_lengths[7], again.lengths[7]) == ("another line", 12, 40000)
    assert [again.id(n) for n in range(39)] == [first.id(n) for n in range(39)]


def spoilt(path, how):
    content = bytearray(path.read_bytes())
    if how == "empty":
        content = b""
    elif how == "truncated":
        content = content[: len(content) // 2]
    elif how == "the end is missing":
        content = content[:-1]
    elif how == "garbage":
        content = random.Random(0).randbytes(len(content))
    elif how == "a flipped bit":
        content[len(content) // 3] ^= 4
    elif how == "zeros":
        content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["empty", "truncated", "the end is missing", "garbage", "a flipped bit", "zeros"])
def test_a_damaged_file_is_made_again_and_told_in_a_line(sources, tmp_path, caplog, how):
    data = config(sources, tmp_path)
    first, _ = opened(data)
    expected = contents(first)
    files = sorted((tmp_path / "cache").iterdir())
    assert len(files) == 2
    for path in files:
        copy = tmp_path / "copy"
        shutil.copyfile(path, copy)
        spoilt(copy, how)
        path.unlink()
        copy.rename(path)
        with caplog.at_level(logging.WARNING):
            again, made = opened(data)
        assert made == 1 and contents(again) == expected
        assert [r.getMessage().startswith(f"{path}: damaged (") for r in caplog.records] == [True]
        caplog.clear()
        assert opened(data)[1] == 0
    assert contents(first) == expected


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.binary(max_size=9), st.integers(-(2**31), 2**31 - 1), st.booleans()), max_size=20),
    at=st.integers(0, 10_000),
    flip=st.integers(1, 255),
)
def test_files_of_columns_hold_what_was_written_and_notice_any_change(tmp_path_factory, rows, at, flip):
    path = tmp_path_factory.mktemp("columns") / "file"
    with Writer(path) as writer:
        ends = [writer.add(content) for content, _, _ in rows]
        columns = {
            "end": np.array(ends, np.int64),
            "number": np.array([number for _, number, _ in rows], np.int32),
            "truth": np.array([truth for _, _, truth in rows], bool),
            "same": np.full(len(rows), 2.5),
        }
        writer.finish(columns, {"key": "äö", "more": [1, None]})
    found = Columns(path)
    assert found.about == {"key": "äö", "more": [1, None]}
    for name, column in columns.items():
        assert found.columns[name].dtype == column.dtype
        np.testing.assert_array_equal(found.columns[name], column)
    for start, end, (content, _, _) in zip([0, *ends], ends, rows):
        assert found.content(start, end) == content
    whole = bytearray(path.read_bytes())
    changed = path.with_name("changed")
    at %= len(whole)
    changed.write_bytes(whole[:at])
    with pytest.raises(Damaged):
        Columns(changed)
    whole[at] ^= flip
    changed.write_bytes(whole)
    with pytest.raises(Damaged):
        Columns(changed)


def test_a_file_that_was_missing_is_taken_up_when_it_is_there(sources, tmp_path, caplog):
    data = config(sources, tmp_path)
    (tmp_path / "a.wav").rename(tmp_path / "away.wav")
    for _ in range(2):
        with pytest.raises(
            UserError, match=r"no utterance of .* is left \(40 unreadable: u0: .*/a.wav: no such file\)"
        ):
            opened(data)
        assert sum("left out u" in r.getMessage() for r in caplog.records) == 10
        caplog.clear()
    (tmp_path / "away.wav").rename(tmp_path / "a.wav")
    found, made = opened(data)
    assert len(found) == 40 and not caplog.records


def test_reasons_stand_in_the_order_of_their_first_rows(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(16000, np.int16), 16000)
    rows = [(3.0, "a"), (1.0, "a"), (0.01, "a"), (3.0, "b"), (1.0, "?"), (0.01, "?")]
    lines = [json.dumps({"audio_filepath": "a.wav", "duration": s, "text": t}) for s, t in rows]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    source = (ManifestSource(path=str(tmp_path / "m.jsonl")),)
    found, _ = opened(config(source, tmp_path, max_seconds=2.0), training=True)
    assert list(found.dropped.items()) == [("too long", 2), ("too short", 2), ("with empty text", 1)]
    assert found.rows.tolist() == [1]


def test_texts_of_the_dev_set_are_held_out_by_what_they_say(tmp_path):
    (tmp_path / "train.txt").write_text("One!\ntwo\n?\ntoo long a text\none\nthree\n")
    (tmp_path / "dev.txt").write_text("one\nfour\n")
    train, dev = (TextSource(path=str(tmp_path / f"{name}.txt")) for name in ("train", "dev"))
    data = LmDataConfig(train=(train,), dev=(dev,), max_labels=8, index_cache=str(tmp_path / "cache"))
    for _ in range(2):
        made_with = data, ENGLISH, CHARACTERS
        held_out = open_lm_texts(data.dev, *made_with, "data.dev")
        texts = open_lm_texts(data.train, *made_with, "data.train", held_out)
        assert [texts.text(n) for n in range(len(texts))] == ["two", "three"]
        assert list(texts.dropped.items()) == [("that data.dev has too", 2), ("empty", 1), ("too long", 1)]
        assert texts.describe() == "2 texts, 4.0 labels each; dropped 2 that data.dev has too, 1 empty, 1 too long"


def test_texts_of_equal_hashes_are_told_apart(tmp_path, monkeypatch):
    (tmp_path / "train.txt").write_text("one\ntwo\n")
    (tmp_path / "dev.txt").write_text("one\n")
    train, dev = (TextSource(path=str(tmp_path / f"{name}.txt")) for name in ("train", "dev"))
    data = LmDataConfig(train=(train,), dev=(dev,), index_cache=str(tmp_path / "cache"))
    held_out = open_lm_texts(data.dev, data, ENGLISH, CHARACTERS, "data.dev")
    monkeypatch.setattr("numpy.isin", lambda one, other: np.ones(len(one), bool))
    texts = open_lm_texts(data.train, data, ENGLISH, CHARACTERS, "data.train", held_out)
    assert [texts.text(n) for n in range(len(texts))] == ["two"]


def test_a_source_that_says_no_place_is_not_kept(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(Manifest, "place", property(lambda self: "", lambda self, value: None), raising=False)
    data = config(sources, tmp_path)
    first, made = opened(data)
    again, more = opened(data)
    assert made == more == 2 and contents(first) == contents(again)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named_once_and_another_serves(sources, tmp_path, monkeypatch, caplog):
    expected = contents(opened(config(sources, tmp_path))[0])
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").write_text("a file")
    (tmp_path / "spare").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "spare"))
    with caplog.at_level(logging.WARNING):
        found, made = opened(config(sources, tmp_path))
    assert made == 2 and contents(found) == expected
    (told,) = [r.getMessage() for r in caplog.records]
    assert told.startswith(f"{tmp_path}/cache: the index of the data cannot be kept here (") and "\n" not in told
    assert told.endswith(f"data.index_cache; for now it is in {tmp_path}/spare, for this process alone")
    assert list((tmp_path / "spare").iterdir()) == []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "cache"))
    with pytest.raises((UserError, OSError)):
        opened(config(sources, tmp_path))


def test_hosts_share_an_index_in_a_bucket(sources, tmp_path, monkeypatch, bucket, cloud, caplog):
    data = config(sources, tmp_path).model_copy(update={"index_cache": f"gs://{bucket}/index"})
    monkeypatch.setenv("HOME", str(tmp_path / "one"))
    first, made = opened(data)
    expected = contents(first)
    assert made == 2 and len(cloud.buckets[bucket]) == 2
    assert opened(data)[1] == 0
    monkeypatch.setenv("HOME", str(tmp_path / "two"))
    again, made = opened(data)
    assert made == 0 and contents(again) == expected
    monkeypatch.setenv("HOME", str(tmp_path / "three"))
    for name in cloud.buckets[bucket]:
        storage.write_whole(storage.path(f"gs://{bucket}/{name}"), b"junk")
    with caplog.at_level(logging.WARNING):
        again, made = opened(data)
    assert made == 2 and contents(again) == expected
    assert sum("damaged" in r.getMessage() for r in caplog.records) == 2
    monkeypatch.setenv("HOME", str(tmp_path / "four"))
    assert opened(data)[1] == 0


def test_half_a_surrogate_pair_is_read_as_what_can_be_written(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(16000, np.int16), 16000)
    line = '{"audio_filepath": "a.wav", "id": "\\ud800", "duration": 1, "text": "a\\udc00b"}'
    (tmp_path / "m.jsonl").write_text(line)
    source = (ManifestSource(path=str(tmp_path / "m.jsonl")),)
    found, _ = opened(config(source, tmp_path), normalizer("none"))
    assert (found.id(0), found.text(0)) == ("\\ud800", "a\ufffdb")
