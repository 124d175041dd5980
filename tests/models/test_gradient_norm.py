"""Empty frames (masks, digital silence, padding) do not change the norm of the gradient.

A layer norm multiplies the gradient of a frame that is exactly zero by 1/√epsilon = 1,000, layer after layer. All cases
go through one compiled function: the mask and the audio are its arguments.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from joint_st.config import Config, TextConfig
from joint_st.data.symbols import SymbolSizes
from joint_st.heads.model import init_weights, model_structure
from joint_st.models import front_end
from joint_st.models.functional import merge
from joint_st.ops.ctc import ctc_loss, frames_needed
from joint_st.ops.masks import length_mask

FRAME, FRAMES, VOCABULARY, UNITS = 640, 50, 6, 7
SIZES = SymbolSizes(VOCABULARY, UNITS, 1)
CONFIG = Config.model_validate(
    {
        "data": {"train": [{"kind": "manifest", "path": "none"}], "units": {"kind": "characters"}},
        "model": {
            "features": {"mels": 16},
            "width": 32,
            "heads": 2,
            "feed_forward": 2,
            "kernel": 5,
            "left_context": 8,
            "audio_layers": 2,
            "text_layers": 1,
            "streaming_layers": 2,
            "full_context_layers": 2,
            "dropout": 0.0,
        },
        "spec_augment": {"frequency_width": 4},
    }
)
LABELS = np.array([[1, 2, 3, 4, 5, 1], [3, 1, 2, 5, 4, 2]], np.int32)


def loss_of(head, x, mask):
    """Return the loss of both utterances, weighted as the training step weights them."""
    lengths = jnp.full(2, LABELS.shape[1])
    weights = head.weights(lengths, frames_needed(LABELS), mask.sum(axis=1), mask.any(axis=1))
    value, _ = ctc_loss(head.emissions(x), mask.sum(axis=1), LABELS, lengths)
    return jnp.sum(value * weights) / LABELS.size


@pytest.fixture(scope="module")
def weights():
    return init_weights(CONFIG, SIZES, jnp.uint32(0))


@pytest.fixture(scope="module")
def norm_of_speech(weights):
    """`(audio int16 [B, S], lengths [B] in samples, hidden bool [B, F], biases) -> float`: the gradient's norm."""
    structure = model_structure(CONFIG, SIZES)

    def loss(weights, audio, lengths, hidden):
        model = merge(structure, weights)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(front_end, "spec_augment", lambda x, lengths, key, **_: jnp.where(hidden[..., None], 0, x))
            encoded = model(audio, lengths, CONFIG.spec_augment, jax.random.key(0))
        total = 0.0
        for name in ("streaming", "full_context"):
            total += loss_of(model.head(name), getattr(encoded, name), encoded.mask)
        return total

    norm = jax.jit(lambda *arguments: optax.tree.norm(jax.grad(loss)(*arguments)))

    def of(audio, lengths, hidden=None, biases: float = 1.0) -> float:
        hidden = np.zeros((2, 4 * FRAMES), bool) if hidden is None else hidden
        scaled = jax.tree_util.tree_map_with_path(
            lambda path, x: x * biases if "front_end" in str(path) and "bias" in str(path) else x, weights
        )
        return float(norm(scaled, audio, lengths, hidden))

    return of


def speech():
    random = np.random.default_rng(0)
    return random.integers(-9000, 9000, (2, FRAMES * FRAME)).astype(np.int16), np.full(2, FRAMES * FRAME, np.int32)


def hidden(start: int, stop: int):
    """Return a time mask over feature frames (10 ms) `start` to `stop` of both utterances."""
    return np.tile((np.arange(4 * FRAMES) >= start) & (np.arange(4 * FRAMES) < stop), (2, 1))


def silenced(start: float, stop: float):
    """Speech with digital silence over a share of it, from `start` to `stop`."""
    audio, lengths = speech()
    audio[:, int(start * audio.shape[1]) : int(stop * audio.shape[1])] = 0
    return audio, lengths


@pytest.mark.parametrize("start, stop", [(0, 4), (0, 40), (0, 200), (60, 90), (60, 160), (160, 200), (199, 200)])
def test_a_time_mask_leaves_the_norm_of_the_gradient(norm_of_speech, start, stop):
    without = norm_of_speech(*speech())
    assert norm_of_speech(*speech(), hidden(start, stop)) < 3 * without


@pytest.mark.parametrize("start, stop", [(0.0, 0.3), (0.3, 0.6), (0.7, 1.0), (0.0, 1.0)])
def test_digital_silence_leaves_the_norm_of_the_gradient(norm_of_speech, start, stop):
    without = norm_of_speech(*speech())
    assert norm_of_speech(*silenced(start, stop)) < 3 * without
    assert norm_of_speech(*silenced(start, stop), hidden(40, 160)) < 3 * without


@pytest.mark.parametrize("frames", [30, 7, 1, 0])
def test_padding_leaves_the_norm_of_the_gradient(norm_of_speech, frames):
    audio, lengths = speech()
    without = norm_of_speech(audio, lengths)
    lengths[1] = frames * FRAME
    assert norm_of_speech(audio, lengths) < 3 * without
    assert norm_of_speech(audio, lengths, hidden(0, 200)) < 3 * without


def test_without_biases_a_time_mask_drowns_the_gradient(norm_of_speech):
    """The tests above would fail if the front end's biases began at zero."""
    without = norm_of_speech(*speech(), biases=0.0)
    assert np.isfinite(without)
    assert not norm_of_speech(*speech(), hidden(0, 40), biases=0.0) < 1000 * without


def test_masks_and_noise_in_text_leave_the_norm_of_the_gradient(weights):
    structure = model_structure(CONFIG, SIZES)
    units = np.array([[2, 3, 4, 5, 2, 3, 4, 5], [4, 2, 2, 3, 0, 0, 0, 0]], np.int32)

    def norm_with(text: TextConfig):
        def loss(weights, lengths, augment):
            model = merge(structure, weights)
            repeats = jnp.where(length_mask(lengths, 8), 3, 0)
            x, mask, _ = model.encode_text(units, repeats, 24, text, jax.random.key(1), augment)
            encoded = model.shared(x, mask)
            return loss_of(model.head("full_context"), encoded.full_context, encoded.mask)

        return jax.jit(lambda *arguments: optax.tree.norm(jax.grad(loss)(*arguments)))

    norm = norm_with(TextConfig(mask_share=0.8, mask_span=6, noise=0.5, substituted_share=0.5))
    off, on = np.zeros(2, bool), np.ones(2, bool)
    without = norm(weights, np.array([8, 4]), off)
    assert norm(weights, np.array([8, 4]), on) < 3 * without
    assert norm(weights, np.array([8, 0]), on) < 3 * without
