"""Decoding of a prepared dataset: every readable utterance once, with the same result as alone."""

from __future__ import annotations

import itertools
import json

import jax
import numpy as np
import pytest
from flax import nnx

from joint_st.config import ManifestSource
from joint_st.data.dataset import open_paired
from joint_st.decoding.decoders import Beam, Greedy
from joint_st.decoding.forward import Clock, Forward
from joint_st.decoding.recognise import common_buckets, recognise
from joint_st.heads.model import model_structure
from joint_st.passes import PASSES
from joint_st.runs.trained import load_trained
from tests.ops.prefix_beam_reference import beam_of_prefixes


@pytest.fixture(scope="module")
def model(trained):
    return load_trained(trained, "latest")


def dataset_of(model, manifest):
    source, config = ManifestSource(path=str(manifest)), model.config
    return open_paired([source], config.data, config.model.features, model.normalizer, model.tokenizer, training=False)


def whole_model(model):
    """Jitted `(weights, audio, lengths)` to logits [B, T, V] by pass."""
    structure = model_structure(model.config, model.symbols.sizes)

    @jax.jit
    def run(weights, *audio):
        joint = nnx.merge(structure, weights)
        encoded = joint(*audio)
        return {name: joint.head(name)(getattr(encoded, name)) for name in PASSES}

    return run


def alone(model, forward, audio: np.ndarray, decoders: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Return what the head on each pass says of one utterance, int16 [samples], by hand: its best path (`greedy`), and
    a slow beam (`beam 4`)."""
    frame = model.config.model.features.samples_per_frame
    # One length for all, so that one compilation does; the silence behind the end is masked.
    padded = np.zeros((1, 200 * frame), np.int16)
    padded[0, : len(audio)] = audio
    outputs = forward(model.weights, padded, np.array([len(audio)], np.int32))
    texts = {decoder: {} for decoder in decoders}
    for name in PASSES:
        logits = np.asarray(outputs[name])[0, : -(-len(audio) // frame)]
        for decoder in decoders:
            if decoder == "greedy":
                symbols = [int(symbol) for symbol, _ in itertools.groupby(logits.argmax(axis=1)) if symbol]
            else:
                symbols, _ = beam_of_prefixes(logits, 4, 3)[0]
            written = ("", "\u2047", *model.tokenizer.characters)
            texts[decoder][name] = " ".join("".join(written[symbol] for symbol in symbols).split())
    return texts


def test_every_utterance_is_recognised_once_and_as_if_alone(model, spoken):
    dataset = dataset_of(model, spoken / "test.jsonl")
    decoders = [Greedy(), Beam(beam=4, candidates=3)]
    forward = Forward(model.config, model.symbols.sizes, model.mesh, decoders)
    with jax.set_mesh(model.mesh):
        buckets = common_buckets(model.config, [dataset])
        found = list(recognise(forward, model.weights, dataset, buckets, model.mesh, model.config, decoders=decoders))
    assert sorted(one.index for one in found) == list(range(len(dataset)))
    whole = whole_model(model)
    for one in found:
        audio = dataset.load(one.index).audio
        assert one.seconds == len(audio) / model.config.model.features.sample_rate
        # The slow beam takes a second an utterance.
        compared = ("greedy", "beam 4") if one.index % 8 == 0 else ("greedy",)
        assert {name: one.hypotheses[name] for name in compared} == alone(model, whole, audio, compared)
    for decoder in decoders:
        assert any(text for one in found for text in one.hypotheses[decoder.name].values())


def test_timed_or_not_programs_apart_give_the_logits_of_the_whole_model(model):
    random = np.random.default_rng(0)
    frame = model.config.model.features.samples_per_frame
    audio = random.normal(0, 3000, (2, 50 * frame)).astype(np.int16)
    lengths = np.array([50 * frame, 31 * frame - 7], np.int32)
    outputs = whole_model(model)(model.weights, audio, lengths)
    forward = Forward(model.config, model.symbols.sizes, model.mesh)
    with jax.set_mesh(model.mesh):
        for clock in (None, Clock()):
            emissions, mask = forward.emissions(model.weights, audio, lengths, clock)
            assert mask.sum(axis=1).tolist() == [50, 31]
            for name, logits in zip(PASSES, emissions, strict=True):
                expected = np.asarray(outputs[name])[np.asarray(mask)]
                np.testing.assert_allclose(np.asarray(logits)[np.asarray(mask)], expected, rtol=2e-4, atol=2e-4)


def test_datasets_share_their_buckets(model, spoken, tmp_path):
    """The longest of several is the bound of all, so that they share compiled programs."""
    lines = [json.loads(line) for line in (spoken / "test.jsonl").read_text().splitlines()]
    datasets = []
    for part in (lines[:3], lines[3:]):
        manifest = tmp_path / f"{len(part)}.jsonl"
        rows = [{**line, "audio_filepath": str(spoken / line["audio_filepath"])} for line in part]
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
        datasets.append(dataset_of(model, manifest))
    buckets = common_buckets(model.config, datasets)
    frame = model.config.model.features.samples_per_frame
    longest = max(dataset.lengths.max() for dataset in datasets)
    assert buckets.bounds[-1] == -(-longest // frame) * frame
    assert buckets.batch_sizes[-1] == model.config.evaluation.batch_size
