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
        tokens, label, token = units.label_tokens(labels.tolist())
        assert [one.text for one in tokens] == units.tokenizer.decode(labels.tolist()).split()
        assert not any(one.joined for one in tokens)
        assert label.dtype == token.dtype == np.int32 and (np.diff(label) >= 0).all() and (np.diff(token) >= 0).all()
        assert set(token) == set(range(len(tokens)))
        for n, one in enumerate(tokens):
            assert one.text == units.tokenizer.decode(labels[label[token == n]].tolist()).replace(" ", "")


def test_a_wordpiece_of_several_characters_without_spaces_has_a_part_in_each():
    texts = ["\u5317\u4eac\u5f88\u597d", "\u5317\u4eac\u5929\u6c14"] * 20
    units = make_units(UnitsConfig(kind="sentencepiece", vocabulary_size=10), ((text, "") for text in texts))
    labels = units.encode(f"{texts[1]} {texts[0]}")
    assert units.symbols[labels[0]] == f" {texts[1]}"
    tokens, label, token = units.label_tokens(labels.tolist())
    assert [one.text for one in tokens] == [*texts[1], *texts[0]]
    assert [one.joined for one in tokens] == [False, True, True, True] * 2
    # The boundary before the second sentence is a label of its own.
    assert label.tolist() == [0, 0, 0, 0, 2, 3, 4, 5] and token.tolist() == list(range(8))


def test_too_many_wordpieces_are_a_mistake_in_the_units():
    with pytest.raises(UserError, match="data.units.vocabulary_size: 9999 is too large"):
        make_units(UnitsConfig(kind="sentencepiece", vocabulary_size=9999), ((text, "") for text in TEXTS))


def test_no_units():
    assert make_units(UnitsConfig(), iter(())) is None
