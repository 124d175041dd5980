"""Streams give the same text as whole files, for any chunks and any neighbours."""

from __future__ import annotations

import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import soundfile

from joint_st.cli import main
from joint_st.config import FeaturesConfig
from joint_st.decoding.streaming import Streams, chunk_frames, pieces
from joint_st.decoding.transcribe import transcribe_files
from joint_st.errors import UserError
from joint_st.runs.trained import load_trained
from tests.tiny import environment


@pytest.fixture(scope="module")
def model(trained):
    return load_trained(trained, "best")


@pytest.fixture(scope="module")
def files(spoken):
    return sorted(spoken.glob("*.wav"))[:4]


@pytest.fixture(scope="module")
def whole(trained, files):
    """Texts of the files by head, without streaming."""
    return {
        head: [text for _, text in transcribe_files(trained, files, head=head)]
        for head in ("streaming", "full_context")
    }


@pytest.mark.parametrize("frames", [1, 7])
def test_streams_side_by_side_say_what_the_whole_says(model, files, whole, frames):
    """Three streams for four files: they begin at different turns, pause now and then, and one follows another."""
    streams = Streams(model, 3, frames)
    random = np.random.default_rng(0)
    waiting, running, said = list(range(len(files))), {}, {}
    while waiting or running:
        for row in range(3):
            if row not in running and waiting and random.random() < 0.5:
                n = waiting.pop(0)
                running[row] = n, pieces(soundfile.read(files[n], dtype="int16")[0], streams.chunk_samples)
        going = {row: next(audio) for row, (_, audio) in running.items() if random.random() < 0.7}
        streams.turn(going)
        for row, piece in going.items():
            if len(piece) < streams.chunk_samples:
                n = running.pop(row)[0]
                heard = streams.end(row)
                assert np.all(np.diff(heard.frames) > 0) and len(heard.frames) == len(heard.labels)
                said[n] = [model.tokenizer.decode(x) for x in (heard.labels, streams.full_context(heard))]
    assert [said[n][0] for n in range(4)] == whole["streaming"]
    assert [said[n][1] for n in range(4)] == whole["full_context"]
    assert any(whole["streaming"])


def test_nothing_compiles_once_a_stream_has_begun(model):
    streams = Streams(model, 2, 4)
    streams.compile()
    programs = streams._turn._jitted
    before = programs._cache_size()
    for row in (0, 1, 0):
        streams.turn({row: np.zeros(streams.chunk_samples, np.int16)})
    assert programs._cache_size() == before == 1


def test_pieces_are_the_audio():
    audio = np.arange(10, dtype=np.int16)
    for given in (audio, [audio[:3], audio[3:3], audio[3:9], audio[9:]]):
        cut = list(pieces(given, 4))
        assert [len(piece) for piece in cut] == [4, 4, 2]
        np.testing.assert_array_equal(np.concatenate(cut), audio)
    assert [len(piece) for piece in pieces(audio, 5)] == [5, 5, 0]


def test_a_chunk_is_whole_frames():
    assert chunk_frames(320, FeaturesConfig()) == 8
    for wrong in (50, 0, -40):
        with pytest.raises(UserError, match=f"--chunk-ms {wrong}: .* 40 ms"):
            chunk_frames(wrong, FeaturesConfig())


def test_a_chunk_is_whole_blocks_of_the_look_ahead():
    assert [chunk_frames(None, FeaturesConfig(), block) for block in (1, 4, 6, 16)] == [8, 8, 12, 16]
    with pytest.raises(UserError, match="--chunk-ms 200: must be a multiple of the look-ahead, 160 ms"):
        chunk_frames(200, FeaturesConfig(), 4)


def test_the_command_tells_each_new_text_and_the_second_pass(trained, files, whole, capsys):
    assert main(["transcribe", str(trained), str(files[0]), "--stream", "--chunk-ms", "200"]) == 0
    out, err = capsys.readouterr()
    lines = [line.split("\t") for line in out.splitlines()]
    heads = [head for _, head, _ in lines]
    assert heads == ["streaming"] * (len(lines) - 1) + ["full_context"]
    assert lines[-1][2] == whole["full_context"][0]
    texts = [""] + [text for _, head, text in lines if head == "streaming"]
    assert texts[-1] == whole["streaming"][0] and all(a != b for a, b in zip(texts, texts[1:]))
    times = [float(seconds) for seconds, _, _ in lines]
    assert times == sorted(times)
    assert "look-ahead 0 ms; real-time factor" in err


def test_a_stream_without_text_has_no_first_one(trained, files, tmp_path, capsys):
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, np.int16), 16_000)
    assert main(["transcribe", str(trained), str(tmp_path / "empty.wav"), "--stream"]) == 0
    out, err = capsys.readouterr()
    assert out == "0.00\tfull_context\t\n"
    assert err.endswith("; no streaming text\n") and "first text" not in err
    assert main(["transcribe", str(trained), str(files[0]), "--stream"]) == 0
    out, err = capsys.readouterr()
    assert err.endswith(f"; first text after {out.split()[0]} s\n")


def test_compilation_does_not_count(trained, files, capsys, monkeypatch):
    """By a clock that stands still while nothing compiles, nothing takes time."""
    compiled = []

    def note(event, seconds, **_):
        if "/compile/" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    monkeypatch.setattr(time, "perf_counter", lambda: float(len(compiled)))
    try:
        assert main(["transcribe", str(trained), str(files[0]), "--stream"]) == 0
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
    assert compiled and "real-time factor 0.000, second pass 0 ms" in capsys.readouterr().err


def test_raw_audio_comes_through_a_pipe(trained, files, whole):
    audio, rate = soundfile.read(files[1], dtype="int16")
    command = [sys.executable, "-m", "joint_st", "transcribe", str(trained), "-", "--stream"]
    found = subprocess.run(command, input=audio.astype("<i2").tobytes(), capture_output=True, env=environment())
    assert found.stdout.decode().splitlines()[-1].split("\t")[1:] == ["full_context", whole["full_context"][1]]


def test_mistakes_are_one_line(trained, files, capsys):
    for arguments, said in (
        (["-"], "-: no such file"),
        ([str(files[0]), "--chunk-ms", "320"], "--chunk-ms: needs --stream; add it"),
        ([str(files[0]), "--stream", "--decoder", "beam"], "--decoder: --stream decodes greedily"),
        ([str(files[0]), "--stream", "--rate", "8000"], "--rate: only for standard input"),
        ([str(files[0]), str(files[1]), "--stream"], "one FILE at a time"),
    ):
        assert main(["transcribe", str(trained), *arguments]) == 2
        err = capsys.readouterr().err
        assert said in err and err.count("\n") == 1
