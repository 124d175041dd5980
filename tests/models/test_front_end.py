"""Features that do not know how loud a recording is: whole and in pieces, and under gain and offset."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import nnx

from joint_st.config import FeaturesConfig
from joint_st.models.front_end import SEEN, FrontEnd

FRAME, FRAMES, WIDTH = 640, 60, 8
PLAIN = {"level": "none", "floor_db": 0.0, "remove_offset": False}
CHOICES = {
    "level": PLAIN | {"level": "level"},
    "channel": PLAIN | {"level": "channel", "level_weight": 3.0},
    "all": {"level": "level", "floor_db": 40.0, "remove_offset": True},
}


def front_end(**options) -> FrontEnd:
    features = FeaturesConfig(mels=16, **options)
    return FrontEnd(features, WIDTH, dtype=np.float32, rngs=nnx.Rngs(0))


def test_an_encoder_frame_sees_seven_feature_frames():
    module = front_end()
    past = module.first.init_state(1), module.second.init_state(1)

    def frame(features):
        return module.second(module.first(features, past[0])[0], past[1])[0][0, 5].sum()

    seen = np.flatnonzero(np.abs(jax.grad(frame)(jax.random.normal(jax.random.key(0), (1, 40, 16)))).sum(axis=(0, 2)))
    assert seen.tolist() == list(range(24 - SEEN, 24))  # frame 5 ends with the feature frame 23


@pytest.fixture(scope="module")
def audio():
    """Two utterances whose loudness varies, int16 [2, S]."""
    random = np.random.default_rng(0)
    loudness = np.repeat(random.uniform(300, 6000, (2, FRAMES)), FRAME, axis=1)
    return (random.normal(size=loudness.shape) * loudness).clip(-32768, 32767).astype(np.int16)


@pytest.mark.parametrize("name", CHOICES)
def test_pieces_are_the_whole(name, audio):
    module = front_end(**CHOICES[name])
    lengths = np.full(2, audio.shape[1], np.int32)
    whole, state, pieces = module(audio, lengths), module.init_state(2), []
    for start, stop in ((0, 7), (7, 20), (20, 60)):
        piece, state = module.step(audio[:, start * FRAME : stop * FRAME], state)
        pieces.append(piece)
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, atol=2e-5)


def test_gain_and_offset_cost_little_after_the_first_second(audio):
    lengths = np.full(2, audio.shape[1], np.int32)
    quiet = np.rint(audio / 10).astype(np.int16)
    shifted = quiet + np.int16(1000)

    def differ(one, other, **options):
        both = jax.vmap(lambda x: front_end(**options)(x, lengths))(np.stack([one, other]))
        plain, changed = np.asarray(both)[:, :, 25:]
        return np.abs(plain - changed).mean() / np.abs(plain - plain.mean()).mean()

    assert differ(audio, quiet, **PLAIN) > 0.5 and differ(quiet, shifted, **PLAIN) > 0.1
    # What is left is the prior of ten frames, which a tenth of the amplitude is compared with.
    assert differ(audio, quiet, **CHOICES["all"]) < 0.3 * differ(audio, quiet, **PLAIN)
    assert differ(audio, quiet, **CHOICES["all"] | {"level_weight": 0.0}) < 0.02
    assert differ(quiet, shifted, **PLAIN | {"remove_offset": True}) < 0.1 * differ(quiet, shifted, **PLAIN)
