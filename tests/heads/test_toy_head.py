"""A head that keeps state over labels works everywhere that CTC does, without being mentioned in the package."""

from __future__ import annotations

import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from flax import nnx

from joint_st.cli import main
from joint_st.config import HeadsConfig, ManifestSource, ParallelConfig, override
from joint_st.decoding import transcribe
from joint_st.decoding.decoders import Greedy, emitted_labels
from joint_st.decoding.long import LongRecordings
from joint_st.decoding.streaming import Streams, pieces
from joint_st.distributed.mesh import make_mesh, replicated
from joint_st.errors import UserError
from joint_st.evaluation import evaluate, streams
from joint_st.evaluation.evaluate import evaluate_run
from joint_st.heads.model import model_structure
from joint_st.losses.ctc import CtcLoss
from joint_st.losses.passes import Pass
from joint_st.models.functional import merge
from joint_st.passes import PASSES
from joint_st.runs.trained import load_trained
from joint_st.training.asr import train_asr
from tests.heads.toy import ToyHead, reference, registered
from tests.tiny import saved_arrays, tiny_config
from tests.training.test_step import CONFIG, FRAME

WIDTH, SYMBOLS = 4, 3
STEPS = 6
CHANGES = {
    "heads.streaming": "toy",
    "heads.full_context": "toy",
    "heads.toy.scale": 4.0,
    "data.test": {},
    "training.evaluate_every": STEPS,
}


@pytest.fixture(scope="module", autouse=True)
def toy_kind():
    with registered():
        yield


@pytest.fixture
def head():
    return ToyHead(HeadsConfig(), WIDTH, SYMBOLS, rngs=nnx.Rngs(0))


def test_the_loss_is_the_sum_over_all_placements(head):
    x = np.random.default_rng(0).normal(size=(2, 4, WIDTH)).astype(np.float32)
    labels, lengths, frames = np.array([[1, 1], [2, 0]]), np.array([2, 1]), np.array([4, 3])

    def log_prob(row):
        total = -np.inf
        for places in itertools.combinations(range(frames[row]), lengths[row]):
            last, spelled, score = 0, 0, 0.0
            for t in range(frames[row]):
                log_probs = np.asarray(head.log_probs(jnp.asarray(x[row, t]), jnp.asarray(last)))
                symbol = labels[row, spelled] if t in places else 0
                score += log_probs[symbol]
                if symbol:
                    last, spelled = symbol, spelled + 1
            total = np.logaddexp(total, score)
        return total

    mask = jnp.arange(4) < frames[:, None]
    found = head.loss(jnp.asarray(x), mask, jnp.asarray(labels), jnp.asarray(lengths), make_mesh(ParallelConfig()))
    np.testing.assert_allclose(found, [-log_prob(row) / lengths[row] for row in range(2)], rtol=1e-5)


@pytest.mark.parametrize("streaming, full_context, expected", [("toy", "ctc", 2), ("ctc", "toy", 2), ("toy", "toy", 1)])
def test_what_one_of_the_heads_cannot_emit_is_counted(streaming, full_context, expected):
    """In two frames: two equal labels, between which CTC alone needs a blank; two others; three labels."""
    loss = CtcLoss(override(CONFIG, {"heads.streaming": streaming, "heads.full_context": full_context}))
    paired = {
        "label_lengths": jnp.array([2, 2, 3]),
        "frames_needed": jnp.array([3, 2, 3]),
        "audio_lengths": jnp.full(3, 2 * FRAME),
        "valid": jnp.ones(3, bool),
    }
    assert loss.counts({"paired": paired}, {Pass.AUDIO}) == {"infeasible": expected}


@pytest.mark.parametrize("sizes", [[1] * 20, [3, 9, 8]])
def test_steps_emit_what_the_whole_and_the_reference_do(head, sizes):
    x = np.random.default_rng(1).normal(0, 2, (3, 20, WIDTH)).astype(np.float32)
    frames = np.array([20, 7, 0])
    mask = jnp.arange(20) < frames[:, None]
    emissions, state, emitted = head.emissions(jnp.asarray(x)), head.init_state(3), []
    for first, size in zip(itertools.accumulate([0, *sizes]), sizes):
        own = slice(first, first + size)
        labels, state = head.step(jax.tree.map(lambda x, own=own: x[:, own], emissions), mask[:, own], state)
        emitted.append(labels)
    emitted = np.concatenate(emitted, axis=1)
    np.testing.assert_array_equal(emitted, head.greedy(emissions, mask))
    expected = [reference(head, row[:count]) for row, count in zip(x, frames)]
    assert [emitted_labels(row)[0].tolist() for row in emitted] == expected and len(expected[0]) > 5


@pytest.fixture(scope="module")
def run(corpora, tmp_path_factory):
    """A run of toy heads."""
    folder = tmp_path_factory.mktemp("toy") / "run"
    config = tiny_config(corpora, CHANGES | {"training.steps": STEPS})
    train_asr(config, folder)
    return folder


@pytest.fixture(scope="module")
def files(spoken):
    return sorted(spoken.glob("*.wav"))[:3]


@jax.jit
def passes(joint, audio, lengths):
    encoded = joint(audio, lengths)
    return {name: getattr(encoded, name) for name in PASSES}


def embeddings(model, audio: np.ndarray) -> dict[str, np.ndarray]:
    """By pass, [T, D] of whole audio, int16 [samples]."""
    joint = merge(model_structure(model.config, model.symbols.sizes), model.weights)
    features = model.config.model.features
    # One length for all, so that one compilation does.
    padded = np.zeros((1, 300 * features.samples_per_frame), np.int16)
    padded[0, : len(audio)] = audio
    found = passes(joint, padded, np.array([len(audio)], np.int32))
    return {name: np.asarray(x)[0, : features.frames(len(audio))] for name, x in found.items()}


def by_hand(model, audio: np.ndarray) -> dict[str, list[int]]:
    """Return what the reference finds in the embeddings of both passes over whole audio, int16 [samples]."""
    joint = merge(model_structure(model.config, model.symbols.sizes), model.weights)
    return {name: reference(joint.head(name), x) for name, x in embeddings(model, audio).items()}


@pytest.fixture(scope="module")
def model(run, files):
    """The run's model with heads that emit many labels, since a hardly trained model emits almost none."""
    model = load_trained(run, "latest")
    random, weights = np.random.default_rng(0), jax.tree.map(lambda x: x, model.weights)
    audio = soundfile.read(files[0], dtype="int16")[0]
    for name, x in embeddings(model, audio).items():
        head = weights[f"{name}_head"]
        deviation = float(x.std(axis=0).mean())
        kernel = random.normal(size=head["out"]["linear"]["kernel"].shape) / (deviation * np.sqrt(x.shape[1]))
        embed = random.normal(size=head["embed"]["embedding"].shape) * deviation / model.config.heads.toy.scale
        bias = -x.mean(axis=0) @ (3 * kernel) + 4 * (np.arange(kernel.shape[1]) == 0)
        linear = {"kernel": jnp.asarray(3 * kernel, jnp.float32), "bias": jnp.asarray(bias, jnp.float32)}
        weights[f"{name}_head"] = {
            "embed": {"embedding": jnp.asarray(embed, jnp.float32)},
            "out": {"linear": linear},
        }
    return dataclasses.replace(model, weights=jax.device_put(weights, replicated(model.mesh)))


@pytest.fixture
def loaded(model, monkeypatch):
    """Make commands load the model that emits many labels."""
    for module in (transcribe, evaluate, streams):
        monkeypatch.setattr(module, "load_trained", lambda *of: model)


@pytest.mark.slow
def test_a_resumed_run_is_the_run(run, corpora, tmp_path):
    """Continued from the checkpoint before the last, the weights become those of the run that was never stopped."""
    whole = saved_arrays(run, STEPS)
    assert any("streaming_head.embed.embedding" in path for path in whole)
    (run / "checkpoints" / str(STEPS)).rename(tmp_path / str(STEPS))
    train_asr(tiny_config(corpora, CHANGES | {"training.steps": STEPS}), run)
    for path, array in saved_arrays(run, STEPS).items():
        np.testing.assert_array_equal(array, whole[path], err_msg=path)


def test_files_and_streams_say_what_the_reference_finds(model, loaded, run, files, capsys):
    found = [by_hand(model, soundfile.read(file, dtype="int16")[0]) for file in files]
    assert all(sum(len(one[name]) for one in found) > 5 for name in PASSES)
    for name in PASSES:
        assert main(["transcribe", str(run), *map(str, files), "--head", name, "--checkpoint", "latest"]) == 0
        said = [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()]
        assert said == [model.tokenizer.decode(one[name]) for one in found]
    for frames in (1, 8):
        batch = Streams(model, 2, frames)
        for file, one in zip(files, found):
            for piece in pieces(soundfile.read(file, dtype="int16")[0], batch.chunk_samples):
                batch.turn({1: piece})
            heard = batch.end(1)
            assert heard.labels == one["streaming"] and batch.full_context(heard).tolist() == one["full_context"]


def test_a_long_recording_is_heard_in_windows(model, files):
    """One window gives the reference's result for the whole; several windows give some labels, with seams between
    labels."""
    audio = np.concatenate([soundfile.read(file, dtype="int16")[0] for file in files])
    with jax.set_mesh(model.mesh):
        sizes = model.symbols.sizes
        long = LongRecordings(model.config, sizes, model.mesh, [Greedy()], PASSES, window_seconds=3)
        assert len(long.windows.begins(len(audio))) > 2
        found = long(model.weights, audio)["greedy"]
        once = LongRecordings(model.config, sizes, model.mesh, [Greedy()], PASSES, window_seconds=60)
        whole = once(model.weights, audio)["greedy"]
    assert {name: labels.tolist() for name, labels in whole.items()} == by_hand(model, audio)
    assert all(len(labels) > 5 for labels in found.values())


def test_it_is_evaluated_whole_and_in_streams(loaded, run, spoken):
    manifest = spoken / "test.jsonl"
    rows = evaluate_run(run, data={"t": ManifestSource(path=str(manifest))}, checkpoint="latest")
    assert {row["head"] for row in rows} == set(PASSES)
    table = run / "streams.json"
    arguments = ["--stream", "--streams", "3", "--checkpoint", "latest", "--json", str(table)]
    assert main(["evaluate", str(run), "--data", f"t={manifest}", *arguments]) == 0
    [streamed] = json.loads(table.read_text())
    for row in rows:
        if row["subset"] == "all":
            assert streamed[f"wer_{row['head']}"] == row["wer"]


def test_what_it_lacks_is_one_line(run, files, capsys, tmp_path):
    assert main(["transcribe", str(run), str(files[0]), "--decoder", "beam", "--checkpoint", "latest"]) == 2
    assert "heads.toy: has no beam search" in (error := capsys.readouterr().err) and error.count("\n") == 1
    assert main(["align", str(run), str(files[0]), "a word", "--checkpoint", "latest"]) == 2
    assert "heads.toy: gives no times and no probabilities of its labels" in (error := capsys.readouterr().err)
    assert error.count("\n") == 1
    lacking = ["transcribe", str(run), str(files[0]), "--format", "json"], ["evaluate", str(run), "--confidence"]
    manifest = files[0].with_name("test.jsonl")
    for command, more in zip(lacking, ([], ["--data", f"t={manifest}"])):
        assert main([*command, *more, "--checkpoint", "latest"]) == 2
        assert "heads.toy: gives no times and no probabilities of its labels" in (error := capsys.readouterr().err)
        assert error.splitlines()[-1].startswith("joint-st: error: ") and "Traceback" not in error
    with pytest.raises(UserError, match="heads.streaming"):
        tiny_config(tmp_path, {"heads.streaming": "none of them"})
