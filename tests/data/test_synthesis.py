"""Synthetic speech: its folder, what is kept of an earlier command, and how it counts where there is recorded speech too."""

import errno
import json
import re

import numpy as np
import pytest
import soundfile

from joint_st import storage
from joint_st.cli import main
from joint_st.config import Config, DataConfig, FeaturesConfig, ManifestSource, TextSource
from joint_st.data import index
from joint_st.data.dataset import open_paired
from joint_st.data.index import SYNTHETIC, Indexes
from joint_st.data.normalizers import normalizer
from joint_st.data.plan import training_plan
from joint_st.data.synthesis.corpus import USUAL_VARIANTS, synthesize
from joint_st.data.texts import learn_from_texts, open_indexes, training_texts
from joint_st.errors import UserError

TEXTS = ("So anna calls.", "...", "zoë calls")


def read(folder):
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text("utf-8").splitlines()]


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def speak(source, out, **how):
    return synthesize(str(source), out, **{"language": "en", "workers": 1} | how)


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "t.txt"
    path.write_text("\n".join(TEXTS) + "\n", "utf-8")
    return path


@pytest.fixture(scope="module")
def spoken(sentences):
    """A folder of the sentences, never changed."""
    out = sentences.parent / "spoken"
    speak(f"text:{sentences}", out)
    return out


def test_lines_are_what_the_audio_files_hold(spoken):
    lines = read(spoken)
    assert [line["text"] for line in lines] == ["So anna calls.", "zoë calls"]
    assert [line["id"] for line in lines] == ["synthetic-000000", "synthetic-000002"]
    for line in lines:
        keys = ["id", "audio_filepath", "duration", "text", "speaker", "language", "synthetic"]
        assert list(line) == keys and line["synthetic"] is True and line["language"] == "en"
        accent, _, variant = line["speaker"].partition("+")
        assert accent == "gmw/en" and variant in USUAL_VARIANTS
        about = soundfile.info(spoken / line["audio_filepath"])
        assert (about.format, about.subtype, about.samplerate, about.channels) == ("FLAC", "PCM_16", 16_000, 1)
        assert line["duration"] == about.frames / 16_000 and 0.5 < line["duration"] < 3
        audio, _ = soundfile.read(spoken / line["audio_filepath"])
        loud = np.flatnonzero(np.abs(audio) > 0.02) / 16_000
        assert 0.05 <= loud[0] < 0.5 and 0.15 < np.abs(audio).max() <= 0.81


def test_a_stopped_command_goes_on_where_it_was(sentences, spoken, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["data", "synthesize", f"text:{sentences}", "--language", "en", "--out", str(out), "--workers"]
    assert main([*command, "2"]) == 0
    told = f"{out}/manifest.jsonl: 2 utterances, 0.00 h; 2 made, 0 kept; 1 sentences left out, in which espeak-ng finds"
    assert capsys.readouterr().out.startswith(told)
    assert contents(out) == contents(spoken)  # whatever the threads

    first, second = (out / line["audio_filepath"] for line in read(out))
    (out / "manifest.jsonl").unlink()
    written = second.stat().st_mtime_ns
    first.write_bytes(first.read_bytes()[:-500])
    assert main([*command, "1"]) == 0
    assert "1 made, 1 kept" in capsys.readouterr().out
    assert contents(out) == contents(spoken) and second.stat().st_mtime_ns == written


def test_another_sentence_under_a_number_is_spoken_anew(sentences, spoken, tmp_path):
    other = tmp_path / "t.txt"
    speak(f"text:{sentences}", tmp_path / "out")
    other.write_text("\n".join(["So anna calls.", "now", "zoë calls"]), "utf-8")
    found = speak(f"text:{other}", tmp_path / "out")
    assert (found.utterances, found.made, found.silent, found.others) == (3, 1, 0, 0)
    other.write_text("\n".join(["So anna came.", "now", "zoë calls"]), "utf-8")
    found = speak(f"text:{other}", tmp_path / "out")
    assert (found.utterances, found.made, found.others) == (3, 1, 1)
    assert str(found).endswith("; 1 made, 2 kept; 1 audio files of an earlier command are not in it")


def test_a_seed_changes_the_speech_and_voices_are_those_named(sentences, spoken, tmp_path):
    speak(f"text:{sentences}", tmp_path / "other", seed=1)
    one, other = read(spoken), read(tmp_path / "other")
    assert [line["duration"] for line in one] != [line["duration"] for line in other]
    speak(f"text:{sentences}", tmp_path / "named", variants=("m3",))
    assert [line["speaker"] for line in read(tmp_path / "named")] == ["gmw/en+m3"] * 2


def test_some_of_the_sentences_are_also_among_more_of_them(tmp_path):
    (tmp_path / "t.txt").write_text("\n".join(f"number {i}" for i in range(9)))
    few = speak(f"text:{tmp_path}/t.txt", tmp_path / "out", most=2)
    drawn = {line["id"] for line in read(tmp_path / "out")}
    more = speak(f"text:{tmp_path}/t.txt", tmp_path / "out", most=3)
    assert (few.utterances, more.utterances, more.made) == (2, 3, 1)
    assert drawn < {line["id"] for line in read(tmp_path / "out")} and len(drawn) == 2


def test_the_texts_of_a_config_are_spoken_in_their_languages(tmp_path):
    (tmp_path / "de.txt").write_text("guten abend\n")
    (tmp_path / "x.txt").write_text("bom dia\n")
    (tmp_path / "mine.py").write_text(
        "from joint_st.config import Config, DataConfig, TextSource, UnitsConfig\n"
        "def config():\n"
        f"    text = TextSource(path='{tmp_path}/de.txt', language='de'), TextSource(path='{tmp_path}/x.txt')\n"
        "    return Config(data=DataConfig(train=text, text=text, units=UnitsConfig(language='pt-br')))\n"
    )
    speak(tmp_path / "mine.py", tmp_path / "out", language="")
    lines = read(tmp_path / "out")
    assert [(line["text"], line["language"]) for line in lines] == [("guten abend", "de"), ("bom dia", "pt-br")]
    assert [line["speaker"].partition("+")[0] for line in lines] == ["gmw/de", "roa/pt-BR"]


def test_a_manifest_may_end_like_a_config(tmp_path):
    line = {"audio_filepath": "a.wav", "duration": 1.0, "text": "so anna calls"}
    (tmp_path / "m.json").write_text(2 * (json.dumps(line) + "\n"))
    speak(tmp_path / "m.json", tmp_path / "out")
    assert {one["text"] for one in read(tmp_path / "out")} == {"so anna calls"}


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"language": ""}, "{text}:1: states no language; add --language TAG (BCP 47)"),
        ({"language": "qqq"}, "--language: espeak-ng has no language 'qqq', perhaps "),
        ({"language": "fo"}, "--language: espeak-ng has no dictionary of 'fo' here; leave its sentences out"),
        ({"language": "ja"}, "--language: espeak-ng has no right phonemes of Japanese (ja): kanji are read"),
        ({"variants": ("Ann",)}, "--voices: espeak-ng has no speaker variant 'Ann', perhaps Annie"),
        ({"out": "gs://bucket/out"}, "gs://bucket/out: audio is read from disks; give a folder on one"),
        ({"source": "text:{text}.none"}, "{text}.none: no such file"),
    ],
)
def test_mistakes_are_told_in_a_line(sentences, tmp_path, how, told):
    how = {"source": "text:{text}", "out": tmp_path / "out"} | how
    how["source"] = how["source"].format(text=sentences)
    with pytest.raises(UserError, match=re.escape(told.format(text=sentences))):
        speak(**how)
    assert not (tmp_path / "out").exists()


def test_a_stated_language_that_espeak_lacks_is_told_with_its_line(tmp_path):
    line = {"audio_filepath": "a.wav", "text": "a", "duration": 1.0, "language": "qqq"}
    (tmp_path / "m.jsonl").write_text(json.dumps(line))
    with pytest.raises(UserError, match=re.escape(f"{tmp_path}/m.jsonl:1: language: espeak-ng has no language 'qqq'")):
        speak(tmp_path / "m.jsonl", tmp_path / "out")


def test_a_manifest_of_recordings_is_not_overwritten(sentences, tmp_path):
    for first in ('{"audio_filepath": "a.wav", "text": "a"}', "no JSON", ""):
        (tmp_path / "manifest.jsonl").write_text(first)
        with pytest.raises(UserError, match="manifest.jsonl: not of synthetic speech; give another folder as --out"):
            speak(f"text:{sentences}", tmp_path)
        assert (tmp_path / "manifest.jsonl").read_text() == first


def test_a_full_disk_is_told_and_what_is_there_is_kept(sentences, spoken, tmp_path, monkeypatch, capsys):
    write, out = storage.write_whole, tmp_path / "out"

    def full(path, content):
        if "000002-" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, content)

    monkeypatch.setattr(storage, "write_whole", full)
    command = ["data", "synthesize", f"text:{sentences}", "--language", "en", "--out", str(out)]
    assert main(command) == 2
    assert re.search(r"flac: No space left on device; correct that, and give the same", capsys.readouterr().err)
    assert not (out / "manifest.jsonl").exists()
    monkeypatch.undo()
    assert main(command) == 0
    assert "1 made, 1 kept" in capsys.readouterr().out and contents(out) == contents(spoken)


# Together with recorded speech


@pytest.fixture
def config(spoken, sentences, tmp_path):
    """Recordings that say `anna` and `so`, synthetic speech that says `zoë` too, and text that says all this and more."""
    soundfile.write(tmp_path / "a.wav", np.zeros(32_000, np.int16), 16_000)
    lines = [{"audio_filepath": "a.wav", "duration": 2.0, "text": text, "id": text} for text in ("so", "anna came")]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "t.txt").write_text("zoë calls\nzoë calls\nbob left\n", "utf-8")
    train = ManifestSource(path=str(tmp_path / "m.jsonl")), ManifestSource(path=str(spoken / "manifest.jsonl"))
    text = (TextSource(path=str(tmp_path / "t.txt")),)
    return Config(data=DataConfig(train=train, text=text, normalizer="basic", index_cache=str(tmp_path / "cache")))


def opened(config):
    learnt = learn_from_texts(config).symbols
    normalize = normalizer(config.data.normalizer)
    made_with = config.data, FeaturesConfig(), normalize, learnt.labels, learnt.units
    return open_paired(config.data.train, *made_with, training=True, indexes=open_indexes(config))


def test_words_of_synthetic_speech_are_not_heard(config):
    vocabulary = learn_from_texts(config).vocabulary
    assert vocabulary.heard == {"so", "anna", "came"}
    assert vocabulary.read == {"calls", "zoë", "bob", "left"}
    alone = config.model_copy(update={"data": config.data.model_copy(update={"text": ()})})
    assert learn_from_texts(alone).vocabulary.read == {"calls", "zoë"}


def test_a_sentence_that_is_written_and_spoken_counts_once(config):
    assert list(training_texts(config)) == ["so", "anna came", "so anna calls", "zoë calls", "zoë calls", "bob left"]
    data = config.data.model_copy(update={"train": config.data.train[1:] * 2, "text": ()})
    twice = config.model_copy(update={"data": data})
    assert list(training_texts(twice)) == ["so anna calls", "zoë calls"]


def test_the_log_says_how_much_is_synthetic(config, spoken):
    prepared = opened(config)
    assert prepared.synthetic.tolist() == [False, False, True, True]
    made = sum(line["duration"] for line in read(spoken))
    assert prepared.synthetic_seconds == pytest.approx(made) and prepared.seconds == pytest.approx(4 + made)
    assert prepared.describe().startswith("4 utterances, 0.00 h, 2 of them synthetic (0.00 h); dropped none")
    data = config.data.model_copy(update={"train": config.data.train[:1]})
    assert "synthetic" not in opened(config.model_copy(update={"data": data})).describe()


def test_synthetic_and_recorded_speech_share_batches(config):
    prepared = opened(config)
    batch = training_plan(prepared, config.data.model_copy(update={"buckets": 1}), seed=0)[0]
    assert sorted(prepared.synthetic[batch.rows[batch.rows >= 0]]) == [False, False, True, True]


def test_an_index_from_before_is_made_again(config, monkeypatch):
    source = config.data.train[1]
    made = []
    for number in (index.FORMAT - 1, index.FORMAT, index.FORMAT):
        monkeypatch.setattr(index, "FORMAT", number)
        indexes = Indexes(config.data.index_cache, normalizer("basic"))
        assert (indexes.entries(source).flags & SYNTHETIC > 0).all()
        made.append(indexes.cache.made)
    assert made == [1, 1, 0]
