"""`joint-st report` of a small run: what it makes, keeps, reads again, and puts into the page."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil

import numpy as np
import pytest
import soundfile

from joint_st.cli import main
from joint_st.config import ManifestSource, TfdsSource, load, override, save
from joint_st.data.audio import resample
from joint_st.data.dataset import open_paired
from joint_st.data.sources import open_source
from joint_st.decoding.decoders import Greedy
from joint_st.reports.report import is_of, split_utterances
from joint_st.reports.samples import make_samples
from joint_st.runs.trained import load_trained
from tests.tiny import tiny_config, untimed, untrained_run

JOINT = {
    "data.units.kind": "characters",
    "data.text_batch_size": 4,
    "losses.reconstruction.full_context": 0.5,
    "losses.consistency.weight": 0.01,
}

pytestmark = pytest.mark.slow

LAYERS = ["encoders", "streaming 1", "full context 1"]


def data_of(page) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text())[1])


@pytest.fixture(scope="module")
def run(corpora, tmp_path_factory):
    return untrained_run(tiny_config(corpora, JOINT), tmp_path_factory.mktemp("reported") / "run")


@pytest.fixture(scope="module")
def data(run):
    assert main(["report", str(run), "--utterances", "3"]) == 0
    return data_of(run / "report.html")


def test_what_was_missing_is_made_as_by_the_other_commands(run, data):
    rows = json.loads((run / "evaluations" / "step_3_test.json").read_text())
    assert data["summary"] == untimed(rows)
    layers = json.loads((run / "analysis" / "step_3_test.json").read_text())
    assert data["layers"][0]["labels"] == [row["layer"] for row in layers] == LAYERS
    values = [y for _, y in data["layers"][0]["series"][0]["points"]]
    assert values == pytest.approx([row["relative_best"] for row in layers], rel=1e-4)


def test_samples_hold_their_own_audio_times_and_maps(data, corpora):
    corpus = open_source(TfdsSource(name="spoken_grammar/tiny", split="test", data_dir=str(corpora)))
    utterances = {corpus.entry(i).id: corpus[i] for i in range(len(corpus))}
    samples = {one["id"]: one for one in data["utterances"] if "sample" in one}
    assert len(samples) == 3 and len(data["utterances"]) == len(utterances)
    for key, one in samples.items():
        own, sample = utterances[key], one["sample"]
        audio, rate = soundfile.read(io.BytesIO(base64.b64decode(sample["audio"].partition(",")[2])), dtype="int16")
        np.testing.assert_array_equal(resample(audio, rate, own.sample_rate), own.audio)
        words = one["reference"].split()
        times = np.array(sample["words"])
        assert times.shape == (len(words), 3)
        assert np.all(times[:, 0] < times[:, 1]) and times[-1, 1] <= sample["seconds"] + 1e-3
        assert [layer["name"] for layer in sample["maps"]["layers"]] == LAYERS
        assert sample["maps"]["text_frames"] >= len(words)
        np.testing.assert_allclose(sample["maps"]["word_times"], np.stack(own.word_times, axis=1), atol=1e-3)


def test_an_utterance_without_text_has_audio_and_no_maps(run, spoken, tmp_path):
    lines = [json.loads(line) for line in (spoken / "test.jsonl").read_text().splitlines()[:2]]
    lines[0]["text"] = ""
    manifest = tmp_path / "two.jsonl"
    for line in lines:
        line["audio_filepath"] = str(spoken / line["audio_filepath"])
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    trained = load_trained(run)
    made_with = (trained.config.data, trained.config.model.features, trained.normalizer, trained.tokenizer)
    dataset = open_paired([ManifestSource(path=str(manifest))], *made_with, trained.units, training=False)
    empty, other = (line["id"] for line in lines)
    [sample] = make_samples(trained, dataset, [empty], "full_context").values()
    assert sample["audio"] and "its text is empty" in sample["unaligned"] and "maps" not in sample
    both = make_samples(trained, dataset, [empty, other], "full_context")
    assert list(both) == [empty, other] and "maps" in both[other] and "maps" not in both[empty]


def test_a_long_recording_has_audio_and_no_maps(run, tmp_path):
    """Which would need memory by the square of its length."""
    trained = load_trained(run)
    seconds = trained.config.window_seconds + 1
    soundfile.write(tmp_path / "long.wav", np.zeros(round(seconds * 16_000), np.int16), 16_000)
    line = {"audio_filepath": "long.wav", "duration": seconds, "text": "so anna calls", "id": "long"}
    (tmp_path / "long.jsonl").write_text(json.dumps(line) + "\n")
    made_with = (trained.config.data, trained.config.model.features, trained.normalizer, trained.tokenizer)
    source = ManifestSource(path=str(tmp_path / "long.jsonl"))
    dataset = open_paired([source], *made_with, trained.units, training=False)
    [sample] = make_samples(trained, dataset, ["long"], "full_context").values()
    assert sample["seconds"] == seconds and "maps" not in sample


def test_a_second_report_reads_what_is_kept(run, data, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise AssertionError("made again")

    monkeypatch.setattr("joint_st.reports.report.evaluate_checkpoints", fail)
    monkeypatch.setattr("joint_st.reports.report.analyze_and_keep", fail)
    assert main(["report", str(run), "--utterances", "0", "--output", str(tmp_path / "deep" / "page.html")]) == 0
    assert "8 utterances, 0 with audio" in capsys.readouterr().out
    again = data_of(tmp_path / "deep" / "page.html")
    for one in data["utterances"]:
        one.pop("sample", None)
    assert again == data


def test_what_is_stored_of_a_split_that_was_corrected_is_not_used(run, data, spoken, tmp_path, capsys):
    own, manifest = shutil.copytree(run, tmp_path / "run"), tmp_path / "test.jsonl"
    lines = [json.loads(line) for line in (spoken / "test.jsonl").read_text().splitlines()]
    for line in lines:
        line["audio_filepath"] = str(spoken / line["audio_filepath"])

    def write():
        manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))

    write()
    trained, source = load_trained(own), ManifestSource(path=str(manifest))
    # The same utterances and texts, from another place.
    for file in (own / "evaluations" / "step_3_test.origin.json", own / "analysis" / "step_3_test.origin.json"):
        origin = json.loads(file.read_text())
        file.write_text(json.dumps(origin | {"sources": {"test": source.model_dump(mode="json")}}))

    def used() -> tuple[str, bool]:
        scored, why = split_utterances(trained, "test", source, Greedy())
        assert len(scored) == (0 if why else 2 * len(lines))
        return why, is_of(trained.run.analysis(3, "test"), trained, "test", source)

    assert used() == ("", True)
    lines[0]["text"] = "anna anna"
    write()
    assert used() == ("what is stored was made with other utterances or texts than test has now", False)
    manifest.unlink()
    capsys.readouterr()
    assert used() == ("", True)
    assert "what is stored is used, and not compared with its data" in capsys.readouterr().err
    # As where a run was moved without its data.
    save(override(load(own), {"data.test": {"test": source.model_dump(mode="json")}}), own / "config.json")
    assert main(["report", str(own), "--output", str(tmp_path / "page.html")]) == 0
    assert f"no audio on the page: {manifest}: no such file" in capsys.readouterr().err
    page = data_of(tmp_path / "page.html")
    assert (page["summary"], page["layers"]) == (data["summary"], data["layers"])
    assert not any("sample" in one for one in page["utterances"])


def test_an_analysis_that_cannot_be_kept_is_on_the_page(run, data, tmp_path, monkeypatch, capsys):
    """The run may be another person's."""
    own, page = shutil.copytree(run, tmp_path / "run"), tmp_path / "page.html"
    rows = json.loads((own / "analysis" / "step_3_test.json").read_text())
    shutil.rmtree(own / "analysis")
    refused = "run/analysis/step_3_test.json: could not be written: Read-only file system"
    monkeypatch.setattr("joint_st.reports.report.analyze_and_keep", lambda *_, **__: (rows, [refused]))
    assert main(["report", str(own), "--utterances", "0", "--output", str(page)]) == 0
    assert refused in capsys.readouterr().err
    assert data_of(page)["layers"] == data["layers"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nowhere"], "nowhere: no such directory"),
        (["RUN", "--output", "."], "--output names the file"),
        (["RUN", "--data", "x"], "--data x: written NAME=SOURCE"),
        (["RUN", "--checkpoint", "7"], "no checkpoint '7'"),
        (["RUN", "--beam", "4"], "--beam: needs the beam search"),
        (["RUN", "--utterances", "-1"], "'-1' is not a whole number"),
    ],
)
def test_a_mistake_is_told_in_one_line(run, arguments, message, capsys):
    assert main(["report", *(str(run) if one == "RUN" else one for one in arguments)]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error


def test_a_split_whose_texts_have_no_units_has_its_rates_and_no_curves(run, data, spoken, tmp_path, capsys):
    line = json.loads((spoken / "test.jsonl").read_text().splitlines()[0])
    line |= {"audio_filepath": str(spoken / line["audio_filepath"]), "text": ""}
    (tmp_path / "silent.jsonl").write_text(json.dumps(line) + "\n")
    page = tmp_path / "page.html"
    # Of the same name as the config's split, whose curves are kept in the run.
    assert main(["report", str(run), "--data", f"test={tmp_path / 'silent.jsonl'}", "--output", str(page)]) == 0
    found = data_of(page)
    assert [one["reference"] for one in found["utterances"]] == [""] and found["layers"] == []
    assert found["without_layers"].endswith("no utterance has a text to compare its speech with")
    assert {row["utterances"] for row in found["summary"]} == {1}
    told = capsys.readouterr().err
    assert "no curves of the layers: " in told and "no utterance has a text to compare its speech with" in told


def test_audio_that_cannot_be_read_is_told_and_nothing_is_written(run, tmp_path, capsys):
    (tmp_path / "cut.wav").write_bytes(b"RIFF")
    line = {"audio_filepath": "cut.wav", "duration": 1.0, "text": "seven"}
    (tmp_path / "cut.jsonl").write_text(json.dumps(line) + "\n")
    page, before = tmp_path / "page.html", sorted((run / "evaluations").glob("*"))
    assert main(["report", str(run), "--data", f"cut={tmp_path / 'cut.jsonl'}", "--output", str(page)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"joint-st: error: {run}: cut: nothing was scored: none of its 1 utterances can be read")
    assert not page.exists() and sorted((run / "evaluations").glob("*")) == before
