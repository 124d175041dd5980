import io
import json
import os
import pickle

import numpy as np
import pytest
import soundfile

from joint_st.config import ManifestSource, TextSource
from joint_st.data.audio import UnreadableAudio
from joint_st.data.sources import Concatenated, open_source
from joint_st.data.sources import lines as lines_module
from joint_st.data.sources.lines import Lines
from joint_st.errors import UserError

LINE = {"audio_filepath": "a.wav", "duration": 0.5, "text": "a"}


def write_manifest(folder, lines):
    folder.mkdir(exist_ok=True)
    path = folder / "train.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def write_audio(path, samples, rate=8000):
    path.parent.mkdir(exist_ok=True, parents=True)
    soundfile.write(path, np.arange(samples, dtype=np.int16), rate)


def open_manifest(path, corpus=""):
    return open_source(ManifestSource(path=str(path), corpus=corpus))


def test_a_manifest_gives_its_utterances(tmp_path):
    write_audio(tmp_path / "digits" / "audio" / "a.flac", 4000)
    more = {"language": "de", "speaker": 7, "mood": [1], "word_starts": [0.125], "word_ends": [0.375]}
    more |= {"noise": "street", "snr": 12.5, "synthetic": True}
    path = write_manifest(
        tmp_path / "digits",
        [
            {"audio_filepath": "audio/a.flac", "duration": 0.5, "text": "Eins", **more},
            "",
            {"audio_filepath": "audio/a.flac", "text": "", "id": 12, "offset": 0.125, "duration": 0.25},
            {"audio_filepath": str(tmp_path / "digits" / "audio" / "a.flac"), "duration": None, "text": "x"},
        ],
    )
    corpus = pickle.loads(pickle.dumps(open_manifest(path)))
    assert len(corpus) == 3 and corpus.name == "digits"
    entries = [corpus.entry(i) for i in range(3)]
    assert [(e.id, e.seconds, e.text, e.has_audio, e.problem) for e in entries] == [
        ("audio/a", 0.5, "Eins", True, ""),
        ("12", 0.25, "", True, ""),
        ("audio/a", 0.5, "x", True, ""),
    ]
    assert [e.language for e in entries] == ["de", "", ""] and [e.synthetic for e in entries] == [True, False, False]
    stated = [(e.speaker, e.noise, e.snr) for e in entries]
    assert stated == [("7", "street", 12.5), ("", "", None), ("", "", None)]
    first, cut, absolute = (corpus[i] for i in range(3))
    assert (first.id, first.sample_rate, first.text, first.corpus) == ("audio/a", 8000, "Eins", "digits")
    assert (first.language, first.speaker, first.extra["mood"]) == ("de", "7", [1])
    np.testing.assert_array_equal(first.word_times, [[0.125], [0.375]])
    assert cut.word_times is None
    np.testing.assert_array_equal(first.audio, np.arange(4000))
    np.testing.assert_array_equal(cut.audio, np.arange(1000, 3000))
    np.testing.assert_array_equal(absolute.audio, first.audio)
    assert open_manifest(path, corpus="german").name == "german"


@pytest.mark.parametrize("opened_only", [False, True])
def test_a_manifest_that_changes_while_it_is_in_use_is_refused(tmp_path, opened_only):
    lines = [{"audio_filepath": f"{name}.wav", "duration": 1.0, "text": name} for name in ("a", "b", "c")]
    path = write_manifest(tmp_path, lines)
    corpus = open_manifest(path)
    if not opened_only:
        assert [corpus.entry(i).text for i in range(3)] == ["a", "b", "c"]
        with path.open("a") as file:
            file.write('\n{"audio_filepath": "d.wav", "duration": 1.0, "text": "d"}\n')
        assert [corpus.entry(i).text for i in range(3)] == ["a", "b", "c"], "more at the end changes nothing"
    other = path.with_name("other.jsonl")
    other.write_text("".join(json.dumps(line) + "\n" for line in reversed(lines)))
    os.replace(other, path)
    with pytest.raises(UserError, match=f"^{path}: was changed while it was in use"):
        corpus.entry(0)


def test_a_manifest_holds_only_offsets_in_memory(tmp_path):
    lines = [{"audio_filepath": f"{i}.wav", "duration": 1.0, "text": "word " * 100} for i in range(500)]
    path = write_manifest(tmp_path, lines)
    assert path.stat().st_size > 250_000
    assert len(pickle.dumps(open_manifest(path))) < 5_000


def test_any_line_ends_and_a_byte_order_mark_are_read(tmp_path):
    lines = ['{"audio_filepath": "a.wav", "text": "é"}', '{"audio_filepath": "b.wav", "text": "ö"}']
    path = tmp_path / "m.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([lines[0], "  ", lines[1], ""]).encode())
    corpus = open_manifest(path)
    entries = [corpus.entry(i) for i in range(len(corpus))]
    assert [(entry.id, entry.text) for entry in entries] == [("a", "é"), ("b", "ö")]


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"text": "a", ', "not JSON"),
        ("[1, 2]", "a list"),
        ({"text": "a"}, "audio_filepath is missing"),
        ({**LINE, "word_starts": 0.5}, "word_starts and word_ends must be lists of seconds"),
        ({**LINE, "word_starts": [0.1], "word_ends": [0.2, 0.3]}, "1 word_starts and 2 word_ends"),
        ({**LINE, "word_starts": [0.1, 0.2]}, "2 word_starts and 0 word_ends; each word needs both"),
        ({**LINE, "word_starts": None, "word_ends": [0.2]}, "0 word_starts and 1 word_ends; each word needs both"),
        (
            {**LINE, "word_starts": [0.1, 0.3], "word_ends": [0.2, 0.1]},
            "word 2 begins at 0.3 s and ends at 0.1 s; word_ends are seconds from the beginning of the utterance",
        ),
        ({**LINE, "word_starts": [800], "word_ends": [4000]}, "a word at 4000 of 0.5 s; word times are seconds"),
        ({"audio_filepath": "a.wav"}, "text is missing"),
        ({"audio_filepath": "a.wav", "text": None}, "text is None"),
        ({"audio_filepath": "a.wav", "text": "a", "duration": "3"}, "duration is '3'"),
        ({"audio_filepath": "a.wav", "text": "a", "duration": -1}, "duration is -1"),
        ({"audio_filepath": "a.wav", "text": "a", "offset": True}, "offset is True"),
        ({"audio_filepath": "a.wav", "text": "a", "snr": "loud"}, "snr is 'loud'; it must be a number of dB"),
        ({"audio_filepath": "a.wav", "text": "a", "synthetic": "no"}, "synthetic is 'no'; it must be true or false"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, message):
    path = write_manifest(tmp_path, [{"audio_filepath": "a.wav", "duration": 1, "text": "a"}, "", line])
    corpus = open_manifest(path)
    for get in (corpus.entry, corpus.__getitem__):
        with pytest.raises(UserError, match=f"{path}:3: {message}") as caught:
            get(1)
        assert "\n" not in str(caught.value)


def test_a_line_that_is_not_utf_8_is_named(tmp_path):
    (tmp_path / "a.txt").write_bytes("eins\nzwölf\n".encode("latin-1"))
    sentences = open_source(TextSource(path=str(tmp_path / "a.txt")))
    with pytest.raises(UserError, match="a.txt:2: not UTF-8"):
        sentences.entry(1)


def test_unreadable_audio_is_known_before_and_when_reading(tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"junk")
    missing = {"audio_filepath": "none.wav", "text": "a", "duration": 2}
    broken = {"audio_filepath": "broken.wav", "text": "a"}
    corpus = open_manifest(write_manifest(tmp_path, [missing, broken]))
    assert corpus.entry(0).problem == f"{tmp_path}/none.wav: no such file" and corpus.entry(0).seconds == 2
    assert corpus.entry(1).problem.startswith(f"{tmp_path}/broken.wav: ")
    for i in range(2):
        with pytest.raises(UnreadableAudio):
            corpus[i]


def test_lines_are_chosen_by_the_values_of_their_keys(tmp_path):
    speakers = [7, "b", "b", None, "c"]
    lines = [{**LINE, "id": n, "text": "x" * n, "speaker": speaker} for n, speaker in enumerate(speakers)]
    path = write_manifest(tmp_path, [*lines, "{broken"])

    def chosen(**where):
        return open_source(ManifestSource(path=str(path), where=where))

    some = pickle.loads(pickle.dumps(chosen(speaker=("7", "b"))))
    assert [some.entry(i).id for i in range(3)] == ["0", "1", "2"] and some.entry(1).text == "x"
    assert [entry.id for entry in map(chosen(speaker=("b",), id=("2",)).entry, range(1))] == ["2"]
    assert some.place != chosen(speaker=("b",)).place != open_manifest(path).place
    # What cannot be read is not passed over in silence.
    assert len(some) == 4
    with pytest.raises(UserError, match="train.jsonl:6: not JSON"):
        some.entry(3)
    others = [LINE | {"id": "a", "lang": "de", "synthetic": True}, LINE | {"id": "b", "lang": "en", "synthetic": False}]
    path = write_manifest(tmp_path, others)
    assert [chosen(**{key: (value,)}).entry(0).id for key, value in (("language", "de"), ("lang", "en"))] == ["a", "b"]
    assert [chosen(synthetic=(value,)).entry(0).id for value in ("true", "false")] == ["a", "b"]
    path = write_manifest(tmp_path, [LINE | {"id": "a", "language": "de"}, LINE | {"id": "b", "language": "en"}])
    assert [chosen(lang=(value,)).entry(0).id for value in ("de", "en")] == ["a", "b"]


def test_a_key_without_a_value_leaves_it_to_the_key_of_another_tool(tmp_path):
    lines = [LINE | {"id": "a", "language": None, "lang": "de"}, LINE | {"id": "b", "language": "de", "lang": None}]
    path = str(
        write_manifest(tmp_path, [*lines, LINE | {"id": "c", "language": None}, LINE | {"id": "d", "lang": "en"}])
    )
    for key in ("language", "lang"):
        found = open_source(ManifestSource(path=path, where={key: ("de",)}))
        assert [(found.entry(i).id, found.entry(i).language) for i in range(len(found))] == [("a", "de"), ("b", "de")]
        assert [open_source(ManifestSource(path=path, where={key: ("null",)})).entry(0).id] == ["c"]


def test_names_may_be_numbers_and_zero_is_one(tmp_path):
    write_audio(tmp_path / "a.wav", 4000)
    lines = [LINE | {"id": "a", "speaker": 0, "noise": 0}, LINE | {"id": "b", "speaker": None}, LINE | {"id": "c"}]
    corpus = open_manifest(write_manifest(tmp_path, lines))
    assert [(corpus.entry(i).speaker, corpus.entry(i).noise) for i in range(3)] == [("0", "0"), ("", ""), ("", "")]
    assert [corpus[i].speaker for i in range(3)] == ["0", "", ""]


def test_a_value_that_no_line_has_is_told(tmp_path):
    path = write_manifest(tmp_path, [LINE | {"id": "a", "speaker": "b"}])

    def chosen(**where):
        return open_source(ManifestSource(path=str(path), where=where))

    with pytest.raises(UserError, match="train.jsonl: no line has speaker a; correct the source's `where`"):
        len(chosen(speaker=("b", "a")))


def test_places_of_many_lines_are_found_in_one_pass(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfa\n\n" + b"".join(b"b %d\n" % n + b"\n" * (n % 3) for n in range(400)) + b"c")
    places = [number for number, line in enumerate(path.read_bytes().split(b"\n"), 1) if line]
    lines, read = Lines(path), []

    class Counting(io.FileIO):
        def read(self, size=-1):
            read.append(size)
            return super().read(size)

    assert len(lines) == len(places) == 402
    monkeypatch.setattr(lines_module, "open", Counting, raising=False)
    assert [lines.where(i) for i in range(402)] == [f"{path}:{number}" for number in places]
    assert sum(read) < 2 * path.stat().st_size
    for i in (401, 7, 7, 300, 0, 1):
        assert lines.where(i) == f"{path}:{places[i]}"


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}/none.jsonl: no such file"):
        open_manifest(tmp_path / "none.jsonl")


def test_corpora_one_after_the_other(tmp_path):
    for name, text in (("a", "1\n2\n"), ("empty", ""), ("b", "3\n")):
        (tmp_path / f"{name}.txt").write_text(text)
    corpora = [open_source(TextSource(path=str(tmp_path / f"{name}.txt"))) for name in ("a", "empty", "b")]
    joined = Concatenated(corpora)
    assert len(joined) == 3 and joined.name == "a+empty+b"
    assert [joined.entry(i).text for i in range(3)] == ["1", "2", "3"] == [joined[i].text for i in range(3)]
    for outside in (3, -1):
        with pytest.raises(IndexError):
            joined.entry(outside)


def test_recorded_manifests_say_what_the_files_hold(recorded):
    for corpus, rate in (("spoken_digits", 8000), ("common_voice_en", 32000), ("arctic", 16000)):
        manifest = open_manifest(recorded / corpus / "test.jsonl")
        for i in range(0, len(manifest), len(manifest) // 5):
            utterance, entry = manifest[i], manifest.entry(i)
            assert utterance.sample_rate == rate and utterance.corpus == corpus and utterance.speaker
            assert (utterance.id, utterance.text) == (entry.id, entry.text)
            # MP3 pads.
            assert len(utterance.audio) / rate == pytest.approx(entry.seconds, abs=0.01)
            assert 300 < np.abs(utterance.audio.astype(int)).max()


def test_channels_and_languages_by_the_names_of_other_tools(tmp_path):
    both = np.stack([np.arange(4000), np.arange(4000)[::-1]], axis=1).astype(np.int16)
    soundfile.write(tmp_path / "st.wav", both, 8000)
    keys = [
        {"channel": 0},
        {"channel_selector": 1},
        {"channel": [1]},
        {"channel": [0, 1]},
        {"channel_selector": "average"},
    ]
    keys += [{"channel": 1, "channel_selector": 1, "lang": "de"}, {"lang": "fr", "language": "fr"}, {"channel": None}]
    keys += [{"source_lang": "es", "target_lang": "es"}, {"channel": 2}]
    lines = [{"audio_filepath": "st.wav", "text": "a", **own} for own in keys]
    corpus = open_manifest(write_manifest(tmp_path, lines))
    heard = [both[:, 0], both[:, 1], both[:, 1], *[np.rint(both.mean(1))] * 2, both[:, 1], *[np.rint(both.mean(1))] * 3]
    for i, expected in enumerate(heard):
        np.testing.assert_array_equal(corpus[i].audio, expected)
        assert corpus[i].id == corpus.entry(i).id
    assert [corpus.entry(i).language for i in range(5, 9)] == ["de", "fr", "", "es"]
    assert [corpus.entry(i).channel for i in range(5)] == [1, 2, 2, 1, 1]
    assert [corpus.entry(i).id for i in (0, 1, 3, 4, 6)] == ["st#0", "st#1", "st#0,1", "st#average", "st"]
    with pytest.raises(UnreadableAudio, match="has 2 channels, and channel 2 is asked for; they count from 0"):
        corpus[9]


@pytest.mark.parametrize(
    "more, message",
    [
        ({"start": 1.5}, "start: a key of other tools, which has no meaning here; write it as offset"),
        ({"end": 2}, "end: .*; write duration"),
        ({"supervisions": [{}]}, "supervisions: .*a Lhotse cut"),
        ({"text_filepath": "a.txt"}, "text_filepath: .*; write what is said as text"),
        ({"speed": 1.1}, "speed: .*; apply it to the audio"),
        ({"lang": "de", "language": "en"}, "language is 'en', and lang 'de'; leave one of them out"),
        ({"source_lang": "de", "target_lang": "en"}, "target_lang is 'en': its text is a translation"),
        ({"channel": -1}, "channel is -1; it must be a number from 0 on, a list of some, or average"),
        ({"channel": "left"}, "channel is 'left'"),
        ({"channel": True}, "channel is True"),
        ({"duration": 10**400}, "duration is 10"),
        ({"audio_filepath": ""}, "audio_filepath is ''; it must name a file"),
        ({"audio_filepath": None, "path": "a.wav"}, "audio_filepath is None; it must be a string"),
    ],
)
def test_keys_that_would_mean_another_utterance_are_refused_by_name(tmp_path, more, message):
    corpus = open_manifest(write_manifest(tmp_path, [{**LINE, **more}]))
    for get in (corpus.entry, corpus.__getitem__):
        with pytest.raises(UserError, match=f"train.jsonl:1: {message}") as caught:
            get(0)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "line", ["[" * 100_000, '{"audio_filepath": "a.wav", "text": "a", "duration": ' + "1" * 5000 + "}"]
)
def test_json_that_python_does_not_read_is_told(tmp_path, line):
    with pytest.raises(UserError, match="train.jsonl:1: not JSON that can be read"):
        open_manifest(write_manifest(tmp_path, [line])).entry(0)


def test_another_name_of_the_audio_is_pointed_out(tmp_path):
    with pytest.raises(UserError, match=r"audio_filepath is missing; it must be a string \(is it audio_path\?\)"):
        open_manifest(write_manifest(tmp_path, [{"audio_path": "a.wav", "text": "a"}])).entry(0)


def test_unknown_keys_are_named_once(tmp_path, caplog):
    write_audio(tmp_path / "a.wav", 4000)
    lines = [{**LINE, "mood": 1, "pnc": "no", "start": 0, "noise": "x", "snr": 1, "synthetic": False}] * 3 + [
        {**LINE, "late": 1}
    ]
    corpus = open_manifest(write_manifest(tmp_path, lines))
    for i in (0, 1, 2, 3):
        corpus.entry(i)
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        f"{tmp_path}/train.jsonl: keys that have no meaning here: {keys}" for keys in ("mood, pnc, start", "late")
    ]


def test_durations_that_are_not_in_seconds_and_offsets_behind_the_end(tmp_path):
    write_audio(tmp_path / "a.wav", 4000)
    durations = [160_000, 4000, 500, 400.0, 10**300]
    lines = [{"audio_filepath": "a.wav", "text": "a", "duration": duration} for duration in durations]
    lines.append({"audio_filepath": "a.wav", "text": "a", "offset": 5.0})
    corpus = open_manifest(write_manifest(tmp_path, lines))
    entries = [corpus.entry(i) for i in range(len(corpus))]
    assert all(entry.problem for entry in entries) and max(entry.seconds for entry in entries) == 0
    assert [("in samples" in e.problem, "in milliseconds" in e.problem) for e in entries[:4]] == [
        (False, False),
        (True, False),
        (False, True),
        (False, False),
    ]
    assert "0.500 s long, and its utterance begins at offset 5 s" in entries[5].problem


def test_what_is_no_manifest_is_told(tmp_path):
    (tmp_path / "kaldi").mkdir()
    for content, name, message in (
        (b"\x1f\x8b\x08\0\0\0", "cuts.jsonl.gz", "compressed by gzip; unpack it with `gunzip`"),
        (b"PK\x03\x04", "a.zip", "a ZIP archive"),
        ("{}".encode("utf-16"), "a.jsonl", "in UTF-16; convert it to UTF-8"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name}: {message}"):
            len(open_manifest(tmp_path / name))
    with pytest.raises(UserError, match="kaldi: a folder, and no file; correct the path"):
        open_manifest(tmp_path / "kaldi")
    for written in ("gs://bucket/a.jsonl", "gs:/bucket/a.jsonl"):
        with pytest.raises(UserError, match=f"{written}: manifests, texts and their audio are read from disks"):
            open_manifest(written)


def test_names_in_any_encoding_are_read_and_printed(tmp_path):
    name = "caf\udce9.wav"
    soundfile.write(os.fsencode(tmp_path / name), np.zeros(4000, np.int16), 8000, format="WAV")
    lines = [json.dumps({"audio_filepath": name, "text": "a"}), '{"audio_filepath": "a\\ud83d.wav", "text": "a"}']
    corpus = open_manifest(write_manifest(tmp_path, lines))
    assert corpus.entry(0).id == corpus[0].id == "caf\\xe9" and len(corpus[0].audio) == 4000
    assert "no such file" in corpus.entry(1).problem
    corpus.entry(1).problem.encode()
