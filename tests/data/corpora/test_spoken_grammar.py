"""The corpus `spoken_grammar`: what is said by whom, word times, and how it is built."""

import collections
import itertools
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow_datasets as tfds

from joint_st.data.corpora import build_if_absent, spoken_grammar
from joint_st.data.corpora.spoken_grammar import grammar, synthesis
from joint_st.data.corpora.spoken_grammar.builder import SpokenGrammar
from joint_st.data.corpora.spoken_grammar.names import KINDS, names
from joint_st.data.corpora.spoken_grammar.scripts import scripts
from joint_st.data.corpora.spoken_grammar.voices import ACCENTS, VARIANTS, voices
from joint_st.data.synthesis.espeak import EspeakError, Phoneme, Speech, Synthesizer, Word
from joint_st.data.text_units.phonemizer import find_voice, phonemizer
from joint_st.errors import UserError

SPLITS = ("train", "dev", "test", "text")
CONFIGS = {config.name: config for config in SpokenGrammar.BUILDER_CONFIGS}
TINY = CONFIGS["tiny"]
VERSION = str(SpokenGrammar.VERSION)
NAMES = names(CONFIGS["default"].names)
HEARD, ONLY_READ = ({name for kind in sort.values() for name in kind} for sort in (NAMES.heard, NAMES.text_only))


def said(config):
    """Return the scripts of a config, by split."""
    return scripts(config.train, config.dev, config.test, config.text, names(config.names))


@pytest.fixture(scope="module")
def synthesizer():
    return Synthesizer()


@pytest.fixture(scope="module")
def corpus():
    """The scripts of the default config, by split."""
    return said(CONFIGS["default"])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Utterances of the tiny config, built and read back, by split."""
    folder = tmp_path_factory.mktemp("tiny")
    build_if_absent("spoken_grammar/tiny", str(folder))
    builder = tfds.builder_from_directory(folder / "spoken_grammar" / "tiny" / VERSION)
    return {split: list(builder.as_data_source(split)) for split in SPLITS}


def words(scripts):
    return {word for script in scripts for word in script.text.split()}


# What is said


def test_names_are_plain_words_each_in_one_list():
    every = [name for sort in (names().heard, names().text_only) for kind in sort.values() for name in kind]
    assert len(every) == len(set(every)) > 2_000
    assert all(re.fullmatch("[a-z]{2,}", name) for name in every)
    heard = [name for kind in names().heard.values() for name in kind]
    assert 0.45 < len(heard) / len(every) < 0.55


def test_a_config_takes_so_many_names_of_each_kind_half_of_them_heard():
    for kind in KINDS:
        assert len(NAMES.heard[kind]) == len(NAMES.text_only[kind]) == CONFIGS["default"].names / 2
        assert set(NAMES.heard[kind]) < set(names().heard[kind])
        assert set(NAMES.text_only[kind]) < set(names().text_only[kind])


def test_names_are_no_words_of_the_closed_vocabulary(corpus):
    every = {name for sort in (names().heard, names().text_only) for kind in sort.values() for name in kind}
    closed = {word for template in grammar.TEMPLATES for word in template.split() if not word.startswith("{")}
    for seed, slot in itertools.product(range(200), grammar.SLOTS.values()):
        closed |= set(slot(grammar.random.Random(seed)).split())
    assert not every & closed
    assert words(itertools.chain(*corpus.values())) <= every | closed


def test_names_only_read_are_never_in_training_audio_and_often_in_text(corpus):
    assert not words(corpus["train"]) & ONLY_READ
    read = [word for script in corpus["text"] for word in script.text.split() if word in ONLY_READ]
    assert min(read.count(name) for name in sorted(ONLY_READ)[::25]) >= 5
    assert set(read) == ONLY_READ


def test_every_heard_name_is_heard_eight_times(corpus):
    heard = [word for script in corpus["train"] for word in script.text.split()]
    assert min(heard.count(name) for name in sorted(HEARD)[::25]) >= 8


def test_everything_but_the_names_is_heard(corpus):
    assert words(itertools.chain(*corpus.values())) - words(corpus["train"]) == ONLY_READ


@pytest.mark.parametrize("split", ["dev", "test"])
def test_half_of_the_held_out_utterances_have_names_only_read(corpus, split):
    sentences = [set(script.text.split()) for script in corpus[split]]
    kinds = [(bool(spoken & HEARD), bool(spoken & ONLY_READ)) for spoken in sentences]
    assert (True, True) not in kinds
    assert 0.4 < kinds.count((False, True)) / len(kinds) < 0.6


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_no_sentence_occurs_twice(config):
    by_split = said(config)
    assert {split: len(spoken) for split, spoken in by_split.items()} == {s: getattr(config, s) for s in SPLITS}
    sentences = [script.text for spoken in by_split.values() for script in spoken]
    assert len(sentences) == len(set(sentences))


def test_held_out_speakers_are_in_no_other_split(corpus):
    speakers = {split: {script.voice.partition("+")[2] for script in corpus[split]} for split in VARIANTS}
    assert speakers == {split: set(variants) for split, variants in VARIANTS.items()}
    for a, b in itertools.combinations(speakers.values(), 2):
        assert not a & b
    for split in VARIANTS:
        assert {script.voice.partition("+")[0] for script in corpus[split]} == set(ACCENTS)


def test_the_language_is_that_of_the_voice_and_text_is_read_in_all(corpus):
    voices = phonemizer().voices
    for script in itertools.chain(corpus["train"], corpus["dev"], corpus["test"]):
        assert find_voice(script.language, "en-us", voices) == script.voice.partition("+")[0]
    read = collections.Counter(script.language for script in corpus["text"])
    assert set(read) == set(ACCENTS.values()) and max(read.values()) - min(read.values()) <= 1


@pytest.mark.parametrize(
    ("words", "number", "said"),
    [
        (grammar.number_words, 0, "zero"),
        (grammar.number_words, 13, "thirteen"),
        (grammar.number_words, 40, "forty"),
        (grammar.number_words, 99, "ninety nine"),
        (grammar.number_words, 300, "three hundred"),
        (grammar.number_words, 512, "five hundred twelve"),
        (grammar.ordinal_words, 1, "first"),
        (grammar.ordinal_words, 20, "twentieth"),
        (grammar.ordinal_words, 23, "twenty third"),
        (grammar.ordinal_words, 30, "thirtieth"),
        (grammar.ordinal_words, 31, "thirty first"),
        (grammar.year_words, 1800, "eighteen hundred"),
        (grammar.year_words, 1906, "nineteen oh six"),
        (grammar.year_words, 1984, "nineteen eighty four"),
    ],
)
def test_numbers_in_words(words, number, said):
    assert words(number) == said


# How it is said


@pytest.mark.parametrize("voice", ["fr-fr", "en-gb", "gmw/en-XX", "gmw/en-US+nobody", "gmw", ""])
def test_an_unknown_voice_raises(synthesizer, voice):
    with pytest.raises(EspeakError, match=re.escape(repr(voice))):
        synthesizer.speak("hello", voice)


def test_a_voice_that_the_library_refuses_raises(synthesizer, monkeypatch):
    """The library itself would continue in the previous voice."""
    synthesizer.speak("hello", "gmw/en-US")
    monkeypatch.setattr(synthesizer, "_add", lambda voice: None)
    with pytest.raises(EspeakError, match="espeak_SetVoiceByName returned 2"):
        synthesizer.speak("hello", "fr-fr")


def test_every_voice_sounds_different(synthesizer):
    spoken = [synthesizer.speak("nine", v).audio.tobytes() for split in VARIANTS for v in voices(split)]
    assert len(set(spoken)) == len(spoken) == len(ACCENTS) * sum(map(len, VARIANTS.values()))


def test_an_utterance_depends_on_nothing_spoken_before(synthesizer):
    chosen = said(TINY)["train"][:6]
    forwards = [synthesis.speak(synthesizer, s.id, s.text, s.voice) for s in chosen]
    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(synthesis.speak, Synthesizer(), s.id, s.text, s.voice) for s in chosen[::-1]]
    backwards = [spoken.result() for spoken in running[::-1]]
    for one, other in zip(forwards, backwards, strict=True):
        assert one.audio.tobytes() == other.audio.tobytes()
        np.testing.assert_array_equal(one.word_starts, other.word_starts)
        np.testing.assert_array_equal(one.word_ends, other.word_ends)


def test_word_times_at_a_pause_are_where_the_sound_is(synthesizer):
    """A comma makes a pause; the samples themselves say where it is."""
    speech = synthesizer.speak("peter, paula", "gmw/en-US+m3")
    starts, ends = synthesis.word_times(speech, "peter, paula")
    loud = np.flatnonzero(np.abs(speech.audio) > 30)
    gap = np.argmax(np.diff(loud))
    tolerance = 0.06 * speech.sample_rate  # `p` begins with silence of its own
    assert abs(loud[gap] - ends[0]) < tolerance
    assert abs(loud[gap + 1] - starts[1]) < tolerance
    assert abs(loud[-1] - ends[1]) < tolerance


def test_words_that_espeak_joins_are_told_apart(synthesizer):
    """`on the` comes with one word event, `at the` with two: `the` must last as long in both."""

    def the(text):
        speech = synthesizer.speak(text, "gmw/en-US+m3")
        starts, ends = synthesis.word_times(speech, text)
        return len(speech.words), (ends - starts)[2] / speech.sample_rate

    joined, apart = the("left on the road"), the("left at the road")
    assert (joined[0], apart[0]) == (3, 4)
    assert joined[1] == pytest.approx(apart[1], abs=0.02)


def test_words_without_events_are_refused():
    speech = Speech(np.zeros(100, np.int16), 22_050, (Word(0, 0),), (Phoneme("n", 0), Phoneme("", 90)))
    with pytest.raises(ValueError, match="word 1"):
        synthesis.word_times(speech, "nine ten")
    with pytest.raises(ValueError, match="do not match"):
        synthesis.word_times(Speech(speech.audio, 22_050, (Word(0, 0), Word(2, 50)), speech.phonemes), "nine")


def test_only_words_sound_where_there_is_no_noise(synthesizer, monkeypatch):
    monkeypatch.setattr(synthesis, "NOISY_SHARE", 0.0)
    for script in said(TINY)["train"][:8]:
        spoken = synthesis.speak(synthesizer, script.id, script.text, script.voice)
        audio = spoken.audio.astype(np.float32)
        assert np.abs(audio[: spoken.word_starts[0] - 32]).max() <= 1  # the resampler rings for some samples
        assert synthesis.rms(audio[-400:]) < 2
        for start, end in zip(spoken.word_starts, spoken.word_ends):
            assert synthesis.rms(audio[start:end]) > 200


def octaves(audio):
    """Power in octaves up from 125 Hz, dB [6]."""
    power = np.abs(np.fft.rfft(audio)) ** 2
    hertz = np.fft.rfftfreq(len(audio), 1 / 16_000)
    return [10 * np.log10(power[(hertz >= f) & (hertz < 2 * f)].sum()) for f in 125.0 * 2 ** np.arange(6)]


@pytest.mark.parametrize(("make", "slope"), [(synthesis.white_noise, 3.01), (synthesis.pink_noise, 0.0)])
def test_noise_gains_as_many_decibels_an_octave_as_its_colour(make, slope):
    audio = make(np.random.default_rng(1), 60_001)
    assert audio.shape == (60_001,) and audio.dtype == np.float32
    np.testing.assert_allclose(np.diff(octaves(audio)), slope, atol=0.6)


def test_hum_is_lines_at_multiples_of_the_mains():
    audio = synthesis.hum(np.random.default_rng(1), 16_000)
    lines = np.flatnonzero(np.abs(np.fft.rfft(audio)) > 500)
    assert lines.tolist() in ([50 * k for k in range(1, 8)], [60 * k for k in range(1, 8)])


def test_noise_is_as_loud_as_asked(synthesizer, monkeypatch):
    def at(share, snr):
        monkeypatch.setattr(synthesis, "NOISY_SHARE", share)
        monkeypatch.setattr(synthesis, "SNR_DB", (snr, snr))
        return synthesis.speak(synthesizer, "key", "peter left ghent", "gmw/en+f2").audio.astype(np.float32)

    speech, noisy = at(0.0, 0.0), at(1.0, 10.0)
    assert 20 * np.log10(synthesis.rms(speech) / synthesis.rms(noisy - speech)) == pytest.approx(10, abs=0.1)


# How it is stored


def test_utterances_come_back_as_they_were_made(tiny):
    for split in SPLITS:
        by_id = {script.id: script for script in said(TINY)[split]}
        assert {x["id"].decode() for x in tiny[split]} == set(by_id)
        for x in tiny[split]:
            script = by_id[x["id"].decode()]
            assert x["text"].decode() == script.text and x["speaker"].decode() == script.voice
            assert x["language"].decode() == script.language
            assert x["sample_rate"] == 16_000 and x["audio"].dtype == np.int16
            assert x["num_samples"] == len(x["audio"])


def test_text_has_no_audio(tiny):
    for x in tiny["text"]:
        assert len(x["audio"]) == len(x["word_starts"]) == len(x["word_ends"]) == 0


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_stored_speech_is_plausible(tiny, split):
    for x in tiny[split]:
        starts, ends, audio = x["word_starts"], x["word_ends"], x["audio"].astype(np.float32)
        assert len(starts) == len(ends) == len(x["text"].split())
        assert (starts < ends).all() and (ends[:-1] <= starts[1:]).all()
        assert 0.045 * 16_000 < starts[0] and ends[-1] < len(audio) - 0.045 * 16_000
        letters = len(x["text"].replace(b" ", b""))
        assert 0.04 < (ends[-1] - starts[0]) / 16_000 / letters < 0.12
        assert 500 < np.abs(audio).max() < 32_767
        silence = np.concatenate([audio[: starts[0]], audio[ends[-1] + 800 :]])
        assert synthesis.rms(audio[starts[0] : ends[-1]]) > 2 * synthesis.rms(silence)


def test_a_second_build_has_the_same_bytes(tiny, tmp_path):
    builder = spoken_grammar.build(str(tmp_path), "tiny", progress=False)
    for split in SPLITS:
        for one, other in zip(tiny[split], builder.as_data_source(split), strict=True):
            assert one["id"] == other["id"]
            assert one["audio"].tobytes() == other["audio"].tobytes()
            assert one["word_ends"].tobytes() == other["word_ends"].tobytes()


def test_building_needs_no_network_and_leaves_stdout_alone(tmp_path, monkeypatch, capsys):
    def refuse(*args):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    spoken_grammar.build(str(tmp_path), "tiny")
    out, err = capsys.readouterr()
    assert out == ""
    assert "40/40" in err and "spoken_grammar/tiny" in err


def test_what_a_killed_build_left_is_removed(tmp_path):
    left = tmp_path / "spoken_grammar" / "tiny" / f"incomplete.ABC123_{VERSION}"
    left.mkdir(parents=True)
    (left / "spoken_grammar-train.array_record-00000-of-00001").write_bytes(b"half")
    builder = spoken_grammar.build(str(tmp_path), "tiny", progress=False)
    assert not left.exists()
    assert len(builder.as_data_source("train")) == TINY.train


def test_a_disk_that_is_full_is_told_in_one_line(tmp_path, monkeypatch):
    """The message comes from ArrayRecord's writer; its other errors are not changed."""

    def build(why):
        def fail(self, **options):
            raise RuntimeError(why)

        monkeypatch.setattr(SpokenGrammar, "download_and_prepare", fail)
        spoken_grammar.build(str(tmp_path), "tiny", progress=False)

    with pytest.raises(
        UserError, match=f"^{tmp_path}.*: the corpus could not be written: No space left on device; name"
    ):
        build("write() failed: No space left on device; at byte 9")
    with pytest.raises(RuntimeError, match="^bad$"):
        build("bad")


def test_processes_that_build_at_once_agree(tmp_path):
    code = "import sys; from joint_st.data import corpora as c; c.build_if_absent(*sys.argv[1:])"
    command = [sys.executable, "-c", code, "spoken_grammar/tiny", str(tmp_path)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], errors
    assert sum("building" in error for error in errors) == 1
    folder = tmp_path / "spoken_grammar" / "tiny"
    assert [path.name for path in folder.iterdir() if path.is_dir()] == [VERSION]


def test_unknown_names(tmp_path):
    build_if_absent("someone_elses", str(tmp_path))
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="huge.*default, open, tiny"):
        build_if_absent("spoken_grammar/huge", str(tmp_path))
