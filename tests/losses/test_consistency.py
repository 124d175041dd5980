"""Which embeddings are compared, under which alignment, and how layers and rows are put together again."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from joint_st.config import override
from joint_st.distributed.mesh import make_mesh
from joint_st.losses.base import EncodedTexts, Passes, make_losses
from joint_st.losses.passes import Pass
from joint_st.losses.text_rows import TextRows
from joint_st.models.encoder import Encoded
from joint_st.ops.matching import alignment_loss
from tests.training.test_joint_step import JOINT
from tests.training.test_step import CONFIG, FRAME

ROWS, FRAMES, UNITS, WIDTH, LAYERS = 4, 9, 5, 6, 3
LENGTHS, UNIT_LENGTHS = np.array([9, 6, 3, 0]), np.array([4, 5, 5, 2])
REPETITIONS = 2 * (np.arange(UNITS) < UNIT_LENGTHS[:, None]).astype(np.int32)


def outputs(seed, lengths, frames, rows):
    layers = np.random.default_rng(seed).normal(size=(LAYERS, rows, frames, WIDTH)).astype(np.float32)
    mask = np.zeros((rows, frames), bool)
    mask[: len(lengths)] = np.arange(frames) < lengths[:, None]
    layers[:, ~mask] = np.nan
    return Encoded(None, None, jnp.array(mask), jnp.array(layers))


AUDIO = outputs(0, LENGTHS, FRAMES, ROWS)
# The rows of another group follow those of the paired batch.
TEXT = outputs(1, 2 * UNIT_LENGTHS, 2 * UNITS, ROWS + 2)
BATCH = {
    "paired": {
        "valid": np.array([True, True, True, True]),
        "audio_lengths": LENGTHS * FRAME,
        "repetitions": REPETITIONS,
        "unit_frames": np.array([[2, 2, 3, 2, 0], [1, 2, 1, 1, 1], [0] * 5, [0] * 5], np.int32),
        "has_durations": np.array([True, True, False, False]),
    }
}
PASSES = frozenset({Pass.AUDIO, Pass.PAIRED_CLEAN, Pass.TEXT_MASKED})
MONITORED = ("random_distance", "audio_norm", "text_norm", "coverage")


def found(changes, text=TEXT):
    config = override(CONFIG, {**JOINT, **changes})
    mesh = make_mesh(config.parallel)
    (loss,) = (loss for loss in make_losses(config) if loss.name == "consistency")
    rows = TextRows((Pass.PAIRED_CLEAN, Pass.TEXT_MASKED), (ROWS, 2), *[None] * 5)

    def values(audio, text):
        passes = Passes({Pass.AUDIO: audio}, dict.fromkeys(rows.passes, EncodedTexts(text, rows)), {})
        found = loss.values(passes, BATCH, PASSES, jax.random.key(0), mesh)
        return {name: rows[Pass.AUDIO] for name, rows in (found.values | found.monitored).items()}

    with jax.set_mesh(mesh):
        weights = loss.weights(BATCH, PASSES)["consistency"][Pass.AUDIO]
        return jax.device_get(jax.jit(values)(AUDIO, text)), np.asarray(weights)


GIVEN = np.zeros((ROWS, FRAMES), np.int32)
GIVEN[0] = [0, 1, 2, 3, 4, 4, 5, 6, 7]
GIVEN[1, :6] = [0, 2, 3, 4, 6, 8]


@pytest.mark.parametrize(
    ("alignment", "layers"), [("skip", []), ("skip", [0, -1]), ("step", []), ("soft", []), ("given", [])]
)
def test_the_loss_is_the_mean_over_the_layers_asked_for(alignment, layers):
    changes = {
        "losses.consistency.alignment": alignment,
        "losses.consistency.layers": layers,
        "losses.consistency.cost": "cosine",
        "losses.consistency.temperature": 0.1,
    }
    losses, weights = found(changes)
    options = {"alignment": alignment, "cost": "cosine", "temperature": 0.1}
    if alignment == "given":
        options["given"] = GIVEN
    alone = jax.jit(lambda audio, text: alignment_loss(audio, text, LENGTHS, 2 * UNIT_LENGTHS, **options).value)
    each = [alone(AUDIO.layers[k], TEXT.layers[k, :ROWS]) for k in ([0, 2] if layers else [1, 2])]
    possible = {"step": [True, False, False, False], "given": [True, True, False, False]}
    matched = np.array(possible.get(alignment, [True, True, True, False]))
    assert weights.tolist() == np.where(matched, LENGTHS, 0).tolist()
    np.testing.assert_allclose(losses["consistency"][matched], np.mean(each, axis=0)[matched], rtol=2e-5)


def test_what_is_monitored():
    losses, _ = found({"losses.consistency.layers": [1], "losses.consistency.alignment": "frame_wise"})
    assert set(losses) == {"consistency", *MONITORED}
    for name, side, lengths in (("audio", AUDIO, LENGTHS), ("text", TEXT, 2 * UNIT_LENGTHS)):
        norms = np.linalg.norm(np.nan_to_num(side.layers[1, :ROWS]), axis=-1).sum(axis=1)
        np.testing.assert_allclose(losses[f"{name}_norm"], norms / np.maximum(lengths, 1), rtol=1e-5)
    # 9, 6 and 3 frames on a straight line over 8, 10 and 10 text frames, of which none but the ends coincide twice.
    np.testing.assert_allclose(losses["coverage"][:3], [8 / 8, 6 / 10, 3 / 10])


def test_the_random_alignment_is_drawn_and_its_distance_is_monitored():
    losses, weights = found({"losses.consistency.alignment": "random"})
    np.testing.assert_allclose(losses["consistency"], losses["random_distance"])
    assert weights.tolist() == [9, 6, 3, 0]
    best, _ = found({"losses.consistency.alignment": "skip"})
    assert (best["consistency"][:3] < losses["consistency"][:3]).all()


@pytest.mark.parametrize(("layers", "same"), [([], [2]), ([1], [1])])
def test_text_that_enters_higher_is_compared_from_there_on(layers, same):
    """The embeddings of text begin at the depth at which it enters."""
    from_depth_1 = TEXT._replace(layers=TEXT.layers[1:])
    losses, _ = found({"model.text_depth": 1, "losses.consistency.layers": layers}, from_depth_1)
    expected, _ = found({"losses.consistency.layers": same})
    for name, values in expected.items():
        np.testing.assert_array_equal(losses[name], values, err_msg=name)
