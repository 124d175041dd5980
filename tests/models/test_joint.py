"""The whole model: a stream equals the whole, later audio changes nothing, junk in the padding changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from joint_st.config import FeaturesConfig, ModelConfig, SpecAugmentConfig
from joint_st.data.symbols import SymbolSizes
from joint_st.heads.model import JointModel
from joint_st.passes import PASSES

VOCABULARY = 7
FRAME = 640


def make(units=0, **fields):
    config = dict(
        features=FeaturesConfig(mels=8),
        width=8,
        heads=2,
        feed_forward=2,
        kernel=3,
        left_context=4,
        audio_layers=1,
        streaming_layers=2,
        full_context_layers=1,
    )
    return JointModel(ModelConfig(**{**config, **fields}), SymbolSizes(VOCABULARY, units), rngs=nnx.Rngs(0))


@jax.jit
def run(model, audio, lengths, key=None):
    """Return the encoder's outputs, with logits instead of the passes' embeddings."""
    encoded = model(audio, lengths, None, key)
    return encoded._replace(**{name: model.head(name).emissions(getattr(encoded, name)) for name in PASSES})


@jax.jit
def advance(model, audio, lengths, state):
    x, mask, state = model.step(audio, lengths, state)
    return model.head("streaming").emissions(x), mask, state


@jax.jit
def stream(model, audio, lengths, state):
    return model.stream_step(audio, lengths, state)


@pytest.fixture(scope="module")
def model():
    return make()


@pytest.fixture(scope="module")
def audio():
    """int16 [3, 12 frames] and lengths that end inside a frame, inside a hop, and at once."""
    noise = np.random.default_rng(0).normal(size=(3, 12 * FRAME)) * 3000
    return noise.astype(np.int16), np.array([12 * FRAME, 5 * FRAME + 77, 1], np.int32)


def test_frames_are_counted_up(model, audio):
    outputs = run(model, *audio)
    assert outputs.streaming.shape == (3, 12, VOCABULARY)
    assert outputs.mask.sum(axis=1).tolist() == [12, 6, 1]


def test_the_passes_one_after_the_other_are_those_of_the_whole(model, audio):
    samples, lengths = audio
    whole = model(samples, lengths)
    x, mask = model.first_pass(samples, lengths)
    for name in PASSES:
        found = np.asarray(model.pass_over(name, x, mask))[mask]
        np.testing.assert_allclose(found, np.asarray(getattr(whole, name))[mask], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 4])
def test_a_stream_emits_what_the_whole_does(audio, frames):
    """This holds even if another stream was in its row before, and if it pauses for a turn."""
    samples, lengths = audio
    model = make()
    bias = model.head("streaming").linear.bias
    whole = run(model, samples, lengths)
    # So that no symbol is the likeliest everywhere.
    bias[...] = bias[...] - whole.streaming[whole.mask].mean(axis=0)
    whole = run(model, samples, lengths)
    expected = model.head("streaming").greedy(whole.streaming, whole.mask)
    assert np.count_nonzero(expected) > 5
    _, _, _, state = stream(model, samples, lengths, model.init_stream(3))
    state, pieces = model.replace_stream(jnp.array([True] * 3), state, model.init_stream(3)), []
    for start in range(0, 12, frames):
        piece = samples[:, start * FRAME : (start + frames) * FRAME]
        left = np.clip(lengths - start * FRAME, 0, frames * FRAME)
        _, _, _, paused = stream(model, piece[::-1], left, state)
        state = model.replace_stream(jnp.array([False] * 3), state, paused)
        emitted, _, mask, state = stream(model, piece, left, state)
        pieces.append(emitted)
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), expected)


@pytest.mark.parametrize("frames", [1, 4])
def test_a_stream_equals_the_whole(model, audio, frames):
    samples, lengths = audio
    whole = run(model, samples, lengths)
    state, pieces = model.init_state(3), []
    for start in range(0, 12, frames):
        piece = samples[:, start * FRAME : (start + frames) * FRAME]
        left = np.clip(lengths - start * FRAME, 0, frames * FRAME)
        logits, mask, state = advance(model, piece, left, state)
        pieces.append((logits, mask))
    logits, mask = (np.concatenate(x, axis=1) for x in zip(*pieces))
    np.testing.assert_array_equal(mask, whole.mask)
    np.testing.assert_allclose(logits[mask], np.asarray(whole.streaming)[mask], rtol=1e-4, atol=1e-5)


def test_the_streaming_head_hears_nothing_of_later_audio(model, audio):
    samples, lengths = audio
    frames = 7
    changed = samples.copy()
    changed[:, frames * FRAME :] = 12345
    before, after = run(model, samples, lengths), run(model, changed, lengths)
    np.testing.assert_array_equal(before.streaming[:, :frames], after.streaming[:, :frames])
    assert not np.allclose(before.full_context[0, :frames], after.full_context[0, :frames])
    assert model.look_ahead == 0


def test_a_stream_with_look_ahead_equals_the_whole_and_hears_to_the_end_of_a_block(audio):
    """Blocks of 160 ms are 4 frames; the second utterance ends inside its second block."""
    samples, lengths = audio
    model = make(look_ahead_ms=(160, 0))
    assert model.look_ahead == 3
    whole = run(model, samples, lengths)
    state, pieces = model.init_state(3), []
    for start in range(0, 12, 4):
        piece = samples[:, start * FRAME : (start + 4) * FRAME]
        left = np.clip(lengths - start * FRAME, 0, 4 * FRAME)
        logits, mask, state = advance(model, piece, left, state)
        pieces.append((logits, mask))
    logits, mask = (np.concatenate(x, axis=1) for x in zip(*pieces))
    np.testing.assert_array_equal(mask, whole.mask)
    np.testing.assert_allclose(logits[mask], np.asarray(whole.streaming)[mask], rtol=1e-4, atol=1e-5)
    changed = samples.copy()
    changed[:, 7 * FRAME :] = 12345
    after = run(model, changed, lengths)
    np.testing.assert_array_equal(after.streaming[:, :4], whole.streaming[:, :4])
    assert not np.isclose(after.streaming[0, 4:], whole.streaming[0, 4:]).all(axis=-1).any()


def test_text_sees_ahead_within_blocks_of_as_many_text_frames():
    model = make(units=9, look_ahead_ms=(0, 160), text_layers=1)

    @jax.jit
    def streaming(model, units, block):
        encoded = model.encode_text(units, jnp.ones_like(units), 12, block=block)
        return model.shared(encoded.x, encoded.mask, block=block).streaming[0]

    units = jnp.arange(12)[None] % 7 + 2
    for block, first in ((1, 6), (4, 4)):
        one, other = (streaming(model, own, jnp.int32(block)) for own in (units, units.at[0, 6].set(1)))
        assert np.flatnonzero(~np.isclose(one, other, atol=1e-6).all(axis=-1))[0] == first


def test_junk_after_the_end_changes_nothing(model, audio):
    samples, lengths = audio
    junk = np.where(np.arange(samples.shape[1]) < lengths[:, None], samples, 32767).astype(np.int16)
    a, b = run(model, samples, lengths), run(model, junk, lengths)
    mask = np.asarray(a.mask)
    for name in ("streaming", "full_context"):
        np.testing.assert_array_equal(np.asarray(getattr(a, name))[mask], np.asarray(getattr(b, name))[mask])


def test_bfloat16_stays_near_float32_and_logits_are_float32(model, audio):
    half = make(compute_dtype="bfloat16")
    assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(nnx.state(half, nnx.Param)))
    a, b = run(model, *audio), run(half, *audio)
    assert b.full_context.dtype == jnp.float32
    np.testing.assert_allclose(a.full_context, b.full_context, atol=0.15)
    state = half.init_state(3)
    logits, _, _ = advance(half, audio[0], audio[1], state)
    np.testing.assert_allclose(logits[np.asarray(b.mask)], b.streaming[np.asarray(b.mask)], atol=0.05)


def test_a_key_turns_augmentation_and_dropout_on(audio):
    still = make(dropout=0.0)
    key = jax.random.key(0)
    plain = run(still, *audio).streaming
    np.testing.assert_allclose(plain, run(still, *audio, key).streaming, atol=1e-6)
    augment = SpecAugmentConfig(frequency_width=4, time_share=0.5)
    augmented = jax.jit(lambda model, key: model(*audio, augment, key))(still, key)
    assert not np.allclose(plain, still.head("streaming").emissions(augmented.streaming))
    dropping = make(dropout=0.5)
    assert not np.allclose(run(dropping, *audio).streaming, run(dropping, *audio, key).streaming)


@pytest.mark.slow
def test_remat_changes_no_value(audio):
    plain, remat = make(), make(remat=True)

    def loss(model):
        return jnp.sum(model(*audio).full_context ** 2)

    for a, b in zip(*(jax.tree.leaves(jax.jit(jax.grad(loss))(m)) for m in (plain, remat))):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
