"""Speech that enters the shared layers as the text's embeddings of the units heard."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from joint_st.config import FeaturesConfig, ModelConfig
from joint_st.data.symbols import SymbolSizes
from joint_st.heads.model import JointModel

VOCABULARY, UNITS, WIDTH, FRAME = 7, 5, 8, 640
SAMPLES = (np.random.default_rng(0).normal(size=(2, 8 * FRAME)) * 3000).astype(np.int16)
LENGTHS = np.array([8 * FRAME, 5 * FRAME + 77], np.int32)


def make(unit_conditioning, units=UNITS):
    config = ModelConfig(
        features=FeaturesConfig(mels=8),
        width=WIDTH,
        heads=2,
        feed_forward=2,
        kernel=3,
        left_context=4,
        audio_layers=1,
        streaming_layers=1,
        full_context_layers=1,
        dropout=0.0,
        unit_conditioning=unit_conditioning,
    )
    return JointModel(config, SymbolSizes(VOCABULARY, units), rngs=nnx.Rngs(0))


@jax.jit
def run(model):
    return model(SAMPLES, LENGTHS)


@pytest.mark.parametrize("unit_conditioning", ["add", "replace"])
def test_embeddings_by_how_likely_each_unit_is(unit_conditioning):
    plain, heard = run(make("none")), run(make(unit_conditioning))
    np.testing.assert_array_equal(heard.units, plain.units)
    table = np.asarray(make(unit_conditioning).text.embed.embedding[...], np.float64)
    table -= table.mean(axis=1, keepdims=True)
    table /= np.sqrt((table**2).mean(axis=1, keepdims=True) + 1e-6)
    likely = np.exp(np.asarray(plain.units, np.float64))
    expected = np.einsum("btu,ud->btd", likely / likely.sum(axis=-1, keepdims=True), table)
    expected += plain.layers[0] if unit_conditioning == "add" else 0
    mask = np.asarray(plain.mask)
    np.testing.assert_allclose(heard.layers[0][mask], expected[mask], atol=1e-5)
    np.testing.assert_array_equal(heard.layers[0][~mask], 0)


@pytest.mark.parametrize("unit_conditioning", ["add", "replace"])
def test_a_stream_equals_the_whole(unit_conditioning):
    model = make(unit_conditioning)
    whole, state, pieces = run(model), model.init_state(2), []
    step = jax.jit(lambda model, *arguments: model.step(*arguments))
    for start in range(0, 8, 2):
        left = np.clip(LENGTHS - start * FRAME, 0, 2 * FRAME)
        logits, _, state = step(model, SAMPLES[:, start * FRAME : (start + 2) * FRAME], left, state)
        pieces.append(logits)
    mask = np.asarray(whole.mask)
    np.testing.assert_allclose(jnp.concatenate(pieces, axis=1)[mask], whole.streaming[mask], atol=1e-4)


def test_without_text_there_are_no_units():
    assert run(make("none", 0)).units is None
