import io
import itertools
import pickle
import random
import tracemalloc
import unicodedata

import numpy as np
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from joint_st.config import TokenizerConfig
from joint_st.data.tokenizers import Characters, load_tokenizer, make_tokenizer
from joint_st.errors import UserError

WORDS = "the cat sat on a mat while rain fell over every hill and river near seven quiet villages".split()


def sentences(count=200):
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=draw.randint(3, 9))) for _ in range(count)]


@pytest.fixture(scope="module")
def wordpieces():
    return make_tokenizer(TokenizerConfig(kind="sentencepiece", vocabulary_size=40), sentences())


def test_characters_are_sorted_behind_blank_and_unknown():
    tokenizer = make_tokenizer(TokenizerConfig(), ["cab a", "é"])
    assert tokenizer.characters == (" ", "a", "b", "c", "é") and tokenizer.size == 7
    labels = tokenizer.encode("bad é")
    assert labels.dtype == np.int32 and labels.tolist() == [4, 3, 1, 2, 6]
    assert tokenizer.decode([0, 4, 0, 3, 1]) == "ba⁇"


def test_characters_are_collected_without_holding_the_texts():
    texts = (f"{n:x}" + "a b" * 100 for n in range(20_000))  # 6 MB
    tracemalloc.start()
    try:
        tokenizer = make_tokenizer(TokenizerConfig(), texts)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert tokenizer.characters == tuple(" 0123456789abcdef") and peak < 500_000


@given(st.text(alphabet="abc' "))
def test_characters_round_trip(text):
    tokenizer = Characters(" 'abc")
    assert tokenizer.decode(tokenizer.encode(text)) == " ".join(text.split())
    assert len(tokenizer.encode(text)) == len(text)


def test_texts_have_no_outer_and_no_doubled_spaces(wordpieces):
    """A head emits a label twice where a blank is between."""
    letters = Characters(" ab")
    assert letters.decode([2, 3, 2, 0, 2, 0, 4, 2, 0]) == "a b"
    for growing, text in zip(itertools.accumulate([label] for label in (2, 3, 2, 2, 4)), ("", "a", "a", "a", "a b")):
        assert letters.decode(growing) == text
    boundary = wordpieces.symbols().index("\u2581")
    (text, *_) = sentences()
    first, second = text.split()[:2]
    between = [boundary, *wordpieces.encode(first), boundary, boundary, *wordpieces.encode(second), boundary]
    assert wordpieces.decode(between) == f"{first} {second}"


def test_wordpieces_are_what_the_package_makes(wordpieces):
    """Training without our options for ids gives the same pieces; ours have ids larger by one because of the blank."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences()),
        model_writer=model,
        vocab_size=39,
        unk_id=0,
        bos_id=-1,
        eos_id=-1,
        character_coverage=1.0,
        normalization_rule_name="identity",
        minloglevel=3,
    )
    reference = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    assert wordpieces.size == 40
    for text in sentences(50):
        labels = wordpieces.encode(text)
        assert labels.dtype == np.int32
        assert labels.tolist() == [i + 1 for i in reference.encode(text)]
        assert wordpieces.decode(labels) == text
        assert wordpieces.decode([0, *labels, 0]) == text
    assert 1 in wordpieces.encode("x?") and 0 not in wordpieces.encode("x?")
    assert len(wordpieces.encode("")) == 0 and wordpieces.decode([]) == ""


def test_unknown_characters_are_named_as_often_as_they_occur(wordpieces):
    assert Characters("abc ").unknown("a bé cé漢") == ["é", "é", "漢"]
    assert wordpieces.unknown("the é漢 cat é") == ["é", "漢", "é"]
    assert wordpieces.unknown("the cat") == wordpieces.unknown("") == Characters("a").unknown("a") == []
    assert (wordpieces.kind, Characters("a").kind) == ("sentencepiece", "characters")


def test_training_is_deterministic_and_quiet(wordpieces, capfd):
    again = make_tokenizer(TokenizerConfig(kind="sentencepiece", vocabulary_size=40), sentences())
    assert again.model == wordpieces.model
    assert capfd.readouterr().err == ""


def test_any_script_survives(tmp_path):
    texts = ["क्या पहनने वाली हो", "中共高级领导人", "по прежнему"] * 3
    tokenizer = make_tokenizer(TokenizerConfig(kind="sentencepiece", vocabulary_size=32), texts)
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text)) == unicodedata.normalize("NFC", text)


def test_saved_tokenizers_are_the_same(tmp_path, wordpieces):
    for name, tokenizer in (("pieces", wordpieces), ("characters", Characters("ab "))):
        tokenizer.save(tmp_path / name)
        for again in (
            load_tokenizer(tmp_path / name),
            pickle.loads(pickle.dumps(tokenizer)),
            make_tokenizer(TokenizerConfig(path=str(tmp_path / name)), ()),
        ):
            assert again.size == tokenizer.size
            assert again.encode("a b the cat").tolist() == tokenizer.encode("a b the cat").tolist()


def test_a_missing_tokenizer_is_named(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}/none/tokenizer.json"):
        load_tokenizer(tmp_path / "none")


@pytest.mark.parametrize(
    "size, message", [(5000, r"5000 is too large .* at most \d+$"), (8, r"8 is too small .* at least \d+$")]
)
def test_an_impossible_size_names_the_limit(size, message, capfd):
    with pytest.raises(UserError, match=message) as caught:
        make_tokenizer(TokenizerConfig(kind="sentencepiece", vocabulary_size=size), sentences())
    limit = int(str(caught.value).split()[-1])
    made = make_tokenizer(TokenizerConfig(kind="sentencepiece", vocabulary_size=limit), sentences())
    assert made.size == limit
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", ["characters", "sentencepiece"])
def test_no_text_is_an_error_of_one_line(kind):
    with pytest.raises(UserError) as caught:
        make_tokenizer(TokenizerConfig(kind=kind), [])
    assert "\n" not in str(caught.value)
