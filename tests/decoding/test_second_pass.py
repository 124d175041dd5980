"""The second pass over streams: in windows if they are long, and never with more than one window in memory."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import numpy as np
import pytest
import soundfile

from joint_st.cli import main
from joint_st.decoding import transcribe
from joint_st.decoding.streaming import SecondPass, Streams, pieces
from joint_st.decoding.windows import Frames, Windows
from joint_st.heads.ctc import collapse
from joint_st.heads.model import model_structure
from joint_st.models.functional import merge
from joint_st.runs.trained import load_trained

WINDOWS = Windows(size=60, context=10, samples_per_frame=1, pause=3)


def hear(x, mask):
    """A frame's symbol is the loudest of the frame; a blank is the surer the quieter its neighbours are."""
    x, mask = x[0], mask[0]
    assert x.shape[0] % 64 == 0 and mask.sum() <= WINDOWS.size
    level = np.abs(np.where(mask[:, None], x, 0)).sum(axis=1)
    around = level + np.roll(level, 1) + np.roll(level, -1)
    return np.where(mask, x.argmax(axis=1), 0), Frames(-around, np.where(mask, x.argmax(axis=1), 0))


def spell(symbols, first, count):
    """Return the symbols of `count` frames from `first` on, repeats collapsed."""
    piece = symbols[None, first : first + count]
    return np.asarray(collapse(piece, np.ones(piece.shape, bool), np.zeros(1, int))[0])[0][:, None]


@pytest.mark.parametrize("frames", [0, 1, 59, 60, 61, 100, 101, 400, 5000])
@pytest.mark.parametrize("chunk", [1, 7, 90])
def test_what_hears_little_context_is_not_changed_by_windows(frames, chunk):
    rng = np.random.default_rng(frames)
    symbols = []
    while len(symbols) < frames:
        symbols += [*rng.integers(1, 8, rng.integers(1, 6)), *[0] * rng.integers(1, 4)]
    embeddings = np.eye(8, dtype=np.float32)[np.array(symbols[:frames], int)] * (np.arange(8) > 0)
    stream = SecondPass(hear, spell, WINDOWS)
    for start in range(0, frames, chunk):
        stream.add(embeddings[start : start + chunk])
        assert stream.kept <= WINDOWS.size
    assert stream.end().tolist() == [symbol for symbol, _ in itertools.groupby(symbols[:frames]) if symbol]


@pytest.fixture(scope="module")
def recording(spoken, tmp_path_factory):
    """The test utterances joined, some 20 s."""
    audio = np.concatenate([soundfile.read(path, dtype="int16")[0] for path in sorted(spoken.glob("*.wav"))])
    path = tmp_path_factory.mktemp("joined") / "joined.wav"
    soundfile.write(path, audio, 16_000)
    return path, audio


@pytest.fixture(scope="module")
def model(trained):
    """A hardly trained model, changed to emit more labels: its full-context head gives fewer blanks."""
    model = load_trained(trained, "best")
    weights = jax.tree.map(lambda x: x, model.weights)
    bias = weights["full_context_head"]["linear"]["bias"]
    weights["full_context_head"]["linear"]["bias"] = bias.at[0].add(-3.0)
    return dataclasses.replace(model, weights=weights)


@pytest.fixture(scope="module")
def expected(model, recording) -> list[int]:
    """Return the labels of windows of 3 s, cut by hand from the outputs of the streaming layers for the whole
    recording."""
    features = model.config.model.features
    frame = features.samples_per_frame
    whole = merge(model_structure(model.config, model.symbols.sizes), model.weights)
    audio = np.pad(recording[1], (0, -len(recording[1]) % frame))[None]
    x, mask = whole.first_pass(audio, np.array([len(recording[1])]))
    assert mask.all()
    windows = Windows.of_seconds(3, 0.75, features)
    begins = [begin // frame for begin in windows.begins(len(recording[1]))]
    assert len(begins) > 5
    cut = [slice(begin, begin + 75) for begin in begins]
    head = whole.head("full_context")
    logits = [np.asarray(head(whole.second_pass(x[:, own], mask[:, own])))[0] for own in cut]
    blanks = [np.asarray(jax.nn.log_softmax(own))[:, 0] for own in logits]
    frames = [Frames(own, x.argmax(axis=1)) for own, x in zip(blanks, logits)]
    seams = [windows.seam(*frames[k : k + 2], *begins[k : k + 2]) for k in range(len(begins) - 1)]
    labels = []
    for own, begin, (first, last) in zip(logits, begins, itertools.pairwise([0, *seams, mask.shape[1]])):
        piece = own[first - begin : last - begin].argmax(axis=1)
        labels += [symbol for symbol, _ in itertools.groupby(piece.tolist()) if symbol]
    assert len(labels) > 20
    return labels


def test_a_stream_is_the_windows_of_what_the_streaming_layers_put_out(model, recording, expected):
    streams = Streams(model, 1, 8, window_seconds=3)
    streams.compile()
    for piece in pieces(recording[1], streams.chunk_samples):
        heard = streams.turn({0: piece})[0]
        assert heard.second_pass.kept <= 75, "3 s of frames of 40 ms"
    assert streams.full_context(streams.end(0)).tolist() == expected


def test_the_command_takes_windows(trained, model, recording, expected, capsys, monkeypatch):
    """Without the option this recording fits into one window, and as a stream it gives the same text as the file."""
    monkeypatch.setattr(transcribe, "load_trained", lambda *of: model)

    def last_text(*options):
        assert main(["transcribe", str(trained), str(recording[0]), *options]) == 0
        return capsys.readouterr().out.splitlines()[-1].split("\t")[-1]

    in_windows = last_text("--stream", "--window-seconds", "3")
    assert in_windows == model.tokenizer.decode(expected)
    whole = last_text()
    assert last_text("--stream") == whole != in_windows


def test_windows_too_short_are_refused(trained, recording, capsys):
    for wrong in ("1.9", "nan", "long"):
        assert main(["transcribe", str(trained), str(recording[0]), "--window-seconds", wrong]) == 2
        error = capsys.readouterr().err
        assert "--window-seconds" in error and "seconds from 2 to 3600" in error and error.count("\n") == 1
