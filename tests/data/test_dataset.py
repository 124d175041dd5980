import json

import numpy as np
import pytest
import soundfile

from joint_st.config import DataConfig, FeaturesConfig, ManifestSource, TextSource
from joint_st.data.audio import UnreadableAudio
from joint_st.data.dataset import open_paired
from joint_st.data.normalizers import normalizer
from joint_st.data.tokenizers import Characters
from joint_st.errors import UserError

CHARACTERS = Characters(" 'abcdefghijklmnopqrstuvwxyz")


@pytest.fixture
def source(tmp_path):
    """One utterance for every reason to keep or drop it, at 8 kHz, in a manifest and in a text file."""
    fates = [
        ("good", 1.0, "Hello!"),
        ("short", 0.05, "a"),
        ("long", 3.0, "a"),
        ("silent", 1.0, " ?! "),
        ("crowded", 1.0, "abcdefghijklmnopqrstuvwxyz"),  # 26 labels in 25 frames
        ("doubled", 1.0, "aa" * 10),  # 20 labels and 19 blanks
        ("fits", 1.0, "ab" * 12 + "a"),  # 25 labels
        ("gone", 1.0, "a"),
        ("unstated", None, "hello"),
    ]
    lines = []
    for name, seconds, text in fates:
        if name != "gone":
            soundfile.write(tmp_path / f"{name}.wav", np.ones(round((seconds or 0.5) * 8000), np.int16), 8000)
        lines.append(json.dumps({"audio_filepath": f"{name}.wav", "duration": seconds, "text": text}))
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    (tmp_path / "t.txt").write_text("only text\n")
    return ManifestSource(path=str(tmp_path / "m.jsonl")), TextSource(path=str(tmp_path / "t.txt"))


def ready(source, *, training, **fields):
    data = DataConfig(train=source, max_seconds=2.0, **fields)
    return open_paired(source, data, FeaturesConfig(), normalizer("english"), CHARACTERS, training=training)


def test_training_leaves_out_what_cannot_be_trained_on_and_counts_it(source, tmp_path, caplog):
    prepared = ready(source, training=True)
    assert [prepared.id(n) for n in range(len(prepared))] == ["good", "fits", "unstated"]
    assert prepared.lengths.tolist() == [16000, 16000, 8000] and prepared.lengths.dtype == np.int32
    assert prepared.label_lengths.tolist() == [5, 25, 5]
    assert prepared.dropped == {
        "too short": 1,
        "too long": 1,
        "with empty text": 1,
        "with more labels than CTC can emit in their frames": 2,
        "unreadable": 1,
        "without audio": 1,
    }
    assert prepared.seconds == 2.5 and prepared.text(0) == "hello"
    for part in ("3 utterances", "1 too long", "2 with more labels than CTC can emit in their frames", "1 unreadable"):
        assert part in prepared.describe()
    assert f"gone: {tmp_path}/gone.wav: no such file" in caplog.text


def test_evaluation_keeps_all_that_can_be_heard(source):
    prepared = ready(source, training=False)
    kept = [prepared.id(n) for n in range(len(prepared))]
    assert kept == ["good", "short", "long", "silent", "crowded", "doubled", "fits", "unstated"]
    assert prepared.dropped == {"unreadable": 1, "without audio": 1}
    assert prepared.label_lengths[3] == 0


def test_strict_stops_at_the_first_unreadable_file(source, tmp_path):
    for training in (True, False):
        with pytest.raises(UserError, match=f"{tmp_path}/gone.wav: no such file"):
            ready(source, training=training, strict=True)


def test_loading_resamples_and_encodes(source):
    prepared = ready(source, training=True)
    audio, labels, units, unit_ends, language = prepared.load(0)
    assert language == "" and len(audio) == 16000 and audio.dtype == np.int16
    assert len(units) == len(unit_ends) == 0 and prepared.unit_lengths.tolist() == [0, 0, 0]
    assert labels.tolist() == CHARACTERS.encode("hello").tolist()
    assert prepared.utterance(0).text == "Hello!"


def test_nothing_left_is_an_error_that_says_why(source):
    with pytest.raises(UserError, match=r"no utterance of t is left \(1 without audio\)"):
        ready(source[1:], training=True)


def test_the_index_is_small(source):
    prepared = ready(source, training=False)
    held = (prepared.rows, prepared.lengths, prepared.label_lengths, prepared.unit_lengths)
    assert sum(array.itemsize for array in held) == 20


@pytest.mark.parametrize(
    "offset, stated, held",
    [(50.0, 0.25, 0.0), (1.95, 0.3, 0.05), (1.8, 0.3, 0.2), (1.5, 0.5, 0.5)],
)
def test_less_than_half_of_a_short_utterance_is_none(tmp_path, offset, stated, held):
    """All differ by less than `data.length_tolerance`."""
    soundfile.write(tmp_path / "a.wav", np.ones(2 * 8000, np.int16), 8000)
    line = {"audio_filepath": "a.wav", "offset": offset, "duration": stated, "text": "a"}
    (tmp_path / "m.jsonl").write_text(json.dumps(line))
    dataset = ready((ManifestSource(path=str(tmp_path / "m.jsonl")),), training=False)
    if held > stated / 2:
        assert len(dataset.utterance(0).audio) == round(held * 8000)
    else:
        with pytest.raises(UnreadableAudio, match=f"{held:.3f} s long, where its source says {stated:.3f} s"):
            dataset.utterance(0)
