"""Ids and lengths of utterances: ids that are made up differ from all others, one that is written twice is refused, and
so is a length beyond all arrays."""

import json

import numpy as np
import pytest
import soundfile

from joint_st.config import DataConfig, ManifestSource
from joint_st.data import index
from joint_st.data.utterance import Entry
from joint_st.errors import UserError
from tests.data.test_index import opened


def ids_of(path, lines):
    path.write_text("".join(json.dumps({"text": "a", **line}) + "\n" for line in lines))
    data = DataConfig(train=(ManifestSource(path=str(path)),), index_cache=str(path.parent / "cache"))
    dataset, _ = opened(data)
    again, made = opened(data)
    found = [dataset.id(n) for n in range(len(dataset))]
    assert made == 0 and found == [again.id(n) for n in range(len(again))]
    assert found == [dataset.entry(n).id for n in range(len(dataset))]
    assert found == [dataset.utterance(n).id for n in range(len(dataset))]
    return found


def test_no_two_utterances_have_one_id(tmp_path):
    for name in ("a.wav", "a.flac", "b.wav"):
        soundfile.write(tmp_path / name, np.zeros((16000, 2), np.int16), 16000)
    lines = [{"audio_filepath": name} for name in ("a.wav", "a.flac", "b.wav")]
    assert ids_of(tmp_path / "m.jsonl", lines) == ["a.wav", "a.flac", "b"]
    lines = [{"audio_filepath": "b.wav", "channel": channel} for channel in (0, 1)]
    assert ids_of(tmp_path / "m.jsonl", lines) == ["b#0", "b#1"]
    lines = [{"audio_filepath": "b.wav", "offset": 0.25, "duration": seconds} for seconds in (0.25, 0.5, 0.5)]
    assert ids_of(tmp_path / "m.jsonl", lines) == ["b.wav@0.25+0.25", "b.wav@0.25+0.5", "b.wav@0.25+0.5 (2)"]
    # Ids that are made up give way to those that are written.
    lines = [
        {"audio_filepath": "a.wav"},
        {"audio_filepath": "b.wav", "id": "a"},
        {"audio_filepath": "a.wav", "id": "a.wav"},
    ]
    assert ids_of(tmp_path / "m.jsonl", lines) == ["a.wav (2)", "a", "a.wav"]


def test_a_line_that_is_written_many_times_is_numbered_in_one_pass(tmp_path):
    written = []

    class Counting(str):
        def __format__(self, form):
            written.append(self)
            return str(self)

    class Corpus:
        def entry(self, row):
            return Entry("a", 1.0, "a", True, full_id="" if row == 50 else Counting("a.wav"))

    hashes = np.full(101, index._short_hash(b"a"), np.uint64)
    hashes[50] = index._short_hash(b"a.wav (3)")
    found = index.unique_ids(Corpus(), hashes)
    numbered = [f"a.wav ({n})" for n in range(2, 102) if n != 3]
    assert list(found.values()) == ["a.wav", *numbered] and 50 not in found
    assert len(written) < 250


def test_an_id_that_is_written_twice_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(16000, np.int16), 16000)
    lines = [{"audio_filepath": "a.wav", "id": id} for id in ("u", "v", 3, "w", "3")]
    with pytest.raises(UserError, match=r"m.jsonl:3 and .*/m.jsonl:5: both have the id '3'; give each"):
        ids_of(tmp_path / "m.jsonl", lines)


def test_a_length_beyond_all_arrays_is_no_length(tmp_path):
    """A duration given in samples is detected before anything is planned with it; the rest is read."""
    soundfile.write(tmp_path / "a.wav", np.zeros(16000, np.int16), 16000)
    lines = [{"audio_filepath": "a.wav", "id": "x", "duration": 160_000}, {"audio_filepath": "a.wav", "id": "y"}]
    assert ids_of(tmp_path / "m.jsonl", lines) == ["y"]
    lines[0]["duration"] = 16_000
    with pytest.raises(
        UserError, match=r"\(1 unreadable: x: .*/a.wav: 1.000 s long, .* 16000.000 s \(is it in samples"
    ):
        ids_of(tmp_path / "m.jsonl", lines[:1])
