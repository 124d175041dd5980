"""Texts as labels, and words as they are written."""

import numpy as np
import pytest

from joint_st.data.normalizers import normalizer
from joint_st.data.scripts import tokens_of
from joint_st.data.text_units.units import Spelling
from joint_st.data.tokenizers import Characters
from joint_st.errors import UserError
from joint_st.word_times.spans import CannotAlign, Frames, Span, divided, unit_spans, word_spans, words_of_units
from joint_st.word_times.text import as_written, labels_of, read_text

ENGLISH = normalizer("english")
LETTERS = Characters(" abcdehinotuy")


def test_a_text_is_normalised_and_spelled():
    text, labels = labels_of("  On a\nDOT. ", ENGLISH, LETTERS)
    assert text == "on a dot"
    assert LETTERS.decode(labels) == text


@pytest.mark.parametrize(
    "text, why",
    [
        (" \n", "its text is empty"),
        ("…!", "the normaliser english v2 leaves nothing of its text '…!'"),
        ("a fox", "cannot spell 'f', 'x' of its text"),
        (
            "a 东京 dot, 北 – 东京",
            "the normaliser english v2 leaves nothing of '东京', '北' in its text; write it with",
        ),
    ],
)
def test_why_a_text_cannot_be_aligned(text, why):
    with pytest.raises(CannotAlign, match=why):
        labels_of(text, ENGLISH, LETTERS)


def spans(words):
    return tuple(Span(word, k, k + 0.5, 0.1 * k, k) for k, word in enumerate(words))


@pytest.mark.parametrize(
    "written, expected",
    [
        ("On a dot.", [("On", 0, 0.5, 0), ("a", 1, 1.5, 1), ("dot.", 2, 2.5, 2)]),
        ("- On 21, dot -", [("- On", 0, 0.5, 0), ("21,", 1, 2.5, 1), ("dot -", 3, 3.5, 3)]),
        ("co-op", [("co-op", 0, 1.5, 0)]),
    ],
)
def test_words_as_they_are_written(written, expected):
    found = as_written(written, ENGLISH, spans(ENGLISH(written).split()))
    assert [(s.text, s.start, s.end, s.word) for s in found] == expected


def test_characters_of_a_script_without_spaces_as_they_are_written():
    basic, written = normalizer("basic"), "\u4f60\u597d\uff0c\u300c\u5317\u4eac\u300d GPT\u5f88\u597d\u3002"
    normalised = tokens_of(basic(written))
    words = tuple(Span(text, k, k + 0.5, 0.1 * k, k, joined) for k, (text, joined) in enumerate(normalised))
    found = as_written(written, basic, words)
    assert [
        span.text for span in found
    ] == "\u4f60 \u597d\uff0c \u300c\u5317 \u4eac\u300d GPT \u5f88 \u597d\u3002".split()
    assert [span.joined for span in found] == [False, True, True, True, False, True, True]
    assert [(span.start, span.word) for span in found] == [(k, k) for k in range(7)]


def test_no_space_is_put_between_letters_of_a_script_without_spaces():
    """The normaliser leaves the letters out before a word and after it."""
    [one] = as_written("我有iPhone手机。", ENGLISH, spans(["iphone"]))
    assert one.text == "我有iPhone手机。"
    first, last = as_written("我 有 iPhone 手机 one", ENGLISH, spans(["iphone", "one"]))
    assert (first.text, last.text) == ("我 有 iPhone 手机", "one")


def test_labels_divide_their_frames_among_their_parts():
    frames = Frames(np.array([2, 8]), np.array([8, 9]), np.array([0.5, 0.25]))
    starts, ends, scores = divided(frames, np.array([0, 0, 0, 1]))
    assert (starts.tolist(), ends.tolist()) == ([2, 4, 6, 8], [4, 6, 8, 9]) and scores.tolist() == [0.5] * 3 + [0.25]


def test_words_that_the_normaliser_mixes_up_stay_normalised():
    words = spans(["one", "thousand", "two"])
    assert as_written("1 002", ENGLISH, words) == words


def test_words_and_units_take_the_frames_of_their_labels():
    text = "he cue"
    word = Spelling(Characters(" cehu")).words(text)
    frames = Frames(
        np.array([2, 4, 6, 7, 10, 11]), np.array([3, 6, 7, 8, 11, 12]), np.array([0.9, 0.3, 0.5, 0.4, 0.8, 0.6])
    )
    he, cue = word_spans(tokens_of(text), word, frames, 0.04, 0.465)
    assert [he.start, he.end, he.confidence] == pytest.approx([0.08, 0.24, 0.5])
    assert [cue.start, cue.end, cue.confidence] == pytest.approx([0.28, 0.465, 0.6]), "it ends with the audio"
    units = unit_spans(list(text), word, frames, 0.04, 0.465)
    assert [unit.text for unit in units] == list("hecue")
    assert [unit.word for unit in units] == [0, 0, 1, 1, 1]
    assert [unit.start for unit in units] == pytest.approx([0.08, 0.16, 0.28, 0.4, 0.44])
    again = words_of_units(text.split(), units)
    assert [(s.text, s.start, s.end, s.word) for s in again] == [(s.text, s.start, s.end, s.word) for s in (he, cue)]


def test_a_text_is_a_file_or_what_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "said.txt"
    file.write_text("\ufeffOne.\nTwo.\n")
    assert read_text(str(file)) == "One.\nTwo.\n"
    assert capsys.readouterr().err == f"joint-st: the text is read from the file {file}\n"
    said = ("Stop.", "e.g.", "U.S.A.", "3.5", "3.5.", "one, two", "km/h", "www.example.com", "他/她说的话", "see a.txt")
    for text in (*said, "missing.txt."):
        assert read_text(text) == text
    (tmp_path / "homer").write_text("homer sold boxes")
    assert capsys.readouterr().err == ""
    assert read_text("homer") == "homer sold boxes"
    assert capsys.readouterr().err == "joint-st: the text is read from the file homer\n"
    for missing in ("missing.txt", "a folder/said.LAB"):
        with pytest.raises(
            UserError, match=f"{missing}: no such file, and .* is the ending of a file; correct the path"
        ):
            read_text(missing)
    file.write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match="not UTF-8"):
        read_text(str(file))
