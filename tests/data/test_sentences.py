"""Sentences without audio, one a line of a text file."""

import numpy as np
import pytest

from joint_st.config import TextSource
from joint_st.data.sources import open_source


def test_sentences_are_utterances_without_audio(tmp_path):
    (tmp_path / "novels.txt").write_text("One.\n\n  Two!  \n", encoding="utf-8")
    sentences = open_source(TextSource(path=str(tmp_path / "novels.txt"), language="fr"))
    assert len(sentences) == 2 and not sentences.entry(1).has_audio and sentences.entry(1).seconds == 0
    utterance = sentences[1]
    assert (utterance.id, utterance.text) == ("novels-1", "Two!")
    assert (utterance.language, utterance.corpus) == ("fr", "novels")
    assert utterance.audio.dtype == np.int16 and not len(utterance.audio)


def test_sentences_in_which_a_pattern_is_found_are_left_out(tmp_path):
    (tmp_path / "novels.txt").write_text(
        "In 1984.\n\u0661 apple\nThree pears \r\nSix or 7\nÄpfel\n", "utf-8", newline=""
    )

    def left(pattern):
        source = open_source(TextSource(path=str(tmp_path / "novels.txt"), leave_out=pattern))
        assert [source[i].text for i in range(len(source))] == [source.entry(i).text for i in range(len(source))]
        return [(source[i].text, source.where(i).rpartition(":")[2]) for i in range(len(source))], source.place

    digits, place = left(r"\d")
    assert digits == [("Three pears", "3"), ("Äpfel", "5")]
    assert left("^Ä")[0] == [("In 1984.", "1"), ("\u0661 apple", "2"), ("Three pears", "3"), ("Six or 7", "4")]
    assert [text for text, _ in left("s$")[0]] == ["In 1984.", "\u0661 apple", "Six or 7", "Äpfel"]
    everything, other_place = left("")
    assert len(everything) == 5 and place != other_place, "one index would stand for both"
    with pytest.raises(ValueError, match="'\\(' is no regular expression"):
        TextSource(path="novels.txt", leave_out="(")
