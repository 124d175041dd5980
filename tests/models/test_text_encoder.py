"""The text encoder: what each text frame holds, what is masked, and that nothing leaks from the future."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from joint_st.config import ModelConfig, TextConfig
from joint_st.data.confusions import Confusions, confusion_rates
from joint_st.data.symbols import SymbolSizes
from joint_st.heads.model import JointModel
from joint_st.models.text_encoder import most_frames, repetitions, sinusoids

VOCABULARY, UNITS, WIDTH, FRAMES = 6, 9, 8, 12
IDS = np.array([[3, 4, 4, 8], [5, 2, 0, 0]])
REPETITIONS = np.array([[2, 1, 3, 1], [1, 3, 0, 0]])


def make(**fields) -> JointModel:
    config = {"width": WIDTH, "heads": 2, "feed_forward": 2, "kernel": 3, "left_context": 4, "audio_layers": 0}
    config = ModelConfig(**{**config, "streaming_layers": 1, "full_context_layers": 1, "dropout": 0.0, **fields})
    return JointModel(config, SymbolSizes(VOCABULARY, UNITS), rngs=nnx.Rngs(0))


def encode(model, augment=None, key=None, augmented=None, ids=IDS, counts=REPETITIONS):
    return jax.device_get(model.encode_text(jnp.array(ids), jnp.array(counts), FRAMES, augment, key, augmented))


def normed_embeddings(model):
    table = np.asarray(model.text.embed.embedding[...], np.float64)
    return (table - table.mean(axis=1, keepdims=True)) / np.sqrt(table.var(axis=1, keepdims=True) + 1e-6)


def test_without_layers_it_is_an_embedding_repeated():
    model = make()
    found, table = encode(model), normed_embeddings(model)
    for row in range(2):
        frames = np.repeat(IDS[row], REPETITIONS[row])
        np.testing.assert_allclose(found.x[row, : len(frames)], table[frames], atol=1e-5)
        assert not found.x[row, len(frames) :].any()
        assert found.mask[row].sum() == len(frames)
        assert found.unit[row, : len(frames)].tolist() == np.repeat(np.arange(4), REPETITIONS[row]).tolist()


def test_blanks_stand_for_the_frames_that_repeat_a_unit():
    model = make(text_blanks=True)
    found, table = encode(model), normed_embeddings(model)
    for row, frames in enumerate([[3, 0, 4, 4, 0, 0, 8], [5, 2, 0, 0]]):
        np.testing.assert_allclose(found.x[row, : len(frames)], table[frames], atol=1e-5)
        assert found.mask[row].sum() == len(frames)


def test_what_enters_the_shared_layers_is_scaled():
    model = make(text_positions="sinusoidal", text_layers=1)
    scaled = make(text_positions="sinusoidal", text_layers=1, text_scale=0.3)
    np.testing.assert_allclose(encode(scaled).x, 0.3 * encode(model).x, rtol=1e-6)


def test_sinusoidal_positions_are_added():
    plain, placed = encode(make()), encode(make(text_positions="sinusoidal"))
    added = placed.x[0, :7] - plain.x[0, :7]
    np.testing.assert_allclose(added, sinusoids(FRAMES, WIDTH)[:7], atol=1e-5)
    assert sinusoids(3, 4)[2] == pytest.approx([np.sin(2), np.sin(0.02), np.cos(2), np.cos(0.02)])


def test_masks_and_noise_fall_on_the_rows_asked_for():
    model, key = make(), jax.random.key(0)
    clean = encode(model)
    ids, counts = np.tile(IDS[0], (200, 1)), np.tile(REPETITIONS[0], (200, 1))
    augmented = jnp.arange(200) < 100
    spans = TextConfig(mask_share=0.3, mask_span=2)
    found = encode(model, spans, key, augmented, ids, counts)
    masked = np.isclose(found.x[:, :7], np.asarray(model.text.masked[...])).all(axis=-1)
    assert not masked[100:].any()
    assert abs(masked[:100].mean() - 0.3) < 0.06
    kept = np.broadcast_to(clean.x[0, :7], (200, 7, WIDTH))
    np.testing.assert_allclose(found.x[:, :7][~masked], kept[~masked], atol=1e-5)
    noisy = encode(model, TextConfig(mask_share=0.0, noise=0.5), key, augmented, ids, counts)
    assert abs((noisy.x[:100, :7] - kept[:100]).std() - 0.5) < 0.02
    np.testing.assert_allclose(noisy.x[100:, :7], kept[100:], atol=1e-5)
    np.testing.assert_array_equal(encode(model, spans, None).x, clean.x)
    wrong = encode(model, TextConfig(mask_share=0.0, substituted_share=0.5), key, augmented, ids, counts)
    same = np.isclose(wrong.x[:, :7], kept[0], atol=1e-5).all(axis=-1)
    assert same[100:].all() and abs(same[:100].mean() - (0.5 + 0.5 / UNITS)) < 0.08


def test_noise_is_gaussian_in_bfloat16_too():
    model = make(compute_dtype="bfloat16")
    ids, counts = np.tile(IDS[0], (4000, 1)), np.tile(REPETITIONS[0], (4000, 1))
    noisy = encode(model, TextConfig(mask_share=0.0, noise=100.0), jax.random.key(0), None, ids, counts).x[:, :7]
    noise = (noisy.astype(np.float32) - encode(model).x[0, :7].astype(np.float32)) / 100
    assert noisy.dtype == jnp.bfloat16
    assert abs(noise.mean()) < 0.006 and abs(noise.std() - 1) < 0.01
    assert noise.max() > 3.5 and noise.min() < -3.5


def test_the_gradient_of_a_frequent_unit_is_exact_in_bfloat16_too():
    """Each of 7 units takes a thousand frames, whose gradients add up in float32."""
    random = np.random.default_rng(0)
    ids, counts = random.integers(2, UNITS, (200, 36)), np.ones((200, 36), int)
    wanted = jnp.array(random.normal(0.5, 1, (200, 36, WIDTH)), jnp.float32)

    def gradient(dtype):
        structure, weights = nnx.split(make(compute_dtype=dtype))

        def total(weights):
            x = nnx.merge(structure, weights).encode_text(jnp.array(ids), jnp.array(counts), 36).x
            return jnp.sum(x.astype(jnp.float32) * wanted)

        return np.asarray(jax.grad(total)(weights)["text"]["embed"]["embedding"][...])

    found, expected = gradient("bfloat16"), gradient("float32")
    assert np.linalg.norm(found - expected) < 0.01 * np.linalg.norm(expected)


def test_units_are_confused_as_counted():
    """Units 3, 4 and 8 of 200 texts; 3 is heard as 5 or missed, 4 is never wrong, 8 was never counted."""
    heard, inserted = np.zeros((UNITS, UNITS), int), np.zeros(UNITS, int)
    heard[3, [3, 5, 0]], heard[4, 4], inserted[[6, 7]] = [10, 6, 4], 20, [3, 1]
    rates = confusion_rates(Confusions(tuple("abcdefghi"), heard, inserted))
    model, plain = make(text_blanks=True), TextConfig(mask_share=0.0)
    ids, counts = np.tile(IDS[0], (400, 1)), np.tile([2, 1, 3, 1], (400, 1))
    augmented = jnp.arange(400) < 200
    found = jax.device_get(
        model.encode_text(
            jnp.array(ids), jnp.array(counts), FRAMES, plain, jax.random.key(0), augmented, confusions=rates
        )
    ).x
    table = normed_embeddings(model)
    seen = np.argmin(((found[:, :7, None] - table) ** 2).sum(-1), axis=-1)
    clean = [3, 0, 4, 4, 0, 0, 8]
    assert (seen[200:] == clean).all()
    first = [np.mean(seen[:200, 0] == unit) for unit in (3, 5, 0)]
    assert first == pytest.approx([0.5, 0.3, 0.2], abs=0.08)
    assert (seen[:200, [2, 3, 6]] == [4, 4, 8]).all()
    # Four insertions for forty units, so 0.4 in a text of four, over the three frames that repeat a unit.
    spare = seen[:200][:, [1, 4, 5]]
    assert np.mean(spare != 0) == pytest.approx(0.4 / 3, abs=0.03)
    assert set(spare[spare != 0]) == {6, 7} and np.mean(spare[spare != 0] == 6) == pytest.approx(0.75, abs=0.1)
    assert not np.isnan(found).any() and not found[:, 7:].any()


def test_without_blanks_no_frame_of_a_missed_unit_is_blank():
    """Unit 8 is always missed, and its frames repeat what is before it; 3, always missed too, has nothing before it."""
    heard = np.zeros((UNITS, UNITS), int)
    heard[[3, 4, 8], [0, 4, 0]] = 5
    rates = confusion_rates(Confusions(tuple("abcdefghi"), heard, np.zeros(UNITS, int)))
    model, plain = make(), TextConfig(mask_share=0.0)
    ids, counts = jnp.array(IDS[:1]), jnp.array([[2, 1, 2, 2]])
    found = model.encode_text(ids, counts, FRAMES, plain, jax.random.key(0), confusions=rates).x
    seen = np.argmin(((np.asarray(found)[0, :7, None] - normed_embeddings(model)) ** 2).sum(-1), axis=-1)
    assert seen.tolist() == [4] * 7


def test_its_own_layers_are_causal():
    model = make(text_layers=2)
    before, changed = encode(model), IDS.copy()
    changed[0, 3] = 2  # the last frame of seven
    after = encode(model, ids=changed)
    np.testing.assert_allclose(after.x[0, :6], before.x[0, :6], atol=1e-6)
    assert np.abs(after.x[0, 6] - before.x[0, 6]).max() > 1e-3


@pytest.mark.parametrize("kind", ["none", "fixed", "random", "durations"])
def test_repetitions_outside_training_and_the_bound(kind):
    text, lengths = TextConfig(repetition=kind, repeat_least=1, repeat_most=4), jnp.array([4, 2])
    expected = {"none": [1, 1, 1, 1], "fixed": [4, 4, 4, 4]}.get(kind, [2, 3, 2, 3])
    found = np.asarray(repetitions(text, lengths, 4))
    assert found.tolist() == [expected, [*expected[:2], 0, 0]]
    drawn = np.asarray(repetitions(text, jnp.full(500, 4), 4, jax.random.key(0)))
    assert (set(drawn.ravel()) == {1, 2, 3, 4}) == (kind in ("random", "durations"))
    assert drawn.sum(axis=1).max() <= most_frames(text, 4)


def test_text_leaves_the_weights_beside_it_as_they_are():
    """An audio-only model of the same seed begins with the same weights."""
    config = make().config
    alone = nnx.to_pure_dict(nnx.state(JointModel(config, SymbolSizes(VOCABULARY), rngs=nnx.Rngs(0))))
    joint = nnx.to_pure_dict(nnx.state(JointModel(config, SymbolSizes(VOCABULARY, UNITS), rngs=nnx.Rngs(0))))
    assert set(joint) - set(alone) == {"text", "unit_head"}
    for part, weights in alone.items():
        jax.tree.map(np.testing.assert_array_equal, weights, joint[part])
