import json
import os
import pickle
import shutil
import sys
import tempfile

import numpy as np
import pytest
import tensorflow_datasets as tfds

from joint_st.config import TfdsSource
from joint_st.data.audio import UnreadableAudio
from joint_st.data.corpora.spoken_grammar import build
from joint_st.data.sources import open_source
from joint_st.data.sources.tfds import Tfds
from joint_st.errors import UserError


class ToySpeech(tfds.core.GeneratorBasedBuilder):
    """Ramps as speech, and a split without audio."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "audio": tfds.features.Tensor(shape=(None,), dtype=np.int16, encoding="bytes"),
            "sample_rate": np.int32,
            "num_samples": np.int32,
            "text": tfds.features.Text(),
            "id": tfds.features.Text(),
            "speaker": tfds.features.Text(),
            "language": tfds.features.Text(),
            "noise": tfds.features.Text(),
            "snr": np.float32,
            "synthetic": np.bool_,
            "word_starts": tfds.features.Sequence(np.int32),
            "word_ends": tfds.features.Sequence(np.int32),
            "words": tfds.features.Sequence(tfds.features.Text()),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return {"train": self._examples(20, 1000), "text": self._examples(3, 0)}

    def _generate_examples(self):
        raise NotImplementedError

    def _examples(self, count, samples):
        for i in range(count):
            length = samples and samples + i
            yield (
                i,
                {
                    "audio": np.arange(length, dtype=np.int16),
                    "sample_rate": 8000,
                    "num_samples": length,
                    "text": f"Grüße {i}",
                    "id": f"u{i}",
                    "speaker": "s1",
                    "language": "de",
                    "noise": "babble",
                    "snr": 5.5 if length else np.inf,
                    "synthetic": i % 2 == 1,
                    "word_starts": [0, 10 * i],
                    "word_ends": [10 * i, 400],
                    "words": ["Grüße", str(i)],
                },
            )


class Bare(ToySpeech):
    """The least there can be."""

    def _info(self):
        features = {
            "audio": tfds.features.Tensor(shape=(None,), dtype=np.int16),
            "sample_rate": np.int32,
            "text": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _examples(self, count, samples):
        for i, example in super()._examples(count, samples):
            yield i, {key: example[key] for key in ("audio", "sample_rate", "text")}


class Numbered(ToySpeech):
    """Numbers where others have names."""

    def _info(self):
        features = {
            "audio": tfds.features.Tensor(shape=(None,), dtype=np.int16),
            "sample_rate": np.int32,
            "text": tfds.features.Text(),
            "id": np.int64,
            "speaker": np.int64,
            "language": tfds.features.ClassLabel(names=["de", "en"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _examples(self, count, samples):
        for i, example in super()._examples(count, samples):
            own = {key: example[key] for key in ("audio", "sample_rate", "text")}
            yield i, own | {"id": 100 + i, "speaker": 7, "language": self.language(i) or -1}

    @staticmethod
    def language(i):
        """The language of an utterance; empty for one without a label, for which TFDS has the number -1."""
        return "" if i == 4 else "en" if i % 2 else "de"


class Wide(Bare):
    """Samples of 32 bits; those of one record do not fit into 16."""

    dtype, shape = np.int32, (None,)

    def _info(self):
        audio = {"audio": tfds.features.Tensor(shape=self.shape, dtype=self.dtype)}
        features = tfds.features.FeaturesDict(dict(super()._info().features) | audio)
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _examples(self, count, samples):
        for i, example in super()._examples(count, samples):
            audio = example["audio"].astype(self.dtype) * (100 if i == 3 else 1)
            yield i, example | {"audio": audio if len(self.shape) == 1 else np.stack([audio, audio], 1)}


class Floats(Wide):
    dtype = np.float32


class Stereo(Wide):
    dtype, shape = np.int16, (None, 2)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    tfds.disable_progress_bar()
    for builder in (ToySpeech, Bare, Numbered, Wide, Floats, Stereo):
        builder(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


def open_tfds(data_dir, name="toy_speech", split="train"):
    return open_source(TfdsSource(name=name, split=split, data_dir=str(data_dir)))


def test_utterances_and_entries_agree(data_dir):
    corpus = pickle.loads(pickle.dumps(open_tfds(data_dir)))
    assert len(corpus) == 20 and corpus.name == "toy_speech"
    seen = set()
    for i in range(20):
        utterance, entry = corpus[i], corpus.entry(i)
        number = int(utterance.id[1:])
        seen.add(number)
        np.testing.assert_array_equal(utterance.audio, np.arange(1000 + number))
        assert utterance.audio.dtype == np.int16 and utterance.sample_rate == 8000
        assert (utterance.text, utterance.speaker, utterance.language) == (f"Grüße {number}", "s1", "de")
        assert utterance.corpus == "toy_speech" and utterance.extra["words"] == ["Grüße", str(number)]
        np.testing.assert_allclose(utterance.word_times, [[0, number / 800], [number / 800, 0.05]])
        assert sorted(utterance.extra) == ["noise", "snr", "words"]
        assert (entry.id, entry.text, entry.has_audio) == (utterance.id, utterance.text, True)
        assert (entry.language, entry.speaker, entry.noise, entry.snr) == ("de", "s1", "babble", 5.5)
        assert entry.synthetic is (number % 2 == 1)
        assert entry.seconds == len(utterance.audio) / 8000
    assert seen == set(range(20))
    assert "tensorflow" not in sys.modules


def test_slices_and_text_only_splits(data_dir):
    assert len(open_tfds(data_dir, split="train[:25%]")) == 5
    text = open_tfds(data_dir, split="text")
    assert [text.entry(i).has_audio for i in range(3)] == [False] * 3
    assert not len(text[0].audio) and text.entry(0).seconds == 0 and text.entry(0).snr is None


def test_optional_features_may_be_absent(data_dir):
    corpus = open_tfds(data_dir, "bare")
    utterance, entry = corpus[3], corpus.entry(3)
    assert utterance.id == entry.id == "train-3" and utterance.speaker == utterance.language == ""
    assert entry.seconds == len(utterance.audio) / 8000 > 0 and utterance.extra == {}


def test_numbers_of_utterances_and_speakers_are_names_and_those_of_languages_have_names(data_dir):
    corpus = open_tfds(data_dir, "numbered")
    found = [
        (one.id, one.speaker, one.language) for row in range(len(corpus)) for one in (corpus.entry(row), corpus[row])
    ]
    assert sorted(set(found)) == sorted((str(100 + i), "7", Numbered.language(i)) for i in range(20))


def test_the_data_dir_may_come_from_the_environment(data_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    assert len(open_source(TfdsSource(name="toy_speech", split="train"))) == 20


def test_wider_samples_are_read_where_they_fit(data_dir):
    corpus, read = open_tfds(data_dir, "wide"), {}
    for row in range(20):
        try:
            read[corpus.entry(row).text] = corpus[row].audio
        except UnreadableAudio as error:
            assert corpus.entry(row).text == "Grüße 3" and "its samples have more than 16 bits" in str(error)
    assert len(read) == 19 and read["Grüße 5"].dtype == np.int16
    np.testing.assert_array_equal(read["Grüße 5"], np.arange(1005))


def test_a_bucket_is_refused(monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", "gs://bucket/tfds")
    with pytest.raises(
        UserError, match="gs://bucket/tfds: TFDS datasets are read from disks and built there; copy them"
    ):
        open_source(TfdsSource(name="spoken_grammar/tiny", split="train"))
    with pytest.raises(UserError, match="gs://bucket/tfds: TFDS datasets are read from disks and built there"):
        build(config="tiny")


@pytest.mark.parametrize(
    "name, split, message",
    [
        ("toy_speach", "train", "no such TFDS dataset; there is bare, floats, numbered, stereo, toy_speech, wide"),
        ("floats", "train", r"its audio is float32 \[samples\]; store speech as int16 \[samples\]"),
        ("stereo", "train", r"its audio is int16 \[samples, 2\]; store speech as int16 \[samples\]"),
        ("toy_speech/large", "train", "no such TFDS dataset"),
        ("toy speech!", "train", "no name of a TFDS dataset"),
        ("toy_speech", "trian", "no split 'trian'; it has text, train"),
        ("toy_speech", "train[:x%]", "no split"),
        ("toy_speech", "train[5:2]", r"no split 'train\[5:2\]'"),
    ],
)
def test_what_is_not_there_is_named_in_one_line(data_dir, name, split, message):
    with pytest.raises(UserError, match=message) as caught:
        open_tfds(data_dir, name, split)
    assert "\n" not in str(caught.value) and name in str(caught.value)


class Latin(Bare):
    """Text of one record in another encoding, and bytes that are no text."""

    def _info(self):
        features = dict(super()._info().features) | {"image": tfds.features.Text(), "id": tfds.features.Text()}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _examples(self, count, samples):
        for i, example in super()._examples(min(count, 3), samples):
            yield i, example | {"text": b"Gr\xfc\xdfe" if i == 1 else f"Grüße {i}", "image": b"\xff\xd8", "id": f"{i}"}


def test_text_that_is_not_utf_8_is_named_and_other_bytes_are_kept(tmp_path):
    Latin(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    corpus = open_tfds(tmp_path, "latin")
    read = [corpus._brief.deserialize_example_np(corpus._records[i])["id"].decode() for i in range(3)]
    for i, name in enumerate(read):
        if name != "1":
            assert (corpus[i].text, corpus[i].extra) == (f"Grüße {name}", {"image": b"\xff\xd8"})
            continue
        for get in (corpus.__getitem__, corpus.entry):
            with pytest.raises(UserError, match=rf"^latin train, record {i}: its text is not in UTF-8; prepare"):
                get(i)


def as_audio_feature(features):
    features["featuresDict"]["features"]["audio"] = {
        "pythonClassName": "tensorflow_datasets.core.features.audio_feature.Audio",
        "audio": {"dtype": "int64", "encoding": "none", "shape": {"dimensions": ["-1"]}},
    }


def without_text(features):
    del features["featuresDict"]["features"]["text"]


def as_tfrecord(info):
    info["fileFormat"] = "tfrecord"


@pytest.mark.parametrize(
    "file, change, message",
    [
        ("features.json", as_audio_feature, "features that need TensorFlow"),
        ("features.json", without_text, "its features are audio, sample_rate; speech needs"),
        ("dataset_info.json", as_tfrecord, "needs TensorFlow; prepare it with"),
    ],
)
def test_datasets_that_cannot_be_read_say_why(data_dir, tmp_path, file, change, message):
    copied = tmp_path / "bare" / "1.0.0"
    shutil.copytree(data_dir / "bare" / "1.0.0", copied)
    content = json.loads((copied / file).read_text())
    change(content)
    (copied / file).write_text(json.dumps(content))
    with pytest.raises(UserError, match=message) as caught:
        open_tfds(tmp_path, "bare")
    assert "\n" not in str(caught.value)


def test_the_index_is_kept_until_the_dataset_changes(data_dir, tmp_path, monkeypatch):
    shutil.copytree(data_dir / "toy_speech", tmp_path / "data" / "toy_speech")
    read = []
    original = Tfds._read_entry
    monkeypatch.setattr(Tfds, "_read_entry", lambda self, i: read.append(i) or original(self, i))
    first = open_tfds(tmp_path / "data")
    assert not read, "opened alone, none is read"
    assert len(first.entry(0).id) and sorted(read) == list(range(20))
    again = open_tfds(tmp_path / "data")
    assert [again.entry(i) for i in range(20)] == [first.entry(i) for i in range(20)] and len(read) == 20
    open_tfds(tmp_path / "data", split="train[5:]").entry(0)
    assert len(read) == 35
    os.utime(tmp_path / "data" / "toy_speech" / "1.0.0" / "dataset_info.json", (1, 1))
    open_tfds(tmp_path / "data").entry(0)
    assert len(read) == 55
    assert len(list((tmp_path / ".cache" / "joint_st" / "index").iterdir())) == 3


def test_a_home_that_cannot_be_written_does_not_matter(data_dir, tmp_path, monkeypatch):
    (tmp_path / "home").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert open_tfds(data_dir).entry(3).text.startswith("Grüße")
