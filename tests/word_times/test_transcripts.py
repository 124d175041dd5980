"""`joint-st transcribe` with times: the text is what it prints without them, the rest is recomputed from the logits."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import soundfile

from joint_st.cli import main
from joint_st.data.tokenizers import Characters
from joint_st.decoding import transcribe
from joint_st.decoding.timed import Alternative, TimedLabels
from joint_st.heads.model import model_structure
from joint_st.models.functional import merge
from joint_st.runs.directory import RunDirectory
from joint_st.runs.temperatures import Temperature, read_temperatures, store_temperatures
from joint_st.runs.trained import load_trained
from joint_st.word_times import transcripts
from joint_st.word_times.spans import Span
from joint_st.word_times.transcripts import Words, ids_of
from joint_st.word_times.writers import ctm, cues, srt, vtt
from tests.ops.forced_alignment_reference import log_softmax, viterbi


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    return shutil.copytree(trained, tmp_path_factory.mktemp("transcripts") / "run")


@pytest.fixture(scope="module")
def model(run):
    """A hardly trained model, changed to emit more labels: its heads give fewer blanks."""
    model = load_trained(run)
    weights = jax.tree.map(lambda x: x, model.weights)
    for head in ("streaming_head", "full_context_head"):
        weights[head]["linear"]["bias"] = weights[head]["linear"]["bias"].at[0].add(-3.0)
    return dataclasses.replace(model, weights=weights)


@pytest.fixture(autouse=True)
def loaded(model, monkeypatch):
    """Make commands load the model that emits more labels."""
    for module in (transcribe, transcripts):
        monkeypatch.setattr(
            module, "load_trained", lambda run, *_: dataclasses.replace(model, run=RunDirectory(Path(run)))
        )


@pytest.fixture(scope="module")
def files(spoken):
    return sorted(spoken.glob("*.wav"))[:3]


def said(capsys, *arguments) -> list[str]:
    assert main(["transcribe", *map(str, arguments)]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.fixture
def log_probs(model, files):
    """Log probabilities of the full-context head, [T, V] of each file."""
    audios = [soundfile.read(file, dtype="int16")[0] for file in files]
    features = model.config.model.features
    longest = -(-max(map(len, audios)) // features.samples_per_frame) * features.samples_per_frame
    audio = np.zeros((len(files), longest), np.int16)
    for row, own in zip(audio, audios):
        row[: len(own)] = own
    joint = merge(model_structure(model.config, model.symbols.sizes), model.weights)
    encoded = jax.jit(lambda model, *batch: model(*batch).full_context)(joint, audio, np.array([*map(len, audios)]))
    logits = np.asarray(joint.head("full_context")(encoded))
    return [log_softmax(own[: features.frames(len(audio))]) for own, audio in zip(logits, audios)]


def test_json_has_words_times_confidences_and_the_list(run, model, files, log_probs, capsys, tmp_path):
    text = [line.split("\t")[1] for line in said(capsys, run, *files)]
    assert main(["transcribe", str(run), *map(str, files), "--format", "json", "--nbest", "3"]) == 0
    out, told = capsys.readouterr()
    assert told == (
        f"confidences: not calibrated for full_context, greedy, step {model.step}; "
        f"`joint-st evaluate {run} --calibrate` does that\n"
    )
    records = [json.loads(line) for line in out.splitlines()]
    assert [one["text"] for one in records] == text and any(text)
    frame = model.config.model.features.frame_seconds
    for file, one, own in zip(files, records, log_probs):
        assert (one["id"], one["audio_filepath"]) == (file.stem, str(file))
        assert one["duration"] == pytest.approx(soundfile.info(file).duration, abs=1e-6)
        assert (one["head"], one["decoder"], one["temperature"]) == ("full_context", "greedy", None)
        assert one["language"] == "en", "the corpus is of en-US and en-GB"
        [best] = one["nbest"]
        assert best["text"] == one["text"] and best["score"] == pytest.approx(own.max(axis=1).sum(), abs=1e-2)
        assert [word["word"] for word in one["words"]] == one["text"].split()
        labels = [label for label, _ in itertools.groupby(own.argmax(axis=1)) if label]
        if not len(labels):
            continue
        # A tokenizer of characters: a label a character, among them spaces that the text does not show.
        spelled = "".join(("", "\u2047", *model.tokenizer.characters)[label] for label in labels)
        assert " ".join(spelled.split()) == one["text"]
        path, _ = viterbi(own, labels)
        first = 0
        for word in one["words"]:
            first += spelled[first:].index(word["word"])
            at = [np.flatnonzero(np.asarray(path) == n) for n in range(first, first + len(word["word"]))]
            peaks = [np.exp(own[frames, labels[n]]).max() for n, frames in enumerate(at, first)]
            assert word["confidence"] == pytest.approx(np.prod(peaks), rel=1e-3, abs=1e-6)
            assert word["start"] == pytest.approx(at[0][0] * frame, abs=1e-5)
            assert word["end"] == pytest.approx(min((at[-1][-1] + 1) * frame, one["duration"]), abs=1e-5)
            first += len(word["word"])

    # Its lines are a manifest: pseudo labels to train on.
    line = records[0] | {"audio_filepath": str(files[0])}
    (tmp_path / "pseudo.jsonl").write_text(json.dumps(line) + "\n")
    from joint_st.config import ManifestSource
    from joint_st.data.sources import open_source

    entry = open_source(ManifestSource(path=str(tmp_path / "pseudo.jsonl"))).entry(0)
    assert (entry.id, entry.text) == (files[0].stem, text[0])


def test_transcripts_until_sigterm_are_written(run, files, tmp_path, monkeypatch, capsys):
    decode = transcripts.decode_files

    def two(*arguments, **options):
        found = decode(*arguments, **options)
        yield next(found)
        os.kill(os.getpid(), signal.SIGTERM)
        yield next(found)

    monkeypatch.setattr(transcripts, "decode_files", two)
    command = ["transcribe", str(run), *map(str, files), "--format", "json", "--output", str(tmp_path / "o.jsonl")]
    with pytest.raises(SystemExit) as exit:
        main(command)
    assert exit.value.code == 143
    [one] = map(json.loads, (tmp_path / "o.jsonl").read_text().splitlines())
    assert one["id"] == files[0].stem
    assert "joint-st: ended by SIGTERM\njoint-st: 1 of 3 files were transcribed until then\n" in capsys.readouterr().err
    monkeypatch.setattr(transcripts, "decode_files", lambda *_, **__: pytest.fail("decoded"))
    assert main([*command[:-1], str(tmp_path / "o.jsonl" / "new.jsonl")]) == 2
    assert f"{tmp_path / 'o.jsonl'}: cannot be written into: " in capsys.readouterr().err


def test_a_beam_lists_texts_with_scores(run, files, capsys):
    options = ["--decoder", "beam", "--beam", "4", "--head", "streaming"]
    plain = [line.split("\t")[1] for line in said(capsys, run, *files, *options)]
    records = [json.loads(line) for line in said(capsys, run, *files, *options, "--format", "json", "--nbest", "4")]
    assert [one["text"] for one in records] == plain
    for one in records:
        texts, scores = zip(*((best["text"], best["score"]) for best in one["nbest"]))
        assert texts[0] == one["text"] and len(set(texts)) == len(texts) > 1
        assert list(scores) == sorted(scores, reverse=True)
        assert (one["head"], one["decoder"]) == ("streaming", "beam 4")
    # In windows, too; short files are whole in theirs.
    windows = said(capsys, run, *files, *options, "--format", "json", "--nbest", "4", "--window-seconds", "60")
    assert list(map(json.loads, windows)) == records


def test_other_formats_have_the_words_of_json(run, files, capsys, tmp_path):
    records = [json.loads(line) for line in said(capsys, run, *files, "--format", "json")]
    rows = [line.split() for line in said(capsys, run, *files, "--format", "ctm")]
    expected = [(one["id"], word) for one in records for word in one["words"]]
    assert len(rows) == len(expected) > 0
    for row, (id, word) in zip(rows, expected):
        assert (row[0], row[1], row[4]) == (id, "1", word["word"])
        times = float(row[2]), float(row[2]) + float(row[3]), float(row[5])
        assert times == pytest.approx((word["start"], word["end"], word["confidence"]), abs=2e-3)
    for form in ("srt", "vtt", "textgrid"):
        assert main(["transcribe", str(run), *map(str, files), "--format", form, "--output", str(tmp_path / form)]) == 0
        written = sorted((tmp_path / form).iterdir())
        assert [path.stem for path in written] == [file.stem for file in files]
        for path, one in zip(written, records):
            found = re.sub("<[^>]*>", "", path.read_text())
            assert all(word["word"] in found for word in one["words"])
    capsys.readouterr()
    target = tmp_path / "heard.jsonl"
    assert main(["transcribe", str(run), *map(str, files), "--format", "json", "--output", str(target)]) == 0
    assert [json.loads(line) for line in target.read_text().splitlines()] == records
    assert capsys.readouterr().out == ""


def test_what_is_heard_beside_a_broken_file_is_written(run, files, capsys, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF and no more")
    target = tmp_path / "heard.jsonl"
    some = [str(files[0]), str(broken), str(files[1])]
    with pytest.raises(SystemExit) as exit:
        main(["transcribe", str(run), *some, "--format", "json", "--output", str(target)])
    assert exit.value.code == 1
    assert [json.loads(line)["id"] for line in target.read_text().splitlines()] == [files[0].stem, files[1].stem]
    assert str(broken) in capsys.readouterr().err


def test_long_recordings_and_streams_have_times_of_the_whole(run, files, capsys, tmp_path):
    audio = np.concatenate([soundfile.read(file, dtype="int16")[0] for file in files])
    path = tmp_path / "long.wav"
    soundfile.write(path, audio, 16_000)
    windows = ["--window-seconds", "3"]
    [text] = said(capsys, run, path, *windows)
    [line] = said(capsys, run, path, *windows, "--format", "json")
    one = json.loads(line)
    assert one["text"] == text and one["duration"] == pytest.approx(len(audio) / 16_000, abs=1e-5) and one["words"]
    times = [time for word in one["words"] for time in (word["start"], word["end"])]
    assert times == sorted(times) and times[-1] <= one["duration"]
    assert times[-1] > 3, "words behind the first window"

    *partial, last = map(json.loads, said(capsys, run, files[0], "--stream", "--format", "json"))
    [whole] = map(json.loads, said(capsys, run, files[0], "--format", "json"))
    assert last["text"] == whole["text"] and last["duration"] == whole["duration"]
    assert [word["word"] for word in last["words"]] == [word["word"] for word in whole["words"]]
    for word, other in zip(last["words"], whole["words"]):
        assert list(word.values())[1:] == pytest.approx(list(other.values())[1:], abs=1e-3)
    assert all(set(one) == {"seconds", "head", "text"} and one["head"] == "streaming" for one in partial)


def test_a_temperature_of_the_run_is_used_and_said(run, model, files, capsys):
    run = shutil.copytree(run, run.with_name("calibrated"))
    [plain] = map(json.loads, said(capsys, run, files[0], "--format", "json"))
    directory = RunDirectory(run)
    mine = Temperature(model.step, "full_context", "greedy", "greedy", 2.0, "half of dev", 100)
    store_temperatures(directory, [Temperature(model.step, "full_context", "greedy", "greedy", 9.0, "older", 1)])
    others = [
        Temperature(model.step, "streaming", "greedy", "greedy", 3.0, "half of dev", 1),
        Temperature(model.step + 1, "full_context", "greedy", "greedy", 3.0, "half of dev", 1),
        Temperature(model.step, "full_context", "greedy", "other", 3.0, "half of dev", 1),
    ]
    store_temperatures(directory, [mine, *others])
    assert len(read_temperatures(directory)) == 4
    assert main(["transcribe", str(run), str(files[0]), "--format", "json"]) == 0
    out, told = capsys.readouterr()
    one = json.loads(out)
    assert f"temperature 2 of full_context, greedy, step {model.step}, fitted on half of dev" in told
    assert one["temperature"] == 2.0 and one["text"] == plain["text"] and one["words"]
    for word, before in zip(one["words"], plain["words"]):
        assert word["confidence"] == pytest.approx(before["confidence"] ** 0.5, abs=1e-3)
    odd = directory.calibration.read_text().replace(f'"step": {model.step}', '"step": []')
    for damage in (
        "[{",
        odd,
        "[" * 100_000,
        '[{"step": 1}]',
        '{"a": 1}',
        directory.calibration.read_text().replace("2.0", "-1"),
    ):
        directory.calibration.write_text(damage)
        assert main(["transcribe", str(run), str(files[0]), "--format", "json"]) == 2
        error = capsys.readouterr().err
        assert f"{directory.calibration}: damaged" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "options, what",
    [
        (["--nbest", "3"], "--nbest: needs another format than text"),
        (["--output", "x"], "--output: needs another format than text"),
        (["--format", "srt", "--nbest", "3"], "--nbest: --format srt has no place for a list"),
        (["--format", "json", "--decoder", "beam", "--nbest", "17"], "--nbest 17: the beam keeps 16 hypotheses"),
        (["--format", "json", "--nbest", "0"], "--nbest"),
        (["--format", "srt", "--stream"], "--format srt: --stream prints as the audio comes"),
        (["--format", "json", "--stream", "--nbest", "2"], "--nbest: --stream decodes greedily"),
        (["--format", "json", "--stream", "--output", "x"], "--output: --stream prints"),
        (["--format", "doc"], "invalid choice: 'doc'"),
    ],
)
def test_mistakes_are_one_line(run, files, capsys, options, what):
    assert main(["transcribe", str(run), str(files[0]), *options]) == 2
    error = capsys.readouterr().err
    assert what in error and error.count("\n") == 1


def test_several_subtitles_need_a_folder(run, files, capsys):
    assert main(["transcribe", str(run), *map(str, files), "--format", "vtt"]) == 2
    assert "--output" in capsys.readouterr().err


def test_two_files_with_one_output_are_refused_before_any_is_decoded(run, files, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise AssertionError("decoded")

    monkeypatch.setattr("joint_st.word_times.transcripts.decode_files", fail)
    twice, out = [str(files[0])] * 2, tmp_path / "out"
    assert main(["transcribe", str(run), *twice, "--format", "srt", "--output", str(out)]) == 2
    name = files[0].stem
    assert f"{out}/{name}.srt: would be the file of both '{name}' and '{name}'" in capsys.readouterr().err


def test_files_of_one_name_have_their_paths_as_ids(tmp_path):
    one, two, three = tmp_path / "a/x.wav", tmp_path / "b/x.flac", tmp_path / "y.wav"
    assert ids_of([one, two, three, three]) == {one: str(one), two: str(two), three: "y"}


def test_a_text_without_spaces_has_times_confidences_and_subtitles_by_character():
    letters = "".join(chr(0x4E00 + n) for n in range(100))
    tokenizer, text = Characters(" " + letters), letters * 3
    labels = tokenizer.encode(text)
    starts = 5 * np.arange(len(labels))
    # Three characters a second, and a silence of two seconds after 150 of them.
    starts[150:] += 30
    found = TimedLabels(labels, starts, starts + 3, np.full(len(labels), 0.9), ())
    words = Words(SimpleNamespace(labels=tokenizer), 1 / 15)
    spans = words.spans(found, 110.0)
    assert [span.text for span in spans] == [*text] and [span.joined for span in spans] == [False] + [True] * 299
    assert [span.confidence for span in spans] == pytest.approx([0.9] * 300)
    assert [span.start for span in spans] == pytest.approx(starts / 15)
    found = list(cues(spans))
    assert [span for cue in found for span in cue] == list(spans) and found[8][0].word < 150
    assert max(len(cue) for cue in found) == 18 and max(cue[-1].end - cue[0].start for cue in found) <= 6
    assert {cue[0].word for cue in found} >= {0, 18, 150}
    one = SimpleNamespace(id="x", channel=1, written=spans, words=spans)
    lines = srt(one).splitlines()[2::4]
    assert "".join(lines) == text
    shown = [re.sub("<[^>]*>", "", line) for line in vtt(one).splitlines()[3::3]]
    assert shown == lines
    assert [line.split()[4] for line in ctm(one).splitlines()] == [*text]


def test_subtitles_of_fast_speech_are_short_too():
    """21 Chinese characters are as wide as 42 Latin ones."""
    spans = [Span(chr(0x4E00 + n), 0.05 * n, 0.05 * n + 0.04, 1.0, n, n > 0) for n in range(100)]
    assert [len(cue) for cue in cues(spans)] == [21, 21, 21, 21, 16]


def test_hypotheses_of_one_text_are_listed_once(model):
    labels = model.tokenizer.encode("ab")
    words = Words(model.symbols, 0.04)
    kept = (Alternative(labels, -1.0), Alternative(np.append(labels, 0), -2.0), Alternative(labels[:1], -3.0))
    found = TimedLabels(labels, *np.zeros((2, 2), int), np.ones(2), kept)
    assert words.alternatives(found) == ((model.tokenizer.decode(labels), -1.0), ("a", -3.0))
