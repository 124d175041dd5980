"""`joint-st analyze` of a small run, recomputed from what the model says of one utterance at a time."""

from __future__ import annotations

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
import soundfile
from flax import nnx

from joint_st.analysis.analyze import analyze_layers, analyze_run
from joint_st.analysis.layers import LayerAnalysis, layer_names
from joint_st.analysis.scores import ranks, word_frames
from joint_st.cli import main
from joint_st.config import ManifestSource, ModelConfig, TfdsSource, override
from joint_st.data.dataset import open_paired
from joint_st.errors import UserError
from joint_st.heads.model import model_structure
from joint_st.models.text_encoder import most_frames, repetitions
from joint_st.ops.matching import alignment_loss
from joint_st.runs.directory import open_run
from joint_st.runs.trained import load_trained
from joint_st.training.setup import open_symbols
from joint_st.word_times.by_text import EmbeddingAligner
from tests.tiny import tiny_config, untrained_run

JOINT = {
    "data.units.kind": "characters",
    "data.text_batch_size": 4,
    "losses.reconstruction.full_context": 0.5,
    "losses.consistency.weight": 0.01,
}
LAYERS = ["encoders", "streaming 1", "full context 1"]


@pytest.fixture(scope="module")
def run(corpora, tmp_path_factory):
    """A run with a checkpoint of its initial weights."""
    return untrained_run(tiny_config(corpora, JOINT), tmp_path_factory.mktemp("joint") / "run")


@pytest.fixture(scope="module")
def rows(run):
    """The rows that the command writes with --json."""
    file = run.with_name("layers.json")
    assert main(["analyze", str(run), "--json", str(file)]) == 0
    return json.loads(file.read_text())


def test_the_run_keeps_its_rows_and_figures(run, rows):
    folder = run / "analysis"
    assert json.loads((folder / "step_3_test.json").read_text()) == rows
    names = {file.name.removeprefix("step_3_test") for file in folder.iterdir()}
    assert names == {".json", ".origin.json", "_layers.png", "_alignment_1.png", "_alignment_2.png", "_alignment_3.png"}
    assert all(1000 < file.stat().st_size < 300_000 for file in folder.glob("*.png"))
    assert [row["layer"] for row in rows] == LAYERS
    shared = {
        "split": "test",
        "step": 3,
        "utterances": 8,
        "alignment": "skip",
        "cost": "squared_l2",
        "infeasible": 0,
        "normalizer": "english v2",
    }
    assert all(row.items() >= shared.items() for row in rows)


def test_examples_of_several_batches_take_the_memory_of_one(run, corpora):
    trained = load_trained(run)
    config = override(trained.config, {"evaluation.batch_size": 2})
    made_with = (config.data, config.model.features, trained.normalizer, trained.tokenizer, trained.units)
    source = TfdsSource(name="spoken_grammar/tiny", split="test", data_dir=str(corpora))
    dataset = open_paired([source], *made_with, training=False)

    def examples(config):
        with jax.set_mesh(trained.mesh):
            analysis = LayerAnalysis(config, dataset, trained.mesh, trained.symbols.sizes, chosen=range(len(dataset)))
            forward, shapes = analysis._forward, []

            def noting(*inputs):
                found = forward(*inputs)
                shapes.append(found.costs.shape)
                return found

            analysis._forward = noting
            return {one.id: one for one in analysis(trained.weights).examples}, shapes

    small, shapes = examples(config)
    assert len(shapes) == len(dataset) // 2 and {shape[0] for shape in shapes} == {2}
    whole, _ = examples(override(config, {"evaluation.batch_size": len(dataset)}))
    assert small.keys() == whole.keys() == {dataset.id(n) for n in range(len(dataset))}
    for key, one in small.items():
        np.testing.assert_allclose(one.costs, whole[key].costs, rtol=1e-3, atol=1e-3)
        np.testing.assert_array_equal(one.unit, whole[key].unit)


@pytest.mark.slow
def test_layers_are_compared_from_where_text_enters(run, rows):
    """Speech is as it was; the text of the first row is what enters, as at the bottom otherwise."""
    trained = load_trained(run)
    higher = dataclasses.replace(trained, config=override(trained.config, {"model.text_depth": 1}))
    found = analyze_layers(higher).rows
    assert [row["layer"] for row in found] == LAYERS[1:]
    assert [row["audio_norm"] for row in found] == pytest.approx([row["audio_norm"] for row in rows[1:]], rel=1e-4)
    assert found[0]["text_norm"] == pytest.approx(rows[0]["text_norm"], rel=1e-4)
    with pytest.raises(UserError, match="--by 0: text enters the shared layers at depth 1 .*; name one from 1 to 2"):
        EmbeddingAligner(higher, 0)
    EmbeddingAligner(higher, -1)


def test_numbers_are_those_of_each_utterance_by_itself(run, rows, corpora):
    trained = load_trained(run)
    config, features = trained.config, trained.config.model.features
    made_with = (config.data, features, trained.normalizer, trained.tokenizer, trained.units)
    source = TfdsSource(name="spoken_grammar/tiny", split="test", data_dir=str(corpora))
    dataset = open_paired([source], *made_with, training=False)
    examples = [dataset.load(n) for n in range(len(dataset))]
    texts = [dataset.text(n) for n in range(len(dataset))]
    most = max(len(example.units) for example in examples)
    structure = model_structure(config, trained.symbols.sizes)

    @jax.jit
    def embed(audio, samples, units, length):
        model = nnx.merge(structure, trained.weights)
        x, mask, _ = model.encode_audio(audio, samples)
        repeated = repetitions(config.text, length, most)
        encoded = model.encode_text(units, repeated, most_frames(config.text, most))
        audio = model.shared(x, mask).layers[:, 0]
        return audio, mask.sum(), model.shared(encoded.x, encoded.mask).layers[:, 0], encoded.mask.sum(), encoded.unit

    audios, texts_embedded, word_of = [], [], []
    longest = -(-int(dataset.lengths.max()) // features.samples_per_frame) * features.samples_per_frame
    for n, example in enumerate(examples):
        audio, units = np.zeros((1, longest), np.int16), np.zeros((1, most), np.int32)
        audio[0, : len(example.audio)], units[0, : len(example.units)] = example.audio, example.units
        lengths = np.array([len(example.audio)]), np.array([len(example.units)])
        a, frames, t, text_frames, unit = embed(audio, lengths[0], units, lengths[1])
        audios.append(np.asarray(a)[:, :frames])
        texts_embedded.append(np.asarray(t)[:, :text_frames])
        word_of.append(trained.units.words(texts[n])[np.asarray(unit)[0, :text_frames]])

    best = jax.jit(alignment_loss)
    seconds = features.samples_per_frame / features.sample_rate
    frames = np.array([a.shape[1] for a in audios])
    rounded = max(frames), max(t.shape[1] for t in texts_embedded)
    for layer, row in enumerate(rows):
        distances, straight, errors = [], [], []
        for n, (audio, text) in enumerate(zip(audios, texts_embedded)):
            a, t = audio[layer], text[layer]
            padded = [np.pad(x, ((0, size - len(x)), (0, 0)))[None] for x, size in zip((a, t), rounded)]
            found = best(*padded, np.array([len(a)]), np.array([len(t)]))
            distances.append(float(found.value[0]))
            line = np.floor(np.arange(len(a)) * (len(t) - 1) / (len(a) - 1) + 0.5).astype(int)
            straight.append(np.mean(np.sum((a - t[line]) ** 2, axis=-1)))
            # Each text frame as a unit of its own.
            got = word_frames(word_of[n], np.asarray(found.position)[0, : len(a)]) * seconds
            spoken = dataset.utterance(n)
            errors += np.abs(got - np.stack(spoken.word_times, axis=1)).ravel()[1:-1].tolist()
        assert row["best"] == pytest.approx(np.average(distances, weights=frames), rel=1e-4)
        assert row["frame_wise"] == pytest.approx(np.average(straight, weights=frames), rel=1e-4)
        assert row["boundaries"] == len(errors) == 2 * sum(len(text.split()) - 1 for text in texts)
        assert row["best_boundary_ms"] == pytest.approx(1000 * np.mean(errors), rel=1e-4)
        pooled = [np.stack([x[layer].mean(axis=0) for x in side]) for side in (audios, texts_embedded)]
        every = [np.concatenate([x[layer] for x in side]) for side in (audios, texts_embedded)]
        norms = [np.linalg.norm(x, axis=-1).mean() for x in every]
        between = np.mean(np.sum((every[0][:, None] - every[1][None]) ** 2, axis=-1))
        assert row["relative_best"] == pytest.approx(row["best"] / between, rel=1e-4)
        assert [row["audio_norm"], row["text_norm"]] == pytest.approx(norms, rel=1e-4)
        assert row["audio_to_text_reciprocal_rank"] == pytest.approx(np.mean(1 / ranks(*pooled, texts)))
        assert row["text_to_audio_recall_1"] == np.mean(ranks(*pooled[::-1], texts) == 1)
        assert row["best"] < min(row["frame_wise"], row["random"])
        assert 0 < row["wrong_text"] < row["random"]


def test_fewer_utterances_are_spread_over_the_split(run, spoken):
    trained = load_trained(run)
    config = trained.config
    made_with = (config.data, config.model.features, trained.normalizer, trained.tokenizer, trained.units)
    dataset = open_paired([ManifestSource(path=str(spoken / "test.jsonl"))], *made_with, training=False)
    with jax.set_mesh(trained.mesh):
        analysis = LayerAnalysis(config, dataset, trained.mesh, trained.symbols.sizes, utterances=3)
        report = analysis(trained.weights)
        again = analysis(trained.weights)
    assert report.rows == again.rows, "nothing is drawn again"
    assert report.facts["utterances"] == 3
    assert {example.id for example in report.examples} <= {dataset.id(n) for n in (0, 4, 7)}
    example = report.examples[0]
    assert example.layers == tuple(LAYERS)
    assert example.costs.shape == (3, len(example.positions[0]), len(example.unit))
    matched = np.take_along_axis(example.costs, example.positions[..., None], axis=2)
    assert (matched.mean(axis=(1, 2)) <= example.costs.mean(axis=(1, 2))).all()
    assert "".join(example.symbols) == example.text
    assert example.word_times is None, "a manifest without the times of words"
    assert report.rows[0]["best_boundary_ms"] is None
    assert set(report.figures()) >= {"layers", "alignment_1"}


def test_what_cannot_be_read_is_left_out(run, spoken, tmp_path, capsys):
    folder = shutil.copytree(spoken, tmp_path / "spoken")
    first = json.loads((folder / "test.jsonl").read_text().splitlines()[0])
    (folder / first["audio_filepath"]).write_bytes(b"RIFF")
    rows = analyze_run(run, data={"broken": ManifestSource(path=str(folder / "test.jsonl"))})
    assert rows[0]["utterances"] == 7
    assert (run / "analysis" / "step_3_broken.json").is_file()
    printed = capsys.readouterr().out
    assert "distance per audio frame" in printed and "retrieval among 7" in printed


def manifest_of(folder, seconds: list[float], text="so anna calls") -> ManifestSource:
    """A manifest of silent recordings of some lengths."""
    folder.mkdir()
    for n, own in enumerate(seconds):
        soundfile.write(folder / f"{n}.wav", np.zeros(round(own * 16_000), np.int16), 16_000)
    lines = [{"audio_filepath": f"{n}.wav", "duration": own, "text": text} for n, own in enumerate(seconds)]
    (folder / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return ManifestSource(path=str(folder / "m.jsonl"))


def test_long_recordings_are_left_out_and_counted(run, tmp_path, caplog):
    longest = load_trained(run).config.window_seconds
    rows = analyze_run(run, data={"mixed": manifest_of(tmp_path / "mixed", [2.0, longest + 1])})
    assert rows[0]["utterances"] == 1 and f"left out 1 of 2, longer than {longest:g} s" in caplog.text
    with pytest.raises(UserError, match=f"all utterances are longer than {longest:g} s, the most that is compared"):
        analyze_run(run, data={"long": manifest_of(tmp_path / "long", [longest + 1])})


def test_one_without_samples_has_no_figure(run, tmp_path):
    rows = analyze_run(run, data={"empty": manifest_of(tmp_path / "empty", [0.0, 0.0])})
    assert rows[0]["infeasible"] == rows[0]["utterances"] == 2
    assert not list((run / "analysis").glob("step_3_empty*alignment*"))


def test_an_analysis_of_another_number_of_utterances_is_not_that_of_a_report(run, spoken):
    data = {"some": ManifestSource(path=str(spoken / "test.jsonl"))}
    rows = analyze_run(run, data=data, utterances=3)
    assert json.loads((run / "analysis" / "step_3_some_3_utterances.json").read_text()) == rows
    assert rows[0]["utterances"] == 3 and not (run / "analysis" / "step_3_some.json").exists()


def test_layers_are_named_in_the_order_they_are_passed():
    assert layer_names(ModelConfig(streaming_layers=2, full_context_layers=1)) == (
        "encoders",
        "streaming 1",
        "streaming 2",
        "full context 1",
    )


@pytest.mark.parametrize(
    "changes, arguments, message",
    [
        ({}, [], "data.units.kind is none"),
        (JOINT, ["--data", "test"], "--data test: written NAME=SOURCE"),
        (JOINT, ["--utterances", "0"], "'0' is not a whole number from 1 to 1,000,000,000"),
        (JOINT, [], "no complete checkpoint; train the run first"),
    ],
)
def test_mistakes_are_told_in_one_line(corpora, tmp_path, capsys, changes, arguments, message):
    config = tiny_config(corpora, changes)
    run = open_run(tmp_path / "run", config)
    if changes:
        open_symbols(config, run)
    assert main(["analyze", str(run.root), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and error.startswith("joint-st: error: ")


def test_a_split_without_text_is_refused(run, spoken, tmp_path):
    lines = [json.loads(line) | {"text": ""} for line in (spoken / "test.jsonl").read_text().splitlines()]
    manifest = tmp_path / "silent.jsonl"
    for line in lines:
        line["audio_filepath"] = str(spoken / line["audio_filepath"])
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match="no utterance has a text"):
        analyze_run(run, data={"silent": ManifestSource(path=str(manifest))})
    with pytest.raises(UserError, match="one split at a time"):
        analyze_run(run, data={name: ManifestSource(path=str(manifest)) for name in "ab"})
