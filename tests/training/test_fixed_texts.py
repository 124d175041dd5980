"""Texts through which no loss sends a gradient: which they are, and how they pass."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from joint_st.config import override
from joint_st.heads.model import model_structure
from joint_st.losses.base import fixed_passes, make_losses, passes_of
from joint_st.losses.passes import TEXT_PASSES, Pass
from joint_st.losses.text_rows import add_repetitions
from joint_st.training.step import run_passes
from tests.training.test_joint_step import JOINT, gradient, joint_batch
from tests.training.test_step import CONFIG, Steps, close


@pytest.mark.parametrize(
    ("changes", "fixed"),
    [
        ({}, set()),
        ({"losses.consistency.gradient": "text"}, set()),
        ({"losses.consistency.gradient": "audio"}, {Pass.PAIRED_CLEAN}),
        # Reconstruction sends its gradient through the same pass.
        ({"losses.consistency.gradient": "audio", "losses.consistency.text": "masked"}, set()),
        (
            {
                "losses.consistency.gradient": "audio",
                "losses.consistency.text": "masked",
                "losses.reconstruction.paired": 0.0,
            },
            {Pass.PAIRED_MASKED},
        ),
    ],
)
def test_which_passes_of_text_are_held_fixed(changes, fixed):
    losses = make_losses(override(CONFIG, JOINT | changes))
    assert fixed_passes(losses, passes_of(losses)) == fixed


@pytest.mark.slow
def test_texts_that_are_held_fixed_pass_by_themselves_and_change_nothing_else(monkeypatch):
    """Where no loss sends a gradient through the texts of a pass, the gradient is the one of all texts together."""
    changes = {"losses.consistency.gradient": "audio", "losses.reconstruction.paired": 0.0}
    found = []
    for together in (False, True):
        if together:
            monkeypatch.setattr("joint_st.training.step.fixed_passes", lambda *_: frozenset())
        steps = Steps(JOINT | changes)
        found.append(gradient(steps.init(), steps))
    close(*found)


def test_texts_that_are_held_fixed_have_no_dropout():
    """Speech is pulled to what the model says of its text, not to one draw of dropout."""
    changes = {"losses.consistency.gradient": "audio", "losses.reconstruction.paired": 0.0}
    steps = Steps(JOINT | changes | {"model.dropout": 0.5})
    params, fixed, wanted = steps.init().params, frozenset({Pass.PAIRED_CLEAN}), frozenset(TEXT_PASSES)
    structure, batch = model_structure(steps.config, steps.sizes), jax.tree.map(jnp.asarray, joint_batch())
    with jax.set_mesh(steps.mesh):
        batch = add_repetitions(steps.config, ("paired", "text"), batch, jax.random.key(0))

    @jax.jit
    def outputs(seed):
        model, keys = nnx.merge(structure, params), jax.random.split(jax.random.key(seed), 4)
        text = run_passes(steps.config, model, wanted, batch, keys, steps.mesh, fixed=fixed).text
        clean = text[Pass.PAIRED_CLEAN]
        x, mask, _ = model.encode_text(clean.rows.units, clean.rows.repetitions, clean.encoded.mask.shape[1])
        return (
            clean.encoded.full_context,
            text[Pass.TEXT_MASKED].encoded.full_context,
            model.shared(x, mask).full_context,
        )

    with jax.set_mesh(steps.mesh):
        (clean, masked, by_hand), (_, other, _) = outputs(0), outputs(1)
    np.testing.assert_allclose(clean, by_hand, atol=1e-5)
    assert np.abs(np.asarray(masked) - np.asarray(other)).max() > 0.1
