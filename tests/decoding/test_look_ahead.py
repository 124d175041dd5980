"""A run with look-aheads of several lengths: streams say what the whole says, with each of them."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

from joint_st.cli import main
from joint_st.config import override
from joint_st.decoding.decoders import Greedy
from joint_st.decoding.transcribe import listen, transcribe_files
from joint_st.errors import UserError
from joint_st.evaluation.compare import Side
from joint_st.evaluation.wer import ALL, total
from joint_st.runs.directory import RunDirectory
from joint_st.runs.trained import load_trained
from joint_st.training.step import draw_block
from tests.tiny import tiny_config, untrained_run

LENGTHS = (160, 0)


@pytest.fixture(scope="module")
def run(once, corpora):
    """A run of initial weights, whose layers may see 0 or 4 frames ahead."""
    changes = {"model.look_ahead_ms": LENGTHS, "data.units.kind": "characters", "model.audio_layers": 0}
    return once("look_ahead", lambda folder: untrained_run(tiny_config(corpora, changes), folder))


def test_a_stream_says_what_the_whole_does_and_tells_its_look_ahead(run, spoken, capsys):
    """With the first look-ahead that the run has, and with the other."""
    file = sorted(spoken.glob("*.wav"))[0]
    said = {}
    for length in (None, 0):
        *_, streaming, full = listen(run, file, look_ahead_ms=length, chunk_ms=320)
        err = capsys.readouterr().err
        assert f"in chunks of 320 ms, look-ahead {160 if length is None else 0} ms" in err
        said[length] = streaming.text, full.text
        whole = [
            text
            for head in ("streaming", "full_context")
            for _, text in transcribe_files(run, [file], head=head, look_ahead_ms=length)
        ]
        assert said[length] == tuple(whole)
    assert said[None] != said[0]


def test_a_look_ahead_is_one_that_the_run_was_trained_for(run, trained, capsys):
    ahead = load_trained(run, "latest")
    assert ahead.look_ahead_ms == 160 and ahead.with_look_ahead(160) is ahead.with_look_ahead(None) is ahead
    assert ahead.with_look_ahead(0).config.model.look_ahead_ms == (0, 160)
    assert ahead.with_look_ahead(80).config.model.blocks == (2, 4, 1)
    for length, why in ((320, "was trained with 160 ms at most"), (100, "multiple of a frame of the encoder, 40 ms")):
        with pytest.raises(UserError, match=f"--look-ahead-ms {length}: .*{why}"):
            ahead.with_look_ahead(length)
    assert main(["transcribe", str(trained), "x.wav", "--look-ahead-ms", "160"]) == 2
    assert main(["evaluate", str(trained), "--look-ahead-ms", "160"]) == 2
    err = capsys.readouterr().err
    assert f"--look-ahead-ms 160: {trained} was trained without look-ahead (model.look_ahead_ms)" in err


def test_evaluations_of_another_look_ahead_are_kept_apart(run, tmp_path, capsys):
    rows = {}
    for name, arguments in (("own", []), ("other", ["--look-ahead-ms", "0"])):
        file = tmp_path / f"{name}.json"
        assert main(["evaluate", str(run), "--checkpoint", "3", "--json", str(file), *arguments]) == 0
        rows[name] = json.loads(file.read_text())
    out = capsys.readouterr().out
    assert "look-ahead 160 ms" in out and "look-ahead 0 ms" in out
    assert {row["look_ahead_ms"] for row in rows["own"]} == {160}
    assert {row["look_ahead_ms"] for row in rows["other"]} == {0}
    tables = [RunDirectory(run).evaluation(3, ["test"], look_ahead_ms=length) for length in (None, 0)]
    assert [json.loads(table.read_text()) == rows[name] for table, name in zip(tables, rows)] == [True, True]
    # What is compared by default is of the run's own look-ahead, though the other's is newer.
    side = Side(run, "3")
    side.fill([("test", head, "greedy") for head in ("streaming", "full_context")], {}, [Greedy()])
    wer = {
        head: total(one.errors[ALL] for one in side.utterances["test", head, "greedy"]).wer
        for head in ("streaming", "full_context")
    }
    assert wer == {row["head"]: row["wer"] for row in rows["own"] if row["subset"] == "all"}
    assert "evaluated, since" not in capsys.readouterr().err


def test_each_step_draws_one_of_the_lengths(corpora):
    config = tiny_config(corpora)
    assert draw_block(config, jax.random.key(0)) is None
    several = override(config, {"model.look_ahead_ms": "0,160,320"})
    drawn = jax.vmap(lambda seed: draw_block(several, jax.random.key(seed)))(np.arange(600))
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [1, 4, 8] and counts.min() > 150


def test_lengths_are_whole_frames(corpora):
    config = tiny_config(corpora)
    assert override(config, {"model.look_ahead_ms": 320}).model.blocks == (8,)
    for wrong in (100, -40, "0,-0.5"):
        with pytest.raises(
            UserError, match="model.look_ahead_ms: .* must be 0 or a multiple of an encoder frame, 40 ms"
        ):
            override(config, {"model.look_ahead_ms": wrong})
    with pytest.raises(UserError, match="model.look_ahead_ms: names no length"):
        override(config, {"model.look_ahead_ms": []})
