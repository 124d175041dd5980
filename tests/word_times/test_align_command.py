"""What `joint-st align` compares, leaves out, says, and keeps when it is ended."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import signal
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from joint_st import storage
from joint_st.cli import main
from joint_st.config import ManifestSource, UnitsConfig
from joint_st.data.text_units import make_units
from joint_st.data.utterance import Entry
from joint_st.runs.trained import load_trained
from joint_st.word_times import aligner
from joint_st.word_times.align import align_split
from joint_st.word_times.aligner import Aligner
from joint_st.word_times.spans import Aligned, Span


@pytest.fixture(scope="module")
def model(trained):
    return load_trained(trained)


def read_lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_boundaries_whose_true_times_are_unknown_are_left_out_and_counted(trained, spoken, tmp_path, capsys):
    """A text with a dash and a hyphen has the boundaries of the same words without them, but for that in the hyphen."""
    line = read_lines((spoken / "test.jsonl").read_text())[0]
    words = line["text"].split()
    edges = np.linspace(0, line["duration"], len(words) + 1).round(3).tolist()
    starts, ends = edges[:-1], edges[1:]
    line |= {"audio_filepath": str(spoken / line["audio_filepath"])}
    joined = " ".join([words[0], "–", f"{words[1]}-{words[2]}", *words[3:]])
    lines = [
        line | {"id": "plain", "word_starts": starts, "word_ends": ends},
        line
        | {"id": "joined", "text": joined}
        | {"word_starts": [starts[0], ends[0], starts[1], *starts[3:]], "word_ends": [ends[0], ends[0], *ends[2:]]},
        line | {"id": "short", "word_starts": starts[1:], "word_ends": ends[1:]},
    ]
    rows = []
    for one in lines:
        (tmp_path / "one.jsonl").write_text(json.dumps(one) + "\n")
        source = ManifestSource(path=str(tmp_path / "one.jsonl"))
        (row, *_), failed = align_split(trained, "one", source, output=tmp_path / "times.jsonl")
        assert not failed
        rows.append((row["boundary_ms"], capsys.readouterr().err))
    (plain, quiet), (known, also), (none, told) = rows
    [record] = read_lines((tmp_path / "times.jsonl").read_text())
    found = np.array([[word["start"], word["end"]] for word in record["words"]])
    errors = 1000 * np.abs(found - np.stack([starts, ends], axis=1))
    assert plain == pytest.approx(errors.mean(), abs=0.01) and none is None
    errors[1, 1] = errors[2, 0] = np.nan
    assert known == pytest.approx(np.nanmean(errors), abs=0.01)
    assert "not compared" not in quiet + also
    assert "joint-st: one: the word times of 1 of 1 utterances are not compared: " in told


@pytest.fixture
def of_one_word(monkeypatch):
    """A function that makes `align` find one word in each utterance; `after` is called after the first."""

    def patch(after=lambda: None):
        def align(corpus, results, name):
            for i in range(len(corpus)):
                word = (Span("word", 0.0, 0.5, 0.25, 0),)
                results[i] = Aligned(corpus.entry(i).id, 1.0, "word", "full_context", -1.0, word, word)
                after()

        monkeypatch.setattr(
            "joint_st.word_times.align.aligners", lambda *_: [SimpleNamespace(align=align, unknown_units=Counter())]
        )

    return patch


@pytest.mark.parametrize("sent, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_is_found_until_a_signal_is_written(trained, spoken, tmp_path, capsys, of_one_word, sent, status):
    of_one_word(lambda: os.kill(os.getpid(), sent))
    file, rows = tmp_path / "new" / "times.jsonl", tmp_path / "rows.json"
    command = ["align", str(trained), "--data", f"some={spoken / 'test.jsonl'}", "--output", str(file)]
    command += ["--json", str(rows)]
    before = signal.getsignal(signal.SIGTERM)
    if sent == signal.SIGINT:
        assert main(command) == status
    else:
        with pytest.raises(SystemExit) as exit:
            main(command)
        assert exit.value.code == status
    assert signal.getsignal(signal.SIGTERM) is before
    first = read_lines((spoken / "test.jsonl").read_text())[0]
    assert [record["id"] for record in read_lines(file.read_text())] == [first["id"]]
    out, err = capsys.readouterr()
    assert ["some", "full_context", "1", "0", "1", "0.250"] in [line.split()[:6] for line in out.splitlines()]
    assert "joint-st: some: 1 of 8 utterances were aligned until then" in err
    [row] = json.loads(rows.read_text())
    counts = {"split": "some", "head": "full_context", "utterances": 1, "failed": 0, "words": 1, "confidence": 0.25}
    assert row == counts | dict.fromkeys(("start_ms", "end_ms", "boundary_ms", "late_ms"))


def test_a_folder_that_cannot_be_made_is_told_before_the_work(trained, spoken, tmp_path, capsys, of_one_word):
    of_one_word(lambda: pytest.fail("aligned"))
    (tmp_path / "file").touch()
    command = ["align", str(trained), "--data", f"some={spoken / 'test.jsonl'}", "--output"]
    assert main([*command, str(tmp_path / "file" / "grids"), "--format", "textgrid"]) == 2
    assert f"{tmp_path / 'file' / 'grids'}: cannot be written into: Not a directory" in capsys.readouterr().err


@pytest.mark.parametrize("form, output", [("textgrid", "grids"), ("json", "times.jsonl")])
def test_on_a_full_disk_alignments_are_kept_elsewhere_and_the_table_is_printed(
    trained, spoken, tmp_path, capsys, monkeypatch, of_one_word, form, output
):
    of_one_word()
    whole, full = storage.write_whole, tmp_path / "full"

    def write(path, content):
        if path.is_relative_to(full):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        whole(path, content)

    monkeypatch.setattr(storage, "write_whole", write)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    command = ["align", str(trained), "--data", f"some={spoken / 'test.jsonl'}", "--format", form]
    assert main([*command, "--output", str(full / output)]) == 2
    out, err = capsys.readouterr()
    assert "full_context" in out
    there = re.search(r"could not be written: No space left on device; it was written to (.*)", err)[1]
    kept = sorted(Path(there).iterdir()) if form == "textgrid" else read_lines(Path(there).read_text())
    assert len(kept) == 8


def test_a_text_is_aligned_with_the_phonemes_of_its_language(model, trained, spoken, monkeypatch, capsys, tmp_path):
    """The run's phonemes are those of one English word; German ones that it lacks are told once, and are unknown."""
    line = read_lines((spoken / "test.jsonl").read_text())[0]
    audio, output = str(spoken / line["audio_filepath"]), str(tmp_path / "times.jsonl")
    units = make_units(UnitsConfig(kind="phonemes"), [("kick", "en")])
    seen = []

    def align(self, corpus, results, name):
        for job in self._jobs(corpus, results):
            seen.append((job.language, job.units.tolist()))
            results[job.row] = Aligned(job.id, 1.0, job.text, "full_context", -1.0, (), ())

    monkeypatch.setattr(Aligner, "align", align)
    monkeypatch.setattr(Aligner, "__init__", lambda self, *_: vars(self).update(of_phonemes(model, units)))
    symbols = dataclasses.replace(model.symbols, languages=("", "de", "en"))
    loaded = dataclasses.replace(model, symbols=symbols)
    monkeypatch.setattr("joint_st.word_times.align.load_trained", lambda *_: loaded)
    command = ["align", str(trained), audio, "ich", "--output", output]
    assert main([*command, "--language", "de"]) == 0
    told = capsys.readouterr().err
    assert main(command) == 0
    default = capsys.readouterr().err
    german, english = (np.array(ids) for _, ids in seen)
    assert [language for language, _ in seen] == ["de", ""] and german.tolist() != english.tolist()
    assert "ç" not in units.symbols and (german == 1).any()
    assert "not among the run's units, <unk> in the alignment: " in told and "'ç' 1" in told
    assert "joint-st: phonemes of en-us; the run also knows de, en (--language TAG)\n" in default
    assert "run also knows" not in told
    assert main([*command[:2], "--data", "a=b.jsonl", "--language", "de"]) == 2
    assert "--language: the source of --data states languages" in capsys.readouterr().err


def of_phonemes(model, units):
    return {
        "_trained": model,
        "_features": model.config.model.features,
        "_units": units,
        "unknown_units": Counter(),
    }


def test_a_recording_that_takes_too_much_memory_is_left_out_alone(model, monkeypatch):
    class Entries:
        def __len__(self):
            return 2

        def entry(self, i):
            return Entry(
                id=f"u{i}", seconds=(60.0, 3600.0)[i], text="ten " * (20, 12_500)[i], has_audio=True, channel=2
            )

    failed = {}
    assert [(job.id, job.channel) for job in Aligner(model)._jobs(Entries(), failed)] == [("u0", 2)]
    frames = model.config.model.features.frames(3600 * 16_000)
    needed = frames * 50_000 / 2**30
    assert needed > 4
    assert failed[1].why == (
        f"3600 s with 49999 labels take {needed:.1f} GiB to align, more than 4; cut it into parts with texts of their own "
        "(manifest keys offset and duration)"
    )
    monkeypatch.setattr(aligner, "MOST_PATH_BYTES", frames * 50_000)
    assert [job.id for job in Aligner(model)._jobs(Entries(), {})] == ["u0", "u1"]
