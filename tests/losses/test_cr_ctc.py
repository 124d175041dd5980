"""Agreement of two maskings: its value by hand, which side it moves, and that CTC is then the mean of both, of labels and
of units."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from joint_st.config import override
from joint_st.distributed.mesh import make_mesh
from joint_st.errors import UserError
from joint_st.losses.base import Passes
from joint_st.losses.cr_ctc import divergence
from joint_st.losses.passes import AUDIO_PASSES
from joint_st.losses.unit_ctc import UnitCtcLoss
from joint_st.models.encoder import Encoded
from joint_st.passes import PASSES
from tests.batches import completed
from tests.training.test_step import CONFIG, FEASIBLE, UNITS, ctc_by_hand, make_batch, steps_of


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_the_divergence_is_that_of_the_definition_and_each_side_comes_to_the_other():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 2, 5, 4)).astype(np.float32)
    mask = np.arange(5) < np.array([[5], [3]])
    p, q = softmax(a.astype(np.float64)), softmax(b.astype(np.float64))
    by_frame = (p * np.log(p / q)).sum(axis=-1) + (q * np.log(q / p)).sum(axis=-1)
    np.testing.assert_allclose(divergence(a, b, mask), 0.5 * (by_frame * mask).sum(axis=1), rtol=1e-5)
    # The gradient of KL(sg(q) || p) in the logits of p is p - q: nothing comes through the target.
    gradient = jax.grad(lambda a: divergence(a, b, mask).sum())(a)
    np.testing.assert_allclose(gradient, 0.5 * (p - q) * mask[..., None], atol=1e-6)


def test_a_step_has_the_mean_of_two_maskings_and_their_agreement():
    masks = {"spec_augment": {"time_masks": 2, "time_share": 0.2, "frequency_masks": 0, "frequency_width": 4}}
    units = {"data.units.kind": "characters", "losses.unit_ctc.weight": 0.5}
    steps = steps_of(masks | units | {"losses.cr_ctc.weight": 0.2})
    paired = make_batch()["paired"]
    # Two different units in every valid row, which the shortest of them, of 3 frames, can emit.
    paired["unit_lengths"] = np.where(paired["valid"], 2, 0).astype(np.int32)
    paired["units"] = np.where(paired["valid"][:, None], [2, 3], 0).astype(np.int32)
    batch = {"paired": completed("paired", paired)}
    _, metrics = steps(steps(steps.init(), batch)[0], batch)
    labels = paired["label_lengths"][FEASIBLE].sum()
    assert metrics["unit_ctc"][1] == 2 * 2 * np.count_nonzero(paired["valid"])
    for name in PASSES:
        assert metrics[f"{name}_ctc"][1] == 2 * labels and metrics[f"{name}_cr"][1] == labels
        assert metrics[f"{name}_cr"][0] > 0
    means = {name: np.divide(*metrics[name]) for name in metrics if name.endswith(("_ctc", "_cr"))}
    expected = sum(
        scale * (means[f"{name}_ctc"] + 0.2 * means[f"{name}_cr"])
        for name, scale in (("streaming", 0.3), ("full_context", 0.7))
    )
    assert metrics["loss"][0] == pytest.approx(expected + 0.5 * means["unit_ctc"], rel=1e-5)


def test_units_have_a_loss_under_either_masking():
    config = override(
        CONFIG, {"data.units.kind": "characters", "losses.unit_ctc.weight": 0.5, "losses.cr_ctc.weight": 0.2}
    )
    random, mask = np.random.default_rng(0), np.arange(5) < np.array([[5], [4]])
    batch = {"paired": {"units": np.array([[2, 3, 3], [4, 0, 0]]), "unit_lengths": np.array([3, 1], np.int32)}}
    both = {one: random.normal(size=(2, 5, UNITS)).astype(np.float32) for one in AUDIO_PASSES}
    audio = {one: Encoded(None, None, mask, None, units) for one, units in both.items()}
    mesh = make_mesh(config.parallel)
    with jax.set_mesh(mesh):
        found = UnitCtcLoss(config).values(Passes(audio, {}, {}), batch, frozenset(AUDIO_PASSES), None, mesh)
    for one, units in both.items():
        expected = [ctc_by_hand(units[0], [2, 3, 3]) / 3, ctc_by_hand(units[1, :4], [4])]
        np.testing.assert_allclose(found.values["unit_ctc"][one], expected, rtol=1e-5)


def test_without_ctc_it_is_refused():
    with pytest.raises(UserError, match="losses.cr_ctc.weight: needs a weight of losses.ctc above 0"):
        override(CONFIG, {"losses.ctc.streaming": 0, "losses.ctc.full_context": 0, "losses.cr_ctc.weight": 0.2})
