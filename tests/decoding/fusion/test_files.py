"""Files of language models and hot words: how they are read, reported and refused."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest

from joint_st.config import LmConfig, TokenizerConfig
from joint_st.data.normalizers import normalizer
from joint_st.data.tokenizers import Characters, make_tokenizer
from joint_st.decoding.decoders import Beam, Greedy, fingerprint, without_origin
from joint_st.decoding.fusion import Weights, build
from joint_st.decoding.fusion.build import FusionFiles, find_level, open_lm
from joint_st.decoding.fusion.hot_word_file import read_hot_words
from joint_st.decoding.fusion.word_lm import WordLM
from joint_st.decoding.rescoring import RescoringWeights
from joint_st.errors import UserError
from joint_st.lm.arpa import Arpa, NGramScores, label_tokens, separates_words, spellings, write_arpa
from joint_st.lm.estimate import estimate

ENGLISH = normalizer("english")
LETTERS = Characters(" abc")
CHINESE = [
    "中共高级领导人今天在北京会见了外国客人",
    "今天北京的天气很好我们去公园走走",
    "外国客人很高兴他们在公园看见了很多人",
    "领导人说我们很高兴看见你们",
    "我们今天走了很多路天气很好",
]


@pytest.fixture(scope="module")
def pieces():
    """Wordpieces of Chinese texts; SentencePiece begins each text with a space."""
    return make_tokenizer(TokenizerConfig(kind="sentencepiece", vocabulary_size=47), CHINESE)


@pytest.fixture
def made(tmp_path):
    """`made(sentences)`: the path of a 2-gram of these."""

    def make(*sentences: str):
        write_arpa(estimate([sentence.split() for sentence in sentences], 2), tmp_path / "lm.arpa")
        return tmp_path / "lm.arpa"

    return make


@pytest.mark.parametrize(
    "sentences, labels, name, said",
    [
        (["ab ca", "a b"], LETTERS, "word 2-gram lm.arpa", "lm.arpa: a 2-gram over 4 words"),
        (["ab ca AB"], LETTERS, "word", "a 2-gram over 3 words, 1 of which, such as 'AB', cannot be spelled"),
        (["a \u2581 b", "c a"], LETTERS, "label 2-gram lm.arpa", "lm.arpa: a 2-gram over 4 labels"),
        (["a \u2581 b"], LETTERS, "label", "a 2-gram over 3 labels; it lacks 1 of the run's, such as 'c'"),
        # Where texts have no spaces, labels have none either.
        (["漢 字"], Characters("漢字"), "label", "a 2-gram over 2 labels"),
    ],
)
def test_a_model_says_what_it_is(made, capsys, sentences, labels, name, said):
    lm, named = open_lm(made(*sentences), labels, ENGLISH)
    assert named.startswith(name) and isinstance(lm, WordLM) == name.startswith("word")
    assert capsys.readouterr().err.endswith(f"{said}\n")


def test_penalties_that_are_not_the_default_are_in_names_and_fingerprints(made):
    path, found = made("ab ca", "a b"), {}
    for fused, rescored in ((10.0, 10.0), (3.0, 10.0), (10.0, 0.0)):
        weights = Weights(unknown_penalty=fused), RescoringWeights(unknown_penalty=rescored)
        files = FusionFiles(path, None, weights[0], rescore=path, rescoring_weights=weights[1])
        decoder = Beam(fused=files.open(LETTERS, ENGLISH))
        found[fused, rescored] = fingerprint(decoder)
        assert found[fused, rescored].startswith(decoder.name)
    lm = "word 2-gram lm.arpa weight 0.5 bonus 0"
    assert found[10.0, 10.0].startswith(f"beam 16, {lm}, rescored by {lm}, 8 candidates, ")
    assert found[3.0, 10.0].startswith(f"beam 16, {lm} unknown penalty 3, rescored by {lm}, 8 candidates, ")
    assert found[10.0, 0.0].startswith(f"beam 16, {lm}, rescored by {lm} unknown penalty 0, 8 candidates, ")


def test_tuned_weights_are_those_that_a_user_gives(made):
    """So that the temperature that was fitted with them is found."""
    fused = FusionFiles(made("ab ca", "a b"), None, Weights(lm=0.25)).open(LETTERS, ENGLISH)
    tuned = Beam(fused=dataclasses.replace(fused, tuned="dev"))
    assert tuned.name.endswith(", tuned on dev")
    assert fingerprint(without_origin(tuned)) == fingerprint(Beam(fused=fused)) != fingerprint(tuned)
    assert without_origin(Greedy()) == Greedy() and without_origin(Beam()) == Beam()


def test_many_tokens_are_not_compared_with_one_another():
    compared = 0

    class Token(str):
        __hash__ = str.__hash__

        def __eq__(self, other):
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

    tokens = [Token(token) for token in [*"0123456789", *map("".join, itertools.product("abc", repeat=5))]]
    model = Arpa(({(token,): NGramScores(-1.0, 0.0) for token in tokens},))
    compared = 0
    assert find_level(model, Path("lm.arpa"), LETTERS, "--lm-level") == "word"
    assert compared < 5 * len(tokens)


def test_words_of_one_letter_may_be_labels_and_the_flag_says_which(made):
    path = made("a b", "c a")
    with pytest.raises(UserError) as caught:
        open_lm(path, LETTERS, ENGLISH, None, "--rescore-level")
    assert str(caught.value) == (
        f"{path}: its tokens, such as 'a', may be words or labels of the run; say which: --rescore-level word, or "
        "--rescore-level label"
    )
    for level in ("word", "label"):
        fused = FusionFiles(path, None, rescore=path, lm_level=level, rescore_level=level).open(LETTERS, ENGLISH)
        assert fused.lm == fused.rescorer == f"{level} 2-gram lm.arpa"


@pytest.mark.parametrize(
    "sentences, level, message",
    [
        (
            ["AB CA a"],
            None,
            "lm.arpa: 2 of its 3 words, such as 'AB', cannot be spelled by the run's tokenizer; make it",
        ),
        (["AB CA"], None, "lm.arpa: 2 of its 2 words, such as 'AB', cannot be spelled"),
        (["a \u2581 q"], None, "lm.arpa: over the labels of another tokenizer: this run's has no 'q'"),
        (["ab"], "label", "lm.arpa: over the labels of another tokenizer: this run's has no 'ab'"),
        (["a a"], "label", "lm.arpa: 3 of the run's 4 labels, such as '\u2581', are not in it"),
    ],
)
def test_models_of_other_labels_are_refused(made, sentences, level, message):
    with pytest.raises(UserError, match=message):
        open_lm(made(*sentences), LETTERS, ENGLISH, level)


def test_a_neural_model_is_over_labels_and_of_the_same_texts(tmp_path, monkeypatch, capsys):
    config = LmConfig(data={"train": [{"kind": "text", "path": "x.txt"}], "normalizer": "english v1"})
    trained = SimpleNamespace(tokenizer=LETTERS, config=config, weights={}, step=3)
    monkeypatch.setattr(build, "load_lm", lambda path: trained)
    _, named = open_lm(tmp_path, LETTERS, ENGLISH, "label")
    assert named == f"label LSTM {tmp_path.name} step 3"
    said = f"{tmp_path}: trained on texts of the normaliser english v1, and the run's is english v2\n"
    assert capsys.readouterr().err == said
    with pytest.raises(
        UserError, match=f"--rescore-level word: {tmp_path} is a neural model, which is over labels; leave"
    ):
        open_lm(tmp_path, LETTERS, ENGLISH, "word", "--rescore-level")


def test_words_need_labels_with_a_space(made):
    with pytest.raises(
        UserError, match="lm.arpa: is over words, and no label of the run separates them; make a model over"
    ):
        open_lm(made("漢字"), Characters("漢字"), ENGLISH)


def test_wordpieces_of_a_language_without_spaces_separate_no_words(made, pieces, tmp_path, capsys):
    assert any(" " in spelling for spelling in spellings(pieces)) and not separates_words(pieces)
    words = made(*CHINESE)
    for level in (None, "word"):
        with pytest.raises(UserError, match="lm.arpa: is over words, and no label of the run separates them; make a"):
            open_lm(words, pieces, ENGLISH, level)
    labels = made(*(" ".join(label_tokens(pieces, text)) for text in CHINESE))
    assert open_lm(labels, pieces, ENGLISH)[1] == "label 2-gram lm.arpa"
    capsys.readouterr()
    path = tmp_path / "hot.txt"
    path.write_text("北京\n", encoding="utf-8")
    FusionFiles(None, path).open(pieces, normalizer("basic"))
    told = f"{path}: no label of the run separates words, so a hot word only counts as a whole text\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize(
    "characters, separate",
    [(" abc", True), ("abc", False), (" 漢字", False), ("漢字", False), (" 漢字abc", True), (" 안녕하세요", True)],
)
def test_labels_separate_words_where_they_have_a_space_and_their_script_puts_it_between_words(characters, separate):
    assert separates_words(Characters(characters)) == separate


def test_hot_words_and_their_weights(tmp_path, capsys):
    path = tmp_path / "hot.txt"
    path.write_text("\ufeffEssen :2.0\n\nOrlando!\n北京\nessen :0.5\nAzores \t:1.5 \nten to 3:30\n", encoding="utf-8")
    found = read_hot_words(path, ENGLISH)
    assert found == {"essen": 2.0, "orlando": 1.0, "azores": 1.5, "ten to three thirty": 1.0}
    assert capsys.readouterr().err == f"{path}:4: '北京' is left out: the normaliser english v2 leaves nothing of it\n"


def test_hot_words_of_labels_without_a_space_are_told(tmp_path, capsys):
    path = tmp_path / "hot.txt"
    path.write_text("ab\n", encoding="utf-8")
    told = f"{path}: no label of the run separates words, so a hot word only counts as a whole text\n"
    for labels, said in (("abc", told), (" abc", "")):
        FusionFiles(None, path).open(Characters(labels), ENGLISH)
        assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    "text, message",
    [
        ("北京\n!\n", ": holds no word; the normaliser english v2 leaves nothing of .*:1: '北京'"),
        ("\n", ": holds no word$"),
        ("essen :nan\n", ":1: the weight :nan is no number above 0 and up to 100"),
        ("a\nessen :inf\n", ":2: the weight :inf is no number"),
        ("essen :-1\n", ":1: the weight :-1 is no number"),
        ("essen :0\n", ":1: the weight :0 is no number"),
        ("essen :1e30\n", ":1: the weight :1e30 is no number"),
        ("essen :high\n", ":1: the weight :high is no number"),
    ],
)
def test_mistakes_in_hot_words(tmp_path, text, message):
    path = tmp_path / "hot.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=f"hot.txt{message}"):
        read_hot_words(path, ENGLISH)


def test_a_folder_holds_no_hot_words(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}: a folder, and no file"):
        read_hot_words(tmp_path, ENGLISH)


def test_many_lines_without_words_are_named_in_part(tmp_path, capsys):
    path = tmp_path / "hot.txt"
    path.write_text("essen\n" + "京\n" * 30, encoding="utf-8")
    assert read_hot_words(path, ENGLISH) == {"essen": 1.0}
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 11 and said[-1] == f"{path}: 30 lines in all are left out"
