"""Delays, flicker and words by hand; the WER of streams is that of the evaluation."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from joint_st.config import TfdsSource
from joint_st.data.audio import UnreadableAudio
from joint_st.data.sources import open_source
from joint_st.decoding.forward import Clock
from joint_st.decoding.streaming import Heard
from joint_st.errors import UserError
from joint_st.evaluation import streams
from joint_st.evaluation.evaluate import evaluate_run
from joint_st.evaluation.streams import account, ends_of_chunks, evaluate_streams, last_labels, readable, revisions

LETTERS = "_ abcdefghijklmnopqrstuvwxyz"


def decode(labels):
    return " ".join("".join(LETTERS[label] for label in labels).split())


def test_a_word_is_whole_with_its_last_letter():
    labels = [LETTERS.index(letter) for letter in "in  may "]
    assert decode(labels) == "in may"
    assert last_labels(labels, decode) == [1, 6]
    assert last_labels([], decode) == []


@pytest.mark.parametrize(
    ("partials", "expected"),
    [
        (["", "se", "seven", "seven a", "seven apples"], 0),
        (["seven", "eleven"], 1),
        (["sev ap", "seven ap"], 1),  # not the last word any more
        (["a b c", "a"], 2),
        (["a b", "b a", "b a"], 2),
        ([], 0),
    ],
)
def test_revised_words(partials, expected):
    assert revisions(partials) == expected


def test_what_cannot_be_read_is_not_streamed():
    told = []

    def load(n):
        if n == 1:
            raise UnreadableAudio("b.wav", "no such file")
        return SimpleNamespace(audio=np.full(2, n))

    class Three(SimpleNamespace):
        def __len__(self):
            return 3

    dataset = Three(load=load, note_unreadable=lambda n, error: told.append((n, error.why)))
    assert [(n, audio[0]) for n, audio in readable(dataset)] == [(0, 0), (2, 2)] and told == [(1, "no such file")]


class OneUtterance:
    """A dataset of `in may`, whose words end after 0.5 s and 1.0 s; the first begins after 0.1 s."""

    normalizer = staticmethod(lambda text: text)

    def text(self, n):
        return "in may"

    def utterance(self, n):
        return SimpleNamespace(text="in may", word_times=(np.array([0.1, 0.6]), np.array([0.5, 1.0])))


def heard(text, frames, length):
    return Heard([LETTERS.index(letter) for letter in text], frames, length)


def test_delays_run_from_the_true_end_of_a_word_to_the_chunk_that_made_it_whole():
    """Frames of 40 ms in chunks of 200 ms; 29 frames, so that the last chunk ends after 1.16 s."""
    streams = SimpleNamespace(chunk_samples=3200, samples_per_frame=640)
    said = heard("in may", [4, 14, 15, 20, 21, 28], 29)
    known = ends_of_chunks(said, streams, 16_000, 6)
    np.testing.assert_allclose(known, [0.2, 0.6, 0.8, 1.0, 1.0, 1.16])
    trained = SimpleNamespace(tokenizer=SimpleNamespace(decode=decode))
    one = account(OneUtterance(), 0, said, ["i", "in", "in may"], "in june", known, trained)
    np.testing.assert_allclose(one.delays, [0.1, 0.16])
    assert one.first == pytest.approx(0.1)
    assert (one.shown, one.revised, one.changed) == (2, 0, 1)
    assert one.errors["streaming"].word_errors == 0 and one.errors["full_context"].word_errors == 1
    # Only words that are heard right have a delay.
    wrong = account(OneUtterance(), 0, heard("in my", [4, 14, 15, 20, 28], 29), ["in my"], "", known[1:], trained)
    assert len(wrong.delays) == 1 and not wrong.not_timed
    few = OneUtterance()
    few.utterance = lambda n: SimpleNamespace(text="in may", word_times=(np.array([0.1]), np.array([0.5])))
    unknown = account(few, 0, said, ["in may"], "", known, trained)
    assert unknown.not_timed and not unknown.delays and unknown.first is None


class Steady(Clock):
    """A clock by which each program takes 0.01 s, however long it is compiled before."""

    calls = 0

    @contextlib.contextmanager
    def running(self, decoder=None, head=None):
        self.calls += 1
        yield
        self._spent[decoder, head] += 0.01


def test_a_table_that_cannot_be_written_is_shown_and_kept(trained, corpora, tmp_path, capsys):
    run = shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "file").touch()
    data = {"test": TfdsSource(name="spoken_grammar/tiny", split="test", data_dir=str(corpora))}
    with pytest.raises(UserError, match="could not be written.*; it was written to") as caught:
        evaluate_streams(run, data=data, json_file=tmp_path / "file" / "streams.json")
    [row] = json.loads(Path(str(caught.value).rpartition(" ")[2]).read_text())
    assert row["utterances"] == 8 and "2nd pass" in capsys.readouterr().out


def test_streams_of_a_corpus(trained, corpora, tmp_path, monkeypatch):
    """The WER is that of the evaluation of the whole, decoding alone is timed, and the table is written."""
    run = shutil.copytree(trained, tmp_path / "run")
    data = {"test": TfdsSource(name="spoken_grammar/tiny", split="test", data_dir=str(corpora))}
    clocks = []
    monkeypatch.setattr(streams, "Clock", lambda: clocks.append(Steady()) or clocks[-1])
    [row] = evaluate_streams(run, data=data, streams=3, json_file=tmp_path / "new" / "streams.json")
    assert json.loads((tmp_path / "new" / "streams.json").read_text()) == [row]
    [clock] = clocks
    corpus = open_source(data["test"])
    seconds = sum(len(one.audio) / one.sample_rate for one in (corpus[n] for n in range(len(corpus))))
    assert clock.audio == pytest.approx(seconds)
    assert row["real_time_factor"] == pytest.approx(clock.calls / 100 / seconds), "each program took 0.01 s"
    assert clock.calls > 2 * len(corpus), "turns, and the second pass of each"
    wers = {one["head"]: one["wer"] for one in evaluate_run(run, data=data) if one["subset"] == "all"}
    assert row["wer_streaming"] == pytest.approx(wers["streaming"])
    assert row["wer_full_context"] == pytest.approx(wers["full_context"])
    assert row["flicker"] == 0  # labels are only added
    assert row["utterances"] == 8 and row["streams"] == 3 and row["real_time_factor"] > 0
