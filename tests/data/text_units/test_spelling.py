"""Units that spell, and the words they belong to."""

import pickle

import numpy as np
import pytest

from joint_st.config import UnitsConfig
from joint_st.data.text_units import BOUNDARY, UNKNOWN, load_units, make_units
from joint_st.errors import UserError

TEXTS = ["the cat sat on the mat", "a dog", "cats and dogs", "on and on the dog sat", "zebra"] * 20


@pytest.mark.parametrize("kind", ["characters", "sentencepiece"])
def test_units_of_a_word_spell_it(kind, tmp_path):
    units = make_units(UnitsConfig(kind=kind, vocabulary_size=22), ((text, "en") for text in TEXTS))
    units.save(tmp_path)
    assert units.size == len(units.symbols) and (kind == "characters" or units.size == 22)
    for made in (units, load_units(tmp_path), pickle.loads(pickle.dumps(units))):
        assert made.symbols == units.symbols
        for text in [*set(TEXTS), "zcat dogzebra d"]:
            ids, words = made.encode(text, "en"), made.words(text, "en")
            assert ids.dtype == words.dtype == np.int32 and len(ids) == len(words)
            spelled = [made.symbols[i] for i in ids]
            assert "".join(spelled).strip() == text
            for n, word in enumerate(text.split()):
                assert "".join(spelled[u] for u in np.flatnonzero(words == n)).strip() == word
            assert {spelled[u] for u in np.flatnonzero(words < 0)} <= {BOUNDARY}


@pytest.mark.parametrize("kind", ["characters", "sentencepiece"])
def test_unknown_characters_have_their_word_too(kind):
    units = make_units(UnitsConfig(kind=kind, vocabulary_size=22), ((text, "") for text in TEXTS))
    ids, words = units.encode("cat 漢 dog"), units.words("cat 漢 dog")
    assert words[ids == UNKNOWN].tolist() == [1] and words.max() == 2
    assert len(units.encode("")) == len(units.words("")) == 0


@pytest.mark.parametrize("kind", ["characters", "sentencepiece"])
def test_words_of_any_labels_are_those_of_their_text(kind):
    """Heads cut words in another way than a tokenizer, repeat boundaries, and emit the unknown label."""
    units = make_units(UnitsConfig(kind=kind, vocabulary_size=22), ((text, "") for text in TEXTS))
    rng = np.random.default_rng(0)
    for count in [0, 1, 2, *rng.integers(3, 30, 100)]:
        labels = rng.integers(1, units.size, count)
        words, owners = units.label_words(labels.tolist())
        assert words == units.tokenizer.decode(labels.tolist()).split()
        assert owners.dtype == np.int32 and len(owners) == count
        assert all(a <= b for a, b in zip(owners[owners >= 0], owners[owners >= 0][1:]))
        for n, word in enumerate(words):
            own = units.tokenizer.decode(labels[owners == n].tolist())
            assert word == own.replace(" ", "")


def test_too_many_wordpieces_are_a_mistake_in_the_units():
    with pytest.raises(UserError, match="data.units.vocabulary_size: 9999 is too large"):
        make_units(UnitsConfig(kind="sentencepiece", vocabulary_size=9999), ((text, "") for text in TEXTS))


def test_no_units():
    assert make_units(UnitsConfig(), iter(())) is None
