"""Phonemes by espeak-ng, against pronunciations written down by hand."""

import numpy as np
import pytest

from joint_st.config import UnitsConfig
from joint_st.data.units import load_units, make_units


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))


def make(*texts, language="en-us"):
    return make_units(UnitsConfig(kind="phonemes", language=language), texts)


def spell(units, text, language=""):
    return "".join(units.symbols[i] for i in units.encode(text, language))


def test_known_words_have_their_pronunciation(tmp_path):
    examples = [("hello world", ""), ("the judge of a church", "en"), ("guten tag", "de")]
    units = make(*examples)
    said = [spell(units, *example) for example in examples]
    assert said == ["həloʊ wɜːld", "ðə dʒʌdʒ ʌv ɐ tʃɜːtʃ", "ɡuːtən tɑːk"]
    np.testing.assert_array_equal(units.words("the judge of a church"), [0, 0, -1, 1, 1, 1, -1, 2, 2, -1, 3, -1, 4, 4, 4])
    units.save(tmp_path / "units")
    again = load_units(tmp_path / "units")
    assert again.symbols == units.symbols and again.size == len(units.symbols)
    np.testing.assert_array_equal(again.encode("hello world"), units.encode("hello world"))
