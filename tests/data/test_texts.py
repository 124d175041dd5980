"""What a run learns from its texts."""

import json
from collections import Counter

import numpy as np
import pytest
import soundfile

from joint_st.config import Config, DataConfig, ManifestSource, TextSource, TokenizerConfig, UnitsConfig
from joint_st.data.dataset import open_texts
from joint_st.data.sources.manifest import Manifest
from joint_st.data.sources.text import Sentences
from joint_st.data.text_units.cache import PhonemeCache
from joint_st.data.texts import learn_from_texts, open_indexes, train_tokenizer


@pytest.fixture
def config(tmp_path):
    said = ["One, two!", "?", "two\u2028 zéro"]
    for i in range(len(said)):
        soundfile.write(tmp_path / f"{i}.wav", np.zeros(8_000, np.int16), 16_000)
    lines = [{"audio_filepath": f"{i}.wav", "text": text} for i, text in enumerate(said)]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "t.txt").write_text("two four\nfünf\n")
    train = ManifestSource(path=str(tmp_path / "m.jsonl"))
    text = TextSource(path=str(tmp_path / "t.txt"), language="de")
    return Config(data=DataConfig(train=(train,), text=(text,), normalizer="basic"))


def with_units(config, **fields):
    return config.model_copy(update={"data": config.data.model_copy(update=fields)})


def test_tokenizer_units_and_words_come_from_one_reading(config, monkeypatch):
    read = Counter()
    for corpus in (Manifest, Sentences):

        def counted(self, i, entry=corpus.entry):
            read[self.name, i] += 1
            return entry(self, i)

        monkeypatch.setattr(corpus, "entry", counted)
    config = with_units(config, units=UnitsConfig(kind="characters"), text_batch_size=2)
    indexes = open_indexes(config)
    symbols, vocabulary = learn_from_texts(config, indexes)
    made_with = indexes.normalizer, symbols.labels, symbols.units
    texts = open_texts(config.data, *made_with, indexes=indexes)
    assert [texts.text(n) for n in range(len(texts))] == ["two four", "fünf"]
    tokenizer, units = symbols.labels, symbols.units
    assert set(read.values()) == {1} and len(read) == 5
    assert tokenizer.characters == tuple(sorted(set("one two zéro four fünf")))
    assert units.symbols[2:] == tokenizer.characters
    assert symbols.languages == ("", "de")
    assert (vocabulary.heard, vocabulary.read) == ({"one", "two", "zéro"}, {"four", "fünf"})


def test_words_of_audio_that_is_not_there_are_not_heard(config, tmp_path):
    (tmp_path / "0.wav").unlink()
    _, vocabulary = learn_from_texts(config)
    assert (vocabulary.heard, vocabulary.read) == ({"two", "zéro"}, {"four", "fünf"})


def test_phonemes_take_each_text_in_its_language(config):
    units = learn_from_texts(with_units(config, units=UnitsConfig(kind="phonemes"))).symbols.units
    assert {"ʏ", "uː"} < set(units.symbols)  # fünf, two
    assert learn_from_texts(config).symbols.units is None


def test_another_run_on_the_same_texts_speaks_none_of_them_again(config, monkeypatch, tmp_path):
    config = with_units(config, units=UnitsConfig(kind="phonemes"), index_cache=str(tmp_path / "index"))
    first = learn_from_texts(config).symbols
    (tmp_path / "t.txt").write_text("two four\nfünf\nvingt\n")
    changed = learn_from_texts(config).symbols
    assert set(first.units.symbols) < set(changed.units.symbols)

    def spoken(self, voice, text):
        raise AssertionError(f"{text} is looked up")

    monkeypatch.setattr(PhonemeCache, "get", spoken)
    again = learn_from_texts(config)
    assert (again.symbols.units.symbols, again.symbols.languages) == (changed.units.symbols, changed.languages)
    assert again.vocabulary.read == {"four", "fünf", "vingt"}


def test_a_tokenizer_that_is_loaded_learns_nothing(config, tmp_path):
    train_tokenizer(config).save(tmp_path / "tokenizer")
    (tmp_path / "t.txt").write_text("quiz")
    fields = {"tokenizer": TokenizerConfig(path=str(tmp_path / "tokenizer")), "units": UnitsConfig(kind="characters")}
    symbols = learn_from_texts(with_units(config, **fields)).symbols
    tokenizer, units = symbols.labels, symbols.units
    assert "q" not in tokenizer.characters and "q" in units.symbols


def test_sentences_of_no_stated_language_are_spoken_as_the_config_says(tmp_path):
    """They are not spoken as English unless the config says so."""
    (tmp_path / "t.txt").write_text("wein\n")
    sources = {"train": (TextSource(path=str(tmp_path / "t.txt")),), "text": ()}
    spoken = {}
    for language in ("de", "en-us"):
        units = UnitsConfig(kind="phonemes", language=language)
        symbols = learn_from_texts(Config(data=DataConfig(**sources, units=units))).symbols
        spoken[language] = [symbols.units.symbols[i] for i in symbols.units.encode("wein")]
        assert symbols.languages == ("",)
    assert spoken["de"] == ["v", "aɪ", "n"] and spoken["en-us"] != spoken["de"]
