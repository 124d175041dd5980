"""The step with text in addition to speech: each loss by hand, which rows take part, and which side is moved."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from joint_st.config import override
from joint_st.data.symbols import SymbolSizes
from joint_st.distributed.mesh import make_mesh, put_batch
from joint_st.heads.model import model_structure
from joint_st.losses.base import make_losses, needs_text, passes_of, text_share
from joint_st.losses.passes import TEXT_PASSES, Pass
from joint_st.losses.text_rows import add_repetitions, gather_rows, split_rows
from joint_st.training.step import init_state, make_train_step, scales_at
from tests.batches import completed
from tests.tiny import UNOPTIMISED, call_on_eight_devices
from tests.training.test_step import (
    CONFIG,
    FRAME,
    UNITS,
    VOCABULARY,
    Steps,
    close,
    ctc_by_hand,
    equal,
    make_batch,
    steps_of,
)

JOINT = {
    "data.units.kind": "characters",
    "data.text": [{"kind": "text", "path": "none"}],
    "data.text_batch_size": 8,
    "text": {"repetition": "fixed", "repeat_most": 2, "mask_share": 0.0},
    "losses.reconstruction.streaming": 0.2,
    "losses.reconstruction.full_context": 0.5,
    "losses.reconstruction.paired": 0.25,
    "losses.unit_ctc.weight": 0.15,
    "losses.consistency.weight": 0.1,
}
WATCHED = ("random_distance", "audio_norm", "text_norm", "coverage")
MATCHED = [0, 1, 3, 4, 5, 7]
"""Rows that are valid and have units; CTC cannot spell row 1."""
UNSPELLABLE, EMPTY = 2, 6
"""Sentences with more labels than text frames, and a row without one."""


def joint_batch(seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """A batch of `make_batch` with units, and eight sentences."""
    random, batch = np.random.default_rng(100 + seed), make_batch(seed)["paired"]
    batch["units"] = random.integers(2, UNITS, (8, 6)).astype(np.int32)
    batch["unit_lengths"] = np.array([4, 5, 0, 2, 6, 3, 0, 1], np.int32)
    batch["unit_ends"] = np.zeros((8, 6), np.int32)
    batch["unit_ends"][0, :4] = [2, 4, 7, 10]
    batch["text_units"] = random.integers(2, UNITS, (8, 8)).astype(np.int32)
    batch["text_unit_lengths"] = np.array([8, 3, 2, 6, 5, 1, 0, 4], np.int32)
    batch["text_labels"] = random.integers(1, VOCABULARY, (8, 7)).astype(np.int32)
    batch["text_label_lengths"] = np.array([7, 2, 6, 5, 4, 1, 0, 3], np.int32)
    batch["text_valid"] = np.array([1, 1, 1, 1, 1, 1, 0, 1], bool)
    text = {name.removeprefix("text_"): batch.pop(name) for name in list(batch) if name.startswith("text_")}
    for part in (batch, text):
        for kind in ("unit", "label"):
            values, lengths = part[f"{kind}s"], part[f"{kind}_lengths"]
            values[np.arange(values.shape[1]) >= lengths[:, None]] = 0
    return {"paired": completed("paired", batch), "text": completed("text", text)}


@pytest.fixture(scope="module")
def whole():
    return steps_of(JOINT)


class ByHand:
    """The model's outputs for single rows."""

    def __init__(self, steps: Steps, params):
        self._structure = model_structure(steps.config, steps.sizes)
        self._params = params

        def with_logits(model, encoded):
            logits = {name: model.head(name)(getattr(encoded, name)) for name in ("streaming", "full_context")}
            return encoded._replace(**logits)

        def speech(audio, lengths):
            model = self._model()
            return with_logits(model, model(audio, lengths))

        def text(units, repetitions):
            model = self._model()
            x, mask, _ = model.encode_text(units, repetitions, 16)
            return with_logits(model, model.shared(x, mask))

        self._speech, self._text = jax.jit(speech), jax.jit(text)

    def _model(self):
        return nnx.merge(self._structure, self._params)

    def speech(self, batch, row):
        """Return the outputs for the audio of one row, with logits instead of the passes, cut to its frames."""
        batch = batch["paired"]
        frames = -(-batch["audio_lengths"][row] // FRAME)
        return self._cut(self._speech(batch["audio"][row][None], batch["audio_lengths"][row][None]), frames)

    def text(self, units):
        """Return the same for units, each repeated twice."""
        padded = np.pad(units, (0, 8 - len(units)))
        repetitions = 2 * (np.arange(8) < len(units)).astype(np.int32)
        return self._cut(self._text(padded[None], repetitions[None]), 2 * len(units))

    def unit_logits(self, outputs):
        return np.asarray(self._model().unit_head(outputs.layers[0]))

    def _cut(self, outputs, frames):
        return type(outputs)(
            *(np.asarray(x)[0, :frames] for x in outputs[:3]), np.asarray(outputs.layers)[:, 0, :frames]
        )


def best_distance(audio, text) -> float:
    """Mean squared distance [T, D] to [R, D] under the best monotonic map from end to end, by O(T R²)."""
    cost = ((audio[:, None].astype(np.float64) - text[None]) ** 2).sum(-1)
    if len(audio) == 1:
        return cost.min()
    reached = np.where(np.arange(len(text)) == 0, cost[0], np.inf)
    for row in cost[1:]:
        reached = np.array([row[j] + reached[: j + 1].min() for j in range(len(text))])
    return reached[-1] / len(audio)


def spelled(value, lengths):
    return value[: int(lengths)]


@pytest.mark.slow
def test_every_loss_is_what_it_is_by_hand(whole):
    state, batch = whole(whole.init(), joint_batch(9))[0], joint_batch()
    model = ByHand(whole, state.params)
    reconstruction = {"streaming": [0.0, 0.0], "full_context": [0.0, 0.0]}
    rows = [("paired", row, 0.25) for row in MATCHED] + [("text", row, 1.0) for row in (0, 1, 3, 4, 5, 7)]
    for part, row, weight in rows:
        labels = spelled(batch[part]["labels"][row], batch[part]["label_lengths"][row])
        units = spelled(batch[part]["units"][row], batch[part]["unit_lengths"][row])
        needed = len(labels) + np.count_nonzero(labels[1:] == labels[:-1])
        if needed > 2 * len(units):
            continue
        outputs = model.text(units)
        for head, sums in reconstruction.items():
            sums[0] += weight * ctc_by_hand(getattr(outputs, head), labels)
            sums[1] += weight * len(labels)
    distance, frames, unit_ctc, unit_count = 0.0, 0, 0.0, 0
    for row in MATCHED:
        units = spelled(batch["paired"]["units"][row], batch["paired"]["unit_lengths"][row])
        audio, text = model.speech(batch, row), model.text(units)
        layers = [best_distance(audio.layers[k], text.layers[k]) for k in (1, 2)]
        distance += np.mean(layers) * len(audio.mask)
        frames += len(audio.mask)
        if len(units) + np.count_nonzero(units[1:] == units[:-1]) <= len(audio.mask):
            unit_ctc += ctc_by_hand(model.unit_logits(audio), units)
            unit_count += len(units)

    _, metrics = whole(state, batch)
    expected = {
        "streaming_reconstruction": reconstruction["streaming"],
        "full_context_reconstruction": reconstruction["full_context"],
        "unit_ctc": (unit_ctc, unit_count),
        "consistency": (distance, frames),
    }
    for name, (total, count) in expected.items():
        assert metrics[name][1] == pytest.approx(count), name
        assert metrics[name][0] == pytest.approx(total, rel=1e-4), name
    means = {name: np.divide(*metrics[name]) for name in (*expected, "streaming_ctc", "full_context_ctc")}
    scales = {name: scale for loss in make_losses(whole.config) for name, scale in loss.scales(0).items()}
    assert scales["unit_ctc"] == 0.15 and scales["consistency"] == 0.1 and len(scales) == 6
    assert metrics["loss"][0] == pytest.approx(sum(scales[name] * mean for name, mean in means.items()), rel=1e-5)
    assert metrics["sentences"][0] == 7
    assert metrics["infeasible_sentences"][0] == 1
    assert metrics["infeasible_transcripts"][0] == 0 and metrics["infeasible_units"][0] == 1
    assert metrics["unmatched"][0] == 0
    assert metrics["audio_norm"][0] / frames == pytest.approx(np.sqrt(8), rel=0.05), "layers end in a norm"
    assert metrics["random_distance"][0] > metrics["consistency"][0]


def test_utterances_without_a_loss_of_their_text_are_counted():
    """With one frame for a unit, the texts of rows 1, 5 and 7 are too short; row 1 has 5 units in 3 audio frames."""
    config, batch = override(CONFIG, {**JOINT, "text.repeat_most": 1}), joint_batch()
    batch["paired"]["unit_lengths"][3] = 0  # an utterance without text units, which the start counts
    batch = add_repetitions(config, ("paired", "text"), batch, jax.random.key(0))
    losses = make_losses(config)
    counted = {name: int(count) for loss in losses for name, count in loss.counts(batch, passes_of(losses)).items()}
    assert counted["infeasible_units"] == 1
    assert counted["infeasible_transcripts"] == 3


def test_rows_without_meaning_change_nothing(whole):
    state, batch = whole(whole.init(), joint_batch(9))[0], joint_batch()
    expected, _ = whole(state, batch)
    text = batch["text"]
    text["units"][EMPTY] = 3
    text["labels"][UNSPELLABLE] = 1 + text["labels"][UNSPELLABLE] % (VOCABULARY - 1)
    batch["paired"]["units"][2] = 4
    changed, _ = whole(state, batch)
    equal(changed.params, expected.params)


@pytest.mark.slow
def test_parts_add_up_to_the_whole_batch(whole):
    state, batch = whole(whole.init(), joint_batch(9))[0], joint_batch()
    expected, expected_metrics = whole(state, batch)
    found, metrics = Steps({**JOINT, "training.accumulation": 4})(state, batch)
    close(found.optimizer[1][0].mu, expected.optimizer[1][0].mu, 1e-6)
    for name in WATCHED:  # a random alignment is drawn again in each part
        metrics.pop(name), expected_metrics.pop(name)
    close(metrics, expected_metrics)


def gradient(state, steps):
    """Return the first moments after a step from fresh ones: the clipped gradient, but for a factor."""
    return steps(state, joint_batch())[0].optimizer[1][0].mu


ALONE = {
    **JOINT,
    "losses.reconstruction.streaming": 0.0,
    "losses.reconstruction.full_context": 0.0,
    "losses.unit_ctc.weight": 0.0,
    "losses.consistency.layers": [0],
    "optimizer.clip_norm": 1e9,
}
"""Consistency of what enters the shared layers alone, at depth 0, together with CTC."""


@pytest.mark.slow
def test_consistency_moves_the_sides_asked_for():
    """A side that is not asked for has the gradient that the other losses give it, and nothing of consistency's."""
    found = {}
    for side in ("both", "audio", "text"):
        steps = Steps({**ALONE, "losses.consistency.gradient": side})
        found[side] = gradient(steps.init(), steps)

    def differ(part, one, other):
        pairs = zip(jax.tree.leaves(found[one][part]), jax.tree.leaves(found[other][part]))
        return max(np.abs(a - b).max() for a, b in pairs) > 1e-6

    # Nothing but consistency reaches the text encoder here.
    assert not any(np.abs(leaf).max() for leaf in jax.tree.leaves(found["audio"]["text"]))
    assert any(np.abs(leaf).max() > 1e-6 for leaf in jax.tree.leaves(found["text"]["text"]))
    assert not differ("text", "both", "text")
    assert differ("front_end", "both", "text") and not differ("front_end", "both", "audio")
    assert not differ("full_context", "both", "text") and not differ("full_context", "both", "audio")


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"losses.consistency.text": "masked", "text.repetition": "durations", "text.noise": 0.5},
        {
            "text": {"repetition": "random", "mask_share": 0.3, "mask_span": 2},
            "model.text_layers": 1,
            "model.text_positions": "sinusoidal",
            "losses.consistency.alignment": "given",
            "losses.reconstruction.paired": 0.0,
        },
    ],
)
def test_every_choice_trains_and_counts_what_it_cannot_match(changes):
    steps = Steps({**JOINT, **changes})
    state = steps.init()
    for i in range(2):
        state, metrics = steps(state, joint_batch(i))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.params, metrics)))
    assert metrics["unmatched"][0] == (5 if "losses.consistency.alignment" in changes else 0)
    assert metrics["consistency"][0] > 0


def test_a_step_on_text_alone_moves_what_text_passes_through(whole):
    steps = Steps(JOINT, speech=False)
    state, batch = steps.init(), joint_batch()
    alone = {"text": batch["text"]}
    after, metrics = steps(steps(state, alone)[0], alone)
    moved = {
        part: max(np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (after.params[part], state.params[part]))))
        for part in state.params
    }
    assert {part for part, by in moved.items() if by > 1e-4} == {
        "text",
        "streaming",
        "full_context",
        "streaming_head",
        "full_context_head",
    }
    # Of the reconstructions, the labels of text alone count.
    labels = batch["text"]["label_lengths"][[0, 1, 3, 4, 5, 7]].sum()
    assert metrics["full_context_reconstruction"][1] == labels
    assert "full_context_ctc" not in metrics and metrics["sentences"][0] == 7


@pytest.mark.parametrize("name", ["steps", "text_first_steps", "text_from_step"])
def test_the_weight_of_consistency_rises_linearly_once_there_is_speech_and_text(name):
    first = 0 if name == "steps" else 3
    changes = {f"training.{name}": first or CONFIG.training.steps, "losses.consistency.warmup_steps": 4}
    config = override(CONFIG, {**JOINT, **changes})
    (loss,) = (loss for loss in make_losses(config) if loss.name == "consistency")
    scales = [float(loss.scales(jnp.int32(step))["consistency"]) for step in range(first + 6)]
    assert scales == pytest.approx([0.0] * first + [0.025, 0.05, 0.075, 0.1, 0.1, 0.1])


def test_the_weights_of_the_losses_that_need_text_rise_from_a_step_on():
    config = override(CONFIG, {**JOINT, "training.text_from_step": 2, "training.text_ramp_steps": 4})
    losses, plain = make_losses(config), make_losses(override(CONFIG, JOINT))
    for step, share in enumerate([0, 0, 0.25, 0.5, 0.75, 1, 1, 1]):
        found = scales_at(config, losses, jnp.int32(step))
        for loss in plain:
            factor = share if loss.name in ("reconstruction", "consistency") else 1
            for term, scale in loss.scales(jnp.int32(step)).items():
                assert float(found[term]) == pytest.approx(factor * scale), (step, term)
    at_once = override(CONFIG, {**JOINT, "training.text_from_step": 2})
    assert [float(text_share(at_once, step)) for step in range(4)] == [0, 0, 1, 1]
    for loss in losses:
        assert loss.section.needs_text == needs_text(loss), loss.name


def test_a_step_without_text_is_that_of_the_losses_of_speech():
    """Before `training.text_from_step`, a step computes what one without any text does."""
    unweighted = ("losses.reconstruction.streaming", "losses.reconstruction.full_context", "losses.consistency.weight")
    batch, traced = {"paired": joint_batch()["paired"]}, []
    for changes, text in (
        (JOINT | {"training.text_from_step": 5}, False),
        (JOINT | dict.fromkeys(unweighted, 0), True),
    ):
        config, sizes = override(CONFIG, changes), SymbolSizes(VOCABULARY, UNITS)
        mesh = make_mesh(config.parallel)
        with jax.set_mesh(mesh):
            step = make_train_step(config, sizes, mesh, text=text)
            state = jax.eval_shape(lambda config=config: init_state(config, sizes, jnp.uint32(0)))
            traced.append(step.trace(state, batch).jaxpr)
    operations = [[str(equation.primitive) for equation in one.jaxpr.eqns] for one in traced]
    assert operations[0] == operations[1] and len(traced[0].in_avals) == len(traced[1].in_avals)
    with_text = make_losses(override(CONFIG, JOINT))
    assert passes_of(tuple(loss for loss in with_text if not needs_text(loss))) == {Pass.AUDIO}


def test_a_sentence_behind_a_loss_that_is_not_finite_is_told(whole):
    """The row of text whose loss is not finite, and no other."""
    state = whole.init()
    embedding = np.array(state.params["text"]["embed"]["embedding"])
    embedding[UNITS - 1] = np.nan
    state.params["text"]["embed"]["embedding"] = jnp.array(embedding)
    batch = joint_batch()
    for part in batch.values():
        part["units"] = np.minimum(part["units"], UNITS - 2)
    batch["text"]["units"][3, 1] = UNITS - 1
    _, metrics = whole(state, batch)
    assert np.flatnonzero(~np.isfinite(metrics["text_loss"])).tolist() == [3]
    assert np.isfinite(metrics["utterance_loss"]).all()


def test_runs_of_other_seeds_share_their_compilation(whole):
    texts = []
    for seed in (0, 1):
        steps = Steps({**JOINT, "seed": seed})
        with jax.set_mesh(steps.mesh):
            state = steps.init()
            assert state.seed == seed
            texts.append(steps.jitted.lower(state, put_batch(joint_batch(), steps.mesh)).as_text())
    assert texts[0] == texts[1]


def on_eight_devices():
    """Check that rows are concatenated and split without being sent."""
    assert jax.device_count() == 8
    batch, config = joint_batch(), override(CONFIG, JOINT)
    mesh, wanted = make_mesh(config.parallel), passes_of(make_losses(config))
    passes = [one for one in TEXT_PASSES if one in wanted]
    masked = [one is not Pass.PAIRED_CLEAN for one in passes]
    assert masked == [False, True, True]
    with jax.set_mesh(mesh):

        def there_and_back(batch):
            batch = add_repetitions(config, ["paired", "text"], batch, jax.random.key(0))
            rows = gather_rows(passes, masked, batch, mesh)
            return rows.masked, {one.value: own for one, own in split_rows(rows, rows.labels, mesh).items()}

        compiled = jax.jit(there_and_back).lower(put_batch(batch, mesh)).compile()
        masked, parts = compiled(put_batch(batch, mesh))
    for one in passes:
        expected = batch[one.part]["labels"]
        assert np.array_equal(np.asarray(parts[one.value])[:, : expected.shape[1]], expected)
    assert np.asarray(masked).reshape(8, 3).tolist() == [[False, True, True]] * 8
    assert not any(name in compiled.as_text() for name in ("all-gather", "all-to-all", "collective-permute"))


def test_rows_stay_on_their_devices():
    call_on_eight_devices("tests.training.test_joint_step:on_eight_devices", UNOPTIMISED)
