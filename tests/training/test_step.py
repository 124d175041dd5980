"""One training step: its loss, which rows take part in it, and what it does to the weights."""

from __future__ import annotations

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from joint_st.config import Config, override
from joint_st.data.symbols import SymbolSizes
from joint_st.distributed.mesh import make_mesh, put_batch, replicated
from joint_st.heads.model import model_structure
from joint_st.training.optimizer import make_optimizer, schedule
from joint_st.training.step import fresh_state, make_init, make_train_step, updated, weighted_mean
from tests.batches import completed
from tests.tiny import UNOPTIMISED, call_on_eight_devices

VOCABULARY, UNITS, FRAME = 6, 7, 640
CONFIG = Config.model_validate(
    {
        "data": {"train": [{"kind": "manifest", "path": "none"}], "batch_size": 8},
        "model": {
            "features": {"mels": 8},
            "width": 8,
            "heads": 2,
            "feed_forward": 2,
            "kernel": 3,
            "left_context": 4,
            "audio_layers": 0,
            "streaming_layers": 1,
            "full_context_layers": 1,
            "dropout": 0.0,
        },
        "spec_augment": {"frequency_masks": 0, "time_masks": 0},
        "optimizer": {"warmup_steps": 2, "peak_learning_rate": 1e-2, "ema_decay": 0.2},
        "training": {"steps": 10},
        "evaluation": {"batch_size": 8},
    }
)
INFEASIBLE, FILLER, UNREADABLE = 1, 2, 6
FEASIBLE = [0, 3, 4, 5, 7]


def make_batch(seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """Eight rows of up to 12 frames; parts (every 2nd or 4th row) differ in what is feasible."""
    random = np.random.default_rng(seed)
    batch = {
        "audio": random.integers(-9000, 9000, (8, 12 * FRAME)).astype(np.int16),
        "audio_lengths": np.array([12, 3, 0, 7, 12, 9, 0, 11], np.int32) * FRAME - 100,
        "labels": random.integers(1, VOCABULARY, (8, 8)).astype(np.int32),
        "label_lengths": np.array([4, 8, 0, 1, 3, 4, 0, 2], np.int32),
        "valid": np.array([1, 1, 0, 1, 1, 1, 0, 1], bool),
    }
    batch["audio_lengths"] = np.maximum(batch["audio_lengths"], 0)
    batch["audio"][np.arange(12 * FRAME) >= batch["audio_lengths"][:, None]] = 0
    batch["labels"][np.arange(8) >= batch["label_lengths"][:, None]] = 0
    return {"paired": completed("paired", batch)}


class Steps:
    """The jitted step of a config on its mesh; called with a state and a batch of NumPy arrays."""

    def __init__(
        self, changes: dict | None = None, speech: bool = True, devices: int | None = None, languages: int = 1
    ):
        self.config = override(CONFIG, changes or {})
        self.sizes = SymbolSizes(VOCABULARY, UNITS if self.config.data.units.kind != "none" else 0, languages)
        self.mesh = make_mesh(self.config.parallel, jax.devices()[:devices])
        with jax.set_mesh(self.mesh):
            self._init = make_init(self.config, self.sizes, self.mesh)
            self.jitted = make_train_step(self.config, self.sizes, self.mesh, speech=speech)

    def init(self):
        with jax.set_mesh(self.mesh):
            return self._init()

    def __call__(self, state, batch):
        """(state, metrics) as NumPy arrays; the state given is kept."""
        with jax.set_mesh(self.mesh):
            given_away = jax.tree.map(np.array, state)
            return jax.device_get(self.jitted(given_away, put_batch(batch, self.mesh)))

    def warm(self):
        """Return the state after one step: the learning rate of the first is 0."""
        return self(self.init(), make_batch(9))[0]


@functools.cache
def _steps(changes: str, speech: bool) -> Steps:
    return Steps(json.loads(changes), speech)


def steps_of(changes: dict | None = None, speech: bool = True) -> Steps:
    """`Steps`, compiled once for all tests of a process that ask for the same."""
    return _steps(json.dumps(changes or {}, sort_keys=True), speech)


@pytest.fixture(scope="module")
def whole():
    return steps_of()


def close(a, b, tolerance=1e-5):
    a, b = jax.tree.leaves(a), jax.tree.leaves(b)
    assert len(a) == len(b)
    for x, y in zip(a, b):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def ctc_by_hand(logits, labels) -> float:
    """-log p(labels) of logits [T, V], by the sum over all states of the lattice in float64."""
    probabilities = np.exp(logits.astype(np.float64))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    states = [0, *(symbol for label in labels for symbol in (label, 0))]
    reached = np.zeros(len(states))
    reached[:2] = probabilities[0, states[:2]]
    for frame in probabilities[1:]:
        before = reached.copy()
        for s, symbol in enumerate(states):
            reached[s] += before[s - 1] if s else 0
            if s > 1 and symbol and symbol != states[s - 2]:
                reached[s] += before[s - 2]
        reached *= frame[states]
    return -np.log(reached[-2:].sum())


def test_the_loss_is_the_mean_ctc_per_label_of_both_heads(whole):
    state, batch = whole.warm(), make_batch()
    structure, paired = model_structure(whole.config, whole.sizes), batch["paired"]

    @jax.jit
    def forward(weights, *audio):
        model = nnx.merge(structure, weights)
        encoded = model(*audio)
        return {name: model.head(name)(getattr(encoded, name)) for name in ("streaming", "full_context")}

    outputs = forward(state.params, paired["audio"], paired["audio_lengths"])
    expected = {}
    for head in ("streaming", "full_context"):
        logits = np.asarray(outputs[head])
        expected[head] = {
            row: ctc_by_hand(
                logits[row, : -(-paired["audio_lengths"][row] // FRAME)],
                paired["labels"][row, : paired["label_lengths"][row]],
            )
            for row in FEASIBLE
        }
    _, metrics = whole(state, batch)
    labels = paired["label_lengths"][FEASIBLE].sum()
    means = {head: sum(values.values()) / labels for head, values in expected.items()}
    for head in means:
        total, count = metrics[f"{head}_ctc"]
        assert count == labels
        assert total / count == pytest.approx(means[head], rel=1e-5)
    weights = whole.config.losses.ctc
    loss = weights.streaming * means["streaming"] + weights.full_context * means["full_context"]
    assert metrics["loss"][0] == pytest.approx(loss, rel=1e-5)
    for row in FEASIBLE:
        of_row = sum(
            weight * expected[head][row] / paired["label_lengths"][row]
            for head, weight in (("streaming", 0.3), ("full_context", 0.7))
        )
        assert metrics["utterance_loss"][row] == pytest.approx(of_row, rel=1e-5)


@pytest.mark.parametrize(("total", "weight", "mean"), [(3.0, 4.0, 0.75), (3.0, 0.25, 12.0), (0.0, 0.0, 0.0)])
def test_a_loss_is_divided_by_its_weight_also_below_one(total, weight, mean):
    """Only paired text may be reconstructed, and weigh little."""
    found, slope = jax.value_and_grad(weighted_mean)(total, weight)
    assert found == mean and slope == (1 / weight if weight else 0)


def test_infeasible_and_invalid_rows_are_counted_and_change_nothing(whole):
    state, batch = whole.warm(), make_batch()
    expected, metrics = whole(state, batch)
    assert metrics["utterances"][0] == 6
    assert metrics["infeasible"][0] == 1
    assert metrics["audio_samples"][0] == batch["paired"]["audio_lengths"].sum()
    assert metrics["audio_samples"][0].dtype == np.float32  # 2.6e9 samples are 8192 utterances of 20 s
    assert not metrics["utterance_loss"][[INFEASIBLE, FILLER, UNREADABLE]].any()

    other = make_batch(seed=1)
    for row in (INFEASIBLE, FILLER, UNREADABLE):
        batch["paired"]["audio"][row] = other["paired"]["audio"][0]
    batch["paired"]["labels"][INFEASIBLE] = other["paired"]["labels"][INFEASIBLE]
    changed, _ = whole(state, batch)
    equal(changed.params, expected.params)


def test_a_batch_of_nothing_feasible_has_no_loss_and_no_gradient(whole):
    state, batch = whole.warm(), make_batch()
    batch["paired"]["valid"][FEASIBLE] = False
    after, metrics = whole(state, batch)
    assert metrics["loss"][0] == 0 and metrics["gradient_norm"][0] == 0
    assert metrics["infeasible"][0] == metrics["utterances"][0] == 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))
    # The first moments only decay, by beta1.
    moments, before = (s.optimizer[1][0].mu for s in (after, state))
    close(moments, jax.tree.map(lambda m: 0.9 * m, before))


@pytest.mark.parametrize("parts", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_parts_add_up_to_the_whole_batch(whole, parts):
    state, batch = whole.warm(), make_batch()
    cut = Steps({"training.accumulation": parts})
    expected, expected_metrics = whole(state, batch)
    found, metrics = cut(state, batch)
    # Adam's moments tell gradients apart where its steps, of the size of the learning rate, would not.
    close(found.optimizer[1][0].mu, expected.optimizer[1][0].mu, 1e-6)
    close(found.params, expected.params)
    close(found.average, expected.average)
    close(metrics, expected_metrics)


def test_the_average_follows_the_weights_with_a_warm_up(whole):
    state = whole.init()
    average = jax.tree.map(np.asarray, state.params)
    equal(state.average, average)
    for step in range(3):
        state, _ = whole(state, make_batch(step))
        assert state.step == step + 1
        decay = min(0.2, (1 + step) / (10 + step))
        average = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, average, state.params)
        close(state.average, average)
    assert (0.2, 3 / 12) == (decay, (1 + step) / (10 + step)), "both sides of the minimum were seen"


def test_the_average_begins_again_after_the_steps_on_text_alone():
    optimizer, average = optax.sgd(1.0), 0.0
    state = fresh_state({"w": jnp.zeros(())}, optimizer, jnp.uint32(0))
    for step in range(8):
        state, _ = updated(state, {"w": jnp.float32(-1)}, optimizer, 0.9, text_first=5)
        done = step - 5 if step >= 5 else step
        decay = (1 + done) / (10 + done)
        average = decay * average + (1 - decay) * (step + 1)
        assert state.average["w"] == pytest.approx(average)


@pytest.mark.parametrize(("warmup", "held"), [(0, 0), (4, 0), (4, 9)])
def test_learning_rate_rises_linearly_and_falls_as_a_cosine(warmup, held):
    config = override(
        CONFIG,
        {
            "optimizer.peak_learning_rate": 0.5,
            "optimizer.final_share": 0.1,
            "optimizer.warmup_steps": warmup,
        },
    ).optimizer
    rate, steps, start = schedule(config, 20, held), 20, max(warmup, held)
    for step in range(steps + 3):
        done = min(max(step - start, 0) / (steps - start), 1)
        expected = 0.5 * step / 4 if step < warmup else 0.5 * (0.1 + 0.9 * (1 + np.cos(np.pi * done)) / 2)
        assert rate(step) == pytest.approx(expected, rel=1e-5), step


def test_a_run_shorter_than_its_warm_up_only_rises():
    config = override(CONFIG, {"optimizer.peak_learning_rate": 0.5, "optimizer.warmup_steps": 100}).optimizer
    rate = schedule(config, 10)
    assert [float(rate(step)) for step in (0, 5, 10)] == pytest.approx([0, 0.25, 0.5])


def test_the_optimizer_is_adamw_on_clipped_gradients_with_decay_on_matrices_alone():
    config = override(
        CONFIG, {"optimizer.weight_decay": 0.1, "optimizer.clip_norm": 2.0, "optimizer.warmup_steps": 0}
    ).optimizer
    random = np.random.default_rng(0)
    # Names as in the model; a stack's biases and norms have two axes, as matrices have.
    shapes = {
        "linear": {"kernel": (4, 3), "bias": (3,)},
        "stack": {"kernel": (2, 3, 3), "bias": (2, 3), "scale": (2, 3), "filters": (2, 3, 3)},
    }
    params = {n: {k: random.normal(size=s) for k, s in group.items()} for n, group in shapes.items()}
    optimizer = make_optimizer(config, 10)
    found = jax.tree.map(np.float32, params)
    state, update = jax.jit(optimizer.init)(found), jax.jit(optimizer.update)
    first = jax.tree.map(np.zeros_like, params)
    second = jax.tree.map(np.zeros_like, params)
    for step in range(4):
        # The third gradient is within the norm and is not clipped.
        size = 0.01 if step == 2 else 1.0
        gradient = {n: {k: size * random.normal(size=s) for k, s in group.items()} for n, group in shapes.items()}
        updates, state = update(jax.tree.map(np.float32, gradient), state, found)
        found = jax.tree.map(np.add, found, updates)

        norm = np.sqrt(sum((g**2).sum() for group in gradient.values() for g in group.values()))
        assert (norm < 2) == (step == 2)
        rate = 0.01 * (0.01 + 0.99 * (1 + np.cos(np.pi * step / 10)) / 2)
        for n, group in gradient.items():
            for k, g in group.items():
                g = g * min(1, 2 / norm)
                first[n][k] = 0.9 * first[n][k] + 0.1 * g
                second[n][k] = 0.98 * second[n][k] + 0.02 * g**2
                mean, square = first[n][k] / (1 - 0.9 ** (step + 1)), second[n][k] / (1 - 0.98 ** (step + 1))
                decay = 0.1 * params[n][k] if k in ("kernel", "filters") else 0
                params[n][k] = params[n][k] - rate * (mean / (np.sqrt(square) + 1e-8) + decay)
        close(found, params)


def test_every_weight_of_the_model_is_a_matrix_a_bias_or_a_norm(whole):
    """Weight decay depends on their names."""
    names = {path[-1].key for path, _ in jax.tree_util.tree_leaves_with_path(whole.init().params)}
    assert names == {"kernel", "filters", "bias", "scale"}


COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


def computations(hlo: str) -> dict[str, list[str]]:
    """Return the lines of each computation of an HLO module, by name."""
    found, lines = {}, []
    for line in hlo.splitlines():
        if line.endswith("{") and " = " not in line:
            lines = found[line.removeprefix("ENTRY ").split()[0].lstrip("%")] = []
        elif line.strip() != "}":
            lines.append(line)
    return found


def on_eight_devices():
    """One step on a mesh of 8 equals one on a mesh of 1, and CTC's loops hold no collective."""
    assert jax.device_count() == 8
    results, hlo, batch = {}, {}, make_batch()
    fresh = jax.device_get(Steps().init())
    for steps in (Steps(devices=1), Steps()):
        with jax.set_mesh(steps.mesh):
            state, on_mesh = jax.device_put(fresh, replicated(steps.mesh)), put_batch(batch, steps.mesh)
            compiled = steps.jitted.lower(state, on_mesh).compile()
            for _ in range(2):
                state, metrics = compiled(state, on_mesh)
        results[steps.mesh.size] = jax.device_get((state, metrics))
        hlo[steps.mesh.size] = compiled.as_text()
    close(results[8][0].optimizer[1][0].mu, results[1][0].optimizer[1][0].mu, 1e-6)
    close(results[8], results[1])

    parts = computations(hlo[8])
    assert any(name in line for lines in parts.values() for line in lines for name in COLLECTIVES)
    bodies = set(re.findall(r"body=%?([\w.-]+)", hlo[8]))
    of_ctc = "/shard_map/while/body"
    loops = [name for name in bodies if any(of_ctc in line for line in parts[name])]
    assert loops, "CTC is a scan"
    for name, lines in parts.items():
        for line in lines:
            # A loop of one pass is no loop in the end: what it had is told by the name of its operation.
            if name in loops or of_ctc in line:
                assert not any(f" {collective}" in line for collective in COLLECTIVES), (name, line)


@pytest.mark.slow
def test_eight_devices_do_what_one_does():
    call_on_eight_devices("tests.training.test_step:on_eight_devices", UNOPTIMISED)


def test_dropout_and_masks_are_drawn_anew_in_every_step_and_the_same_for_the_same_step():
    steps = Steps({"model.dropout": 0.3, "spec_augment.frequency_masks": 2, "spec_augment.frequency_width": 4})
    state, batch = steps.init(), make_batch()
    losses = [
        steps(state._replace(step=jax.numpy.asarray(step, jax.numpy.int32)), batch)[1]["loss"][0] for step in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]
