"""`joint-st transcribe`: the text of files is the text that an evaluation finds in them."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import soundfile
import soxr

from joint_st.cli import main
from joint_st.config import ManifestSource
from joint_st.data.normalizers import normalizer
from joint_st.decoding.decoders import Beam, Greedy
from joint_st.evaluation.evaluate import evaluate_run


@pytest.fixture(scope="module")
def heard(trained, spoken, tmp_path_factory) -> dict[tuple[str, str], dict[str, str]]:
    """Hypotheses by decoder and head, and then by id."""
    lines = tmp_path_factory.mktemp("heard") / "lines.jsonl"
    run = shutil.copytree(trained, lines.with_name("run"))
    data = {"test": ManifestSource(path=str(spoken / "test.jsonl"))}
    evaluate_run(run, data=data, decoders=[Greedy(), Beam(beam=3)], jsonl_file=lines)
    found = {}
    for utterance in map(json.loads, lines.read_text().splitlines()):
        of_head = found.setdefault((utterance["decoder"], utterance["head"]), {})
        of_head[utterance["id"]] = utterance["hypothesis"]
    return found


def test_files_say_what_an_evaluation_heard(trained, spoken, heard, capsys):
    files = sorted(map(str, spoken.glob("*.wav")))
    assert len(files) == 8
    normalize = normalizer("english")
    for options, key in (
        ([], ("greedy", "full_context")),
        (["--head", "streaming"], ("greedy", "streaming")),
        (["--decoder", "beam", "--beam", "3"], ("beam 3", "full_context")),
    ):
        assert main(["transcribe", str(trained), *files, *options]) == 0
        lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
        assert [file for file, _ in lines] == files
        said = {file.split("/")[-1].removesuffix(".wav"): normalize(text) for file, text in lines}
        assert said == heard[key]
        assert any(said.values())


def test_other_rates_channels_and_lengths(trained, spoken, heard, tmp_path, capsys):
    """Stereo gives the same text, an empty file gives none, and a long file at another rate is read."""
    first = sorted(spoken.glob("*.wav"))[0]
    audio, rate = soundfile.read(first, dtype="int16")
    assert rate == 16_000
    soundfile.write(tmp_path / "stereo.wav", np.stack([audio, audio], axis=1), rate)
    soundfile.write(tmp_path / "empty.wav", audio[:0], rate)
    soundfile.write(tmp_path / "long.flac", soxr.resample(np.tile(audio, 4), rate, 44_100), 44_100)
    files = [str(tmp_path / name) for name in ("stereo.wav", "empty.wav", "long.flac")]
    assert main(["transcribe", str(trained), *files, "--checkpoint", "best"]) == 0
    stereo, empty, long = (line.split("\t")[1] for line in capsys.readouterr().out.splitlines())
    assert normalizer("english")(stereo) == heard["greedy", "full_context"][first.stem]
    assert empty == ""
    assert isinstance(long, str)


def test_one_file_is_printed_bare_and_a_broken_one_named(trained, spoken, tmp_path, capfdbinary):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF and no more")
    good = str(sorted(spoken.glob("*.wav"))[0])
    assert main(["transcribe", str(trained), good]) == 0
    alone = capfdbinary.readouterr().out
    assert alone.endswith(b"\n") and b"\t" not in alone
    # The rest goes on: a name in Latin-1 comes out in the bytes that it has.
    latin = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav")
    shutil.copy(good, latin)
    with pytest.raises(SystemExit) as exit:
        main(["transcribe", str(trained), str(broken), good, "none.wav", latin])
    assert exit.value.code == 1
    out, err = capfdbinary.readouterr()
    assert out == b"%s\t%s%s\t%s" % (good.encode(), alone, os.fsencode(latin), alone)
    told = [line.decode() for line in err.splitlines() if line.startswith(b"joint-st: ")]
    assert told[0].startswith(f"joint-st: not transcribed: {broken}: ")
    assert told[1:] == ["joint-st: not transcribed: none.wav: no such file"]
    assert main(["transcribe", str(trained), str(broken)]) == 2
    assert b"joint-st: error: %s: " % os.fsencode(broken) in capfdbinary.readouterr().err
