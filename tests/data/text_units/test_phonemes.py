"""Phonemes by espeak-ng, against pronunciations written down by hand."""

import json
import logging
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from joint_st.config import UnitsConfig
from joint_st.data.normalizers import normalizer
from joint_st.data.text_units import UNKNOWN, load_units, make_units
from joint_st.data.text_units.phonemizer import phonemizer
from joint_st.errors import UserError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))


def make(*examples, language="en-us"):
    return make_units(UnitsConfig(kind="phonemes", language=language), examples)


def spell(units, text, language=""):
    return "".join(units.symbols[i] for i in units.encode(text, language))


def test_known_words_have_their_pronunciation():
    examples = [
        ("hello world", ""),
        ("the judge of a church", "en"),  # espeak-ng makes one word of "of a"
        ("schedule", "en-GB"),
        ("guten tag", "de"),
        ("bonjour madame", "fr-FR"),
        ("спасибо", "ru"),
        ("buenos días", "es"),
    ]
    units = make(*examples)
    assert [spell(units, *example) for example in examples] == [
        "həloʊ wɜːld",
        "ðə dʒʌdʒ ʌv ɐ tʃɜːtʃ",
        "ʃɛdjuːl",
        "ɡuːtən tɑːk",
        "bɔ̃ʒuʁ madam",
        "spasʲibʌ",
        "bwenos ðias",
    ]
    assert units.symbols[:3] == ("<pad>", "<unk>", " ") and units.size == len(units.symbols)
    assert list(units.symbols[2:]) == sorted(set(units.symbols[2:]))
    assert {"tʃ", "dʒ", "oʊ", "ɜː"} < set(units.symbols)  # affricates, diphthongs and long vowels are one


def test_each_phoneme_knows_its_word():
    text = "the judge of a church"
    units = make((text, "en"))
    assert units.words(text).tolist() == [0, 0, -1, 1, 1, 1, -1, 2, 2, -1, 3, -1, 4, 4, 4]
    assert units.encode(text).dtype == units.words(text).dtype == np.int32


def test_a_word_that_is_several_to_espeak_stays_one_and_a_mute_one_has_no_boundary():
    text = "route66 - \u200d ok"
    units = make((text, "en"))
    assert spell(units, text) == "ɹaʊtsɪkstisɪks oʊkeɪ"
    assert sorted(set(units.words(text).tolist())) == [-1, 0, 3]


def test_language_switches_and_stress_leave_no_trace():
    text = "le weekend à washington"
    assert set("".join(make((text, "fr")).symbols[2:])).isdisjoint("()ˈˌ\t")


@pytest.mark.parametrize("text", ["\0 a", "漢字 ☃ 🙂", "a" * 5000, "[[x]] <b>", "\ud800 a", "'", "((", "1e99 %"])
def test_no_text_makes_it_fail(text):
    units = make(("some text", "en"))
    assert len(units.encode(text)) == len(units.words(text))
    assert units.words(text).max(initial=-1) < len(text.split())
    assert make((text, "hi"), ("क्या", "hi")).size > 3


def test_nothing_to_say():
    units = make(("a", "en"))
    assert len(units.encode("")) == len(units.words("")) == len(units.encode("  ")) == 0
    with pytest.raises(UserError, match="data: the training texts have no phonemes"):
        make(("", ""))


def test_phonemes_that_training_did_not_have_are_unknown():
    units = make(("see", "en"))
    assert spell(units, "seethe") == "siː<unk>"


def test_a_text_is_asked_of_espeak_once():
    texts = [(f"number {word}", "en") for word in "one two three four".split()]
    before = phonemizer().calls
    units = make(*texts)
    asked = phonemizer().calls
    assert asked >= before + 4
    again = make(*texts)
    for text in texts:
        units.encode(*text)
        again.words(*text)
    assert phonemizer().calls == asked
    units.prepare([*texts, ("number five", "en"), ("number five", "en-US")])  # one voice
    assert phonemizer().calls == asked + 1


def test_saved_pickled_and_threaded_they_are_the_same(tmp_path, caplog):
    texts = [(f"chapter {n} of {m}", language) for n in range(9) for m in range(9) for language in ("en", "de")]
    units = make(*texts[::2], *texts[1:9:2])
    units.save(tmp_path / "units")
    with ThreadPoolExecutor(8) as pool:  # half of the texts were never seen
        found = list(pool.map(lambda text: units.encode(*text).tolist(), texts))
    for other in (load_units(tmp_path / "units"), pickle.loads(pickle.dumps(units))):
        assert other.symbols == units.symbols
        assert [other.encode(*text).tolist() for text in texts] == found
    assert not caplog.records


def test_another_version_of_espeak_is_warned_of(tmp_path, caplog):
    make(("a", "en")).save(tmp_path)
    description = json.loads((tmp_path / "units.json").read_text())
    assert description["kind"] == "phonemes" and description["language"] == "en-us"
    (tmp_path / "units.json").write_text(json.dumps({**description, "version": "0.9"}))
    with caplog.at_level(logging.WARNING):
        load_units(tmp_path)
    assert "espeak-ng 0.9" in caplog.text
    with pytest.raises(UserError, match="nowhere/units.json: no such file"):
        load_units(tmp_path / "nowhere")


def test_an_unknown_language_is_named_with_near_ones():
    with pytest.raises(UserError, match=r"a language of the data: espeak-ng has no language 'xx-YY', perhaps "):
        make(("a", "xx-YY"))
    with pytest.raises(UserError, match="data.units.language: espeak-ng has no language 'enn', perhaps .*en"):
        make(("a", ""), language="enn")


def test_one_language_without_phonemes_does_not_refuse_the_others():
    examples = [("hello", "en"), ("qapla", "tlh"), ("世界", "zh"), ("hello", "English"), ("hello", "eng")]
    units = make(*examples)
    assert units.symbols == make(examples[0]).symbols
    assert [bool(units.refusal(language)) for _, language in examples] == [False, True, True, False, False]
    assert [len(units.encode(*example)) for example in examples] == [4, 0, 0, 4, 4]
    assert len(units.words("qapla", "tlh")) == 0
    units.prepare(examples)
    with pytest.raises(
        UserError, match="espeak-ng has no right phonemes of Mandarin .*; or set data.units.kind to char"
    ):
        make(("世界", "zh"))
    with pytest.raises(
        UserError, match="data.units.language: .* of Japanese .*; name another one, or set data.units.kind"
    ):
        make(("hello", "en"), language="ja")


def test_recorded_texts_of_eleven_languages_have_phonemes(recorded):
    normalize = normalizer("basic")
    examples = []
    for manifest in sorted((recorded / "common_voice_11").glob("*.jsonl")):
        lines = [json.loads(line) for line in manifest.read_text().splitlines()]
        examples += [(normalize(line["text"]), line["language"]) for line in lines]
    assert len({language for _, language in examples}) == 11
    units = make(*examples)
    for text, language in examples:
        ids, words = units.encode(text, language), units.words(text, language)
        if language == "zh-CN":
            assert not len(ids) and "Mandarin" in units.refusal(language)
            continue
        assert (ids > UNKNOWN).all()
        assert set(range(len(text.split()))) <= set(words.tolist())  # no word is mute
        assert ((ids == 2) == (words < 0)).all() and (words < 0).sum() == len(text.split()) - 1
        assert (np.diff(words[words >= 0]) >= 0).all()


def test_boundaries_between_words_may_be_left_out(tmp_path):
    text = "the judge of a church"
    units = make_units(UnitsConfig(kind="phonemes", boundaries=False), [(text, "en")])
    units.save(tmp_path)
    for one in (units, load_units(tmp_path), pickle.loads(pickle.dumps(units))):
        assert spell(one, text, "en") == "ðədʒʌdʒʌvɐtʃɜːtʃ" and " " not in one.symbols
        assert one.words(text, "en").tolist() == [0, 0, 1, 1, 1, 2, 2, 3, 4, 4, 4]
        assert one.unknown(text, "en") == []
    with_boundaries = make((text, "en"))
    assert spell(with_boundaries, text, "en").replace(" ", "") == spell(units, text, "en")
    assert with_boundaries.digest != units.digest
