"""`joint-st align` of a small trained run, recomputed from the model's outputs for the utterances."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil

import jax
import numpy as np
import pytest
import soundfile
from flax import nnx
from rich.console import Console

from joint_st.cli import main
from joint_st.config import TfdsSource, UnitsConfig, override
from joint_st.data import scripts
from joint_st.data.normalizers import normalizer
from joint_st.data.sources import open_source
from joint_st.data.text_units import make_units
from joint_st.data.text_units.units import Spelling
from joint_st.data.utterance import Entry
from joint_st.heads.model import init_weights, model_structure
from joint_st.runs.trained import load_trained
from joint_st.word_times import aligner
from joint_st.word_times.aligner import Aligner
from joint_st.word_times.boundaries import make_rows, make_times_table
from joint_st.word_times.spans import Aligned, Failed
from joint_st.word_times.text import OnePair
from joint_st.word_times.writers import srt
from tests.ops.forced_alignment_reference import log_softmax, viterbi


@pytest.fixture(scope="module")
def model(trained):
    return load_trained(trained)


def read_lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def expected_words(labels, text, log_probs, frame_s, seconds) -> list[tuple]:
    """(word, start, end, confidence) by the slow Viterbi, of a tokenizer of characters, and the path's score."""
    path, score = viterbi(log_probs, labels)
    words, first = [], 0
    for word in text.split():
        frames = [t for t, n in enumerate(path) if first <= n < first + len(word)]
        start, end = frames[0] * frame_s, (frames[-1] + 1) * frame_s
        confidence = np.mean([np.exp(log_probs[t, labels[path[t]]]) for t in frames])
        words.append((word, start, min(end, seconds), confidence))
        first += len(word) + 1
    return words, score / len(path)


@pytest.fixture
def damaged(corpora, spoken, tmp_path) -> tuple:
    """A manifest of the test split with its word times, of which some utterances cannot be aligned.

    The manifest, what is wrong with each of those by id, and the utterances left.
    """
    corpus = open_source(TfdsSource(name="spoken_grammar/tiny", split="test", data_dir=str(corpora)))
    folder = shutil.copytree(spoken, tmp_path / "spoken")
    lines = read_lines((folder / "test.jsonl").read_text())
    for line, one in zip(lines, map(corpus.__getitem__, range(len(corpus)))):
        assert line["id"] == one.id
        line["word_starts"], line["word_ends"] = (times.tolist() for times in one.word_times)
    files = [folder / line["audio_filepath"] for line in lines]
    files[0].unlink()
    files[1].write_bytes(b"RIFF and no more")
    soundfile.write(files[2], np.zeros(0, np.int16), 16_000)
    for line in lines[1:3]:
        line.pop("duration"), line.pop("word_starts"), line.pop("word_ends")
    lines[3]["text"] = " "
    lines[4]["text"] = " ".join([lines[4]["text"]] * 9)
    (folder / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    why = ("no such file", f"{files[1]}: ", "0.00 s have 0", "its text is empty", "its text cannot fit its audio: ")
    return folder / "test.jsonl", dict(zip((line["id"] for line in lines), why)), [corpus[i] for i in (5, 6, 7)]


def test_times_errors_and_what_cannot_be_aligned(model, trained, damaged, tmp_path, capsys):
    """Times come from the likeliest path, errors are differences from the true ones; failures are reported, and the
    rest is aligned."""
    manifest, failing, utterances = damaged
    file = tmp_path / "times.jsonl"
    with pytest.raises(SystemExit) as exit:
        main(["align", str(trained), "--data", f"some={manifest}", "--head", "streaming", "--output", str(file)])
    assert exit.value.code == 1
    table, told = capsys.readouterr()
    told = [line for line in told.splitlines() if line.startswith("joint-st: not aligned: ")]
    assert len(told) == len(failing)
    for line, (id, why) in zip(told, failing.items()):
        assert line.startswith(f"joint-st: not aligned: {id}: ") and why in line
    records = read_lines(file.read_text())
    assert [record["id"] for record in records] == [one.id for one in utterances], "in the order of the corpus"

    frame = model.config.model.features.samples_per_frame
    longest = -(-max(len(one.audio) for one in utterances) // frame) * frame
    audio = np.zeros((len(utterances), longest), np.int16)
    for row, one in zip(audio, utterances):
        row[: len(one.audio)] = one.audio
    lengths = np.array([len(one.audio) for one in utterances], np.int32)
    structure = model_structure(model.config, model.symbols.sizes)

    @jax.jit
    def streaming(*rows):
        joint = nnx.merge(structure, model.weights)
        return joint.head("streaming")(joint(*rows).streaming)

    logits = streaming(audio, lengths)
    errors = []
    for record, one, own in zip(records, utterances, np.asarray(logits)):
        text, seconds = model.normalizer(one.text), len(one.audio) / 16_000
        assert (record["text"], record["head"]) == (text, "streaming")
        assert record["seconds"] == pytest.approx(seconds, abs=1e-6)
        log_probs = log_softmax(own[: -(-len(one.audio) // frame)])
        words, score = expected_words(model.tokenizer.encode(text), text, log_probs, frame / 16_000, seconds)
        assert record["log_prob"] == pytest.approx(score, rel=1e-4)
        assert [word["word"] for word in record["words"]] == [word[0] for word in words]
        for word, expected in zip(record["words"], words):
            assert [word["start"], word["end"]] == pytest.approx(expected[1:3], abs=1e-5)
            assert word["confidence"] == pytest.approx(expected[3], rel=1e-3)
        errors.append(np.array([word[1:3] for word in words]) - np.stack(one.word_times, axis=1))
    late = 1000 * np.concatenate(errors)
    off = np.abs(late)
    [row] = [line.split() for line in table.splitlines() if line.split()[:1] == ["some"]]
    assert row[:5] == ["some", "streaming", "3", "5", str(len(late))]
    expected = [off[:, 0].mean(), off[:, 1].mean(), off.mean(), late.mean()]
    assert [float(x) for x in row[6:]] == pytest.approx(expected, abs=0.51)


def test_two_utterances_for_one_file_are_refused_before_any_is_aligned(trained, spoken, tmp_path, monkeypatch, capsys):
    lines = read_lines((spoken / "test.jsonl").read_text())[:2]
    for line, id in zip(lines, ("a/b", "a_b"), strict=True):
        line |= {"audio_filepath": str(spoken / line["audio_filepath"]), "id": id}
    (tmp_path / "two.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def fail(*_):
        raise AssertionError("aligned")

    monkeypatch.setattr("joint_st.word_times.align.aligners", lambda *_: [fail])
    command = ["align", str(trained), "--data", f"two={tmp_path / 'two.jsonl'}", "--format", "srt"]
    assert main([*command, "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path}/out/a_b.srt: would be the file of both 'a/b' and 'a_b'; give the utterances other ids" in error


def test_what_failed_is_counted_where_nothing_was_aligned():
    [row] = make_rows("test", [Failed("a", "it has no audio"), Failed("b", "it has no audio")])
    assert (row["split"], row["head"], row["utterances"], row["failed"], row["words"]) == ("test", "", 0, 2, 0)
    assert row["confidence"] is row["boundary_ms"] is None
    [cells] = list(zip(*(column.cells for column in make_times_table([row], "title").columns)))
    assert cells == ("test", "", "0", "2", "0", "-", "-", "-", "-", "-")
    assert make_rows("test", []) == []


def test_a_long_split_does_not_break_the_name_of_the_head_in_a_narrow_terminal():
    errors = {"start_ms": 1103.0, "end_ms": 112.0, "boundary_ms": 108.0, "late_ms": -66.0}
    row = {"split": "librispeech_test_clean", "head": "full_context", "utterances": 2620, "failed": 0, "words": 52576}
    console = Console(width=80)
    with console.capture() as capture:
        console.print(make_times_table([row | {"confidence": 0.912} | errors], "forced alignment"))
    printed = capture.get()
    cells = ["full_context", "2620", "0", "52576", "0.912", "1103", "112", "108", "-66"]
    assert cells in [line.split()[1:] for line in printed.splitlines()], printed


def test_a_file_and_its_text(trained, spoken, capsys, tmp_path):
    line = read_lines((spoken / "test.jsonl").read_text())[0]
    audio, text = spoken / line["audio_filepath"], tmp_path / "said.txt"
    text.write_text(line["text"].upper() + ".\n")
    assert main(["align", str(trained), str(audio), str(text)]) == 0
    [record] = read_lines(capsys.readouterr().out)
    assert (record["id"], record["text"]) == (line["id"], normalizer("english")(line["text"]))
    latin = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav")
    shutil.copy(audio, latin)
    assert main(["align", str(trained), latin, str(text)]) == 0
    assert read_lines(capsys.readouterr().out) == [record | {"id": "caf\\xe9"}]
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF and no more")
    for arguments, message in (([broken, "a"], f"{broken}: "), ([audio, ""], f"{audio}: its text is empty")):
        assert main(["align", str(trained), *map(str, arguments)]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1) and err.startswith(f"joint-st: error: {message}")


def test_units_come_from_their_own_head_and_long_audio_is_heard_in_windows(model, spoken, monkeypatch, tmp_path):
    """With windows whose context covers what the causal layers see, the times are those of the whole.

    The level of the features is off, because it is a mean over all that came before.
    """
    changes = {"data.units.kind": "characters", "losses.unit_ctc.weight": 0.5}
    changes |= {"model.features.level": "none", "model.features.floor_db": 0}
    config = override(model.config, changes)
    symbols = dataclasses.replace(model.symbols, units=Spelling(model.tokenizer))
    weights = jax.jit(lambda: init_weights(config, symbols.sizes, 0))()
    joint = dataclasses.replace(model, config=config, symbols=symbols, weights=weights)
    two = read_lines((spoken / "test.jsonl").read_text())[:2]
    audio = np.concatenate([soundfile.read(spoken / line["audio_filepath"], dtype="int16")[0] for line in two])
    soundfile.write(tmp_path / "both.wav", audio, 16_000)
    corpus = OnePair(tmp_path / "both.wav", " ".join(line["text"] for line in two))
    [whole] = Aligner(joint, "streaming")(corpus)
    assert isinstance(whole, Aligned)
    assert "".join(unit.text for unit in whole.units) == whole.text.replace(" ", "")
    assert [unit.word for unit in whole.units] == [n for n, word in enumerate(whole.text.split()) for _ in word]
    times = [t for unit in whole.units for t in (unit.start, unit.end)]
    assert times == sorted(times) and 0 <= times[0] < times[-1] <= whole.seconds
    rows = make_rows("one", [whole])
    count = len(whole.words)
    assert [(row["head"], row["words"]) for row in rows] == [("streaming", count), ("units", count)]
    assert all(row["boundary_ms"] is None for row in rows)

    # As text of a script without spaces, it has times of each character; a unit belongs to the first of its stretch.
    with monkeypatch.context() as patch:
        patch.setattr(scripts, "_UNSPACED", re.compile("[a-z]"))
        [spelled] = Aligner(joint, "streaming")(corpus)
        assert [row["words"] for row in make_rows("one", [spelled])] == [len(spelled.words), count]
    assert [span.text for span in spelled.words] == [*whole.text.replace(" ", "")]
    first = [n for n, span in enumerate(spelled.words) if not span.joined]
    last = [n - 1 for n in [*first[1:], len(spelled.words)]]
    starts, ends = ([getattr(spelled.words[n], name) for n in own] for own, name in ((first, "start"), (last, "end")))
    assert (starts, ends) == ([span.start for span in whole.words], [span.end for span in whole.words])
    assert [unit.word for unit in spelled.units] == [first[unit.word] for unit in whole.units]
    assert srt(spelled).splitlines()[2] == srt(whole).splitlines()[2]

    # Two causal layers of 16 frames' left context see 1.5 s with their convolutions and the front end.
    monkeypatch.setattr(aligner, "CONTEXT_SECONDS", 1.6)
    monkeypatch.setattr(aligner, "WINDOW_SECONDS", 3.6)
    assert whole.seconds > aligner.WINDOW_SECONDS
    [pieces] = Aligner(joint, "streaming")(corpus)
    assert pieces.log_prob == pytest.approx(whole.log_prob, rel=1e-5)
    for spans, others in ((whole.words, pieces.words), (whole.units, pieces.units)):
        assert [(s.text, s.start, s.end) for s in others] == [(s.text, s.start, s.end) for s in spans]


def test_an_utterance_of_a_language_without_phonemes_is_left_out_alone(model):
    """This concerns runs that recognise phonemes; a language may be an English name or a code of three letters."""

    class Entries:
        languages = ("", "English", "Klingon", "zh-CN", "eng")

        def __len__(self):
            return len(self.languages)

        def entry(self, i):
            return Entry(id=f"u{i}", seconds=1.0, text="a name", has_audio=True, language=self.languages[i])

    own, failed = Aligner(model, "full_context"), {}
    own._units = make_units(UnitsConfig(kind="phonemes"), [("a name", "en")])
    jobs = own._jobs(Entries(), failed)
    assert [job.id for job in jobs] == ["u0", "u1", "u4"]
    assert len({job.units.tobytes() for job in jobs}) == 1 and len(jobs[0].units) > 4
    assert [one.why.partition(", perhaps")[0] for one in failed.values()] == [
        "a language of the data: espeak-ng has no language 'Klingon'",
        "a language of the data: espeak-ng has no right phonemes of Mandarin (zh-CN): tones 1 and 4 are the same",
    ]
