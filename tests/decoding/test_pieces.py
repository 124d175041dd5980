"""What is fused with a beam, and what rescores it, reads the windows of a long recording as one text."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from joint_st.config import FeaturesConfig, LmModelConfig
from joint_st.data.symbols import SymbolSizes
from joint_st.decoding import forward
from joint_st.decoding.decoders import Beam, NBestScores
from joint_st.decoding.fusion import Fusion, Weights
from joint_st.decoding.fusion.build import Fused
from joint_st.decoding.fusion.hot_words import HotWords
from joint_st.decoding.fusion.label_lm import LabelLM
from joint_st.decoding.fusion.neural_lm import NeuralLM
from joint_st.decoding.fusion.word_lm import WordLM
from joint_st.decoding.long import LongRecordings
from joint_st.decoding.rescoring import Rescoring, RescoringWeights
from joint_st.decoding.timed import Timed
from joint_st.distributed.mesh import make_mesh
from joint_st.lm.estimate import estimate
from joint_st.models.language_model import init_lm
from joint_st.ops.prefix_beam import prefix_beam_search
from joint_st.passes import FULL_CONTEXT
from tests.decoding.test_long import LocalHead
from tests.tiny import UNOPTIMISED, call_on_eight_devices, tiny_config

FEATURES = FeaturesConfig(mels=16)
FRAME = FEATURES.samples_per_frame
LETTERS = ["", "\u2047", " ", *"acehimnorst"]
TEXTS = ["the cat sat on a mat", "a cat ran to the mat", "the rat sat on a hat", "the man ran a race"]

LOGITS = np.full((2 * len(LETTERS), len(LETTERS)), -4.0, np.float32)
"""Logits of frames by level: of those that are sure of a symbol, and of those that slightly prefer the blank to it."""
np.fill_diagonal(LOGITS, 6.0)
LOGITS[0, 0] = 30.0
LOGITS[len(LETTERS) :, 0] = 1.2
np.fill_diagonal(LOGITS[len(LETTERS) :], 1.0)


class TableModel:
    """Stands in for the joint model: the level of a frame is the row of `LOGITS` that it has."""

    def first_pass(self, audio, lengths):
        level = audio.reshape(audio.shape[0], -1, FRAME).max(axis=2)
        return level, jnp.arange(level.shape[1]) < -(-lengths[:, None] // FRAME)

    def pass_over(self, name, level, mask):
        return jnp.asarray(LOGITS)[level]

    def head(self, name):
        return LocalHead()


def recording(parts: Sequence[str], unsure: str = "") -> np.ndarray:
    """Return the level of each frame, int16 [T], where neighbouring parts are in windows of 60 frames of their own.

    unsure: letters to which their frames slightly prefer the blank.
    """
    frames: list[int] = []
    for part in parts:
        for letter in part:
            frames += [0, LETTERS.index(letter) + len(LETTERS) * (letter in unsure)]
        # Windows are kept for 40 frames each, and meet in frames 35 to 45 after that.
        frames += [0] * ((45 - len(frames)) % 40)
    return np.array(frames, np.int16)


def make_decode(decoder):
    """Return a decoder in windows of 60 frames, of which 10 are context on either side."""
    config = tiny_config("nowhere", {"model.features": FEATURES})
    seconds = {"window_seconds": 60 * FRAME / 16_000, "context_seconds": 10 * FRAME / 16_000}
    mesh = make_mesh(config.parallel)
    return LongRecordings(config, SymbolSizes(len(LETTERS)), mesh, [decoder], [FULL_CONTEXT], **seconds), mesh


def in_windows(decoder, levels):
    """Return what the decoder finds in the windows of a recording, and the number of programs that search them."""
    decode, mesh = make_decode(decoder)
    with jax.set_mesh(mesh):
        (found,) = decode({}, np.repeat(levels, FRAME)).values()
    (program,) = decode._decode_pieces[FULL_CONTEXT]
    return found[FULL_CONTEXT], program._jitted._cache_size()


def fused(kind: str) -> Fused:
    """Return what is fused, and what rescores: `labels`, `words`, or `both`."""
    symbols = [letter.replace(" ", "\u2581").replace("\u2047", "<unk>") for letter in LETTERS]
    labels = jax.device_put(LabelLM.of(estimate([list(text.replace(" ", "\u2581")) for text in TEXTS], 4), symbols))
    words = jax.device_put(WordLM.of(estimate([text.split() for text in TEXTS], 3), LETTERS))
    hot = HotWords.of(["sat on", "rat"], LETTERS)
    return {
        "labels": Fused(Fusion(labels, None, Weights(0.8, 1.3))),
        "words": Fused(Fusion(words, hot, Weights(0.6, 1.0))),
        "rescored": Fused(None, rescoring=Rescoring(labels, RescoringWeights(0.8, 1.3))),
        "both": Fused(Fusion(labels, hot, Weights(0.5, 1.3)), rescoring=Rescoring(words, RescoringWeights(0.4, 0.5))),
    }[kind]


@pytest.fixture(autouse=True)
def table_model(monkeypatch):
    monkeypatch.setattr(forward, "merge", lambda structure, weights: TableModel())


SAID = ("the cat sat ", "on a mat", " the rat ran")


@pytest.mark.parametrize("parts", [SAID, ("the ca", "t sat on a m", "at the rat ran")])
@pytest.mark.parametrize("kind", ["labels", "words", "rescored", "both"])
def test_a_text_in_pieces_has_the_labels_and_the_score_of_the_whole(kind, parts):
    """Spaces are unsure, also where windows meet: words would merge if texts began and ended there."""
    models, levels = fused(kind), recording(parts, " ")
    # Without fusion, the whole text is in a list that holds most choices of all of its spaces.
    wide = 64 if models.fusion else 512
    whole = prefix_beam_search(LOGITS[levels][None], np.array([len(levels)]), models.fusion, beam=wide, candidates=6)
    if models.rescoring:
        whole = models.rescoring.rescore(whole)
    found, programs = in_windows(Timed(Beam(64, 6, models), 3), levels)
    assert text_of(found.labels) == "".join(parts)
    np.testing.assert_array_equal(found.labels, whole.labels[0, 0, : whole.lengths[0, 0]])
    assert found.alternatives[0].score == pytest.approx(float(whole.scores[0, 0]), abs=1e-4)
    assert found.alternatives[0].labels.tolist() == found.labels.tolist()
    assert programs == 1
    plain, _ = in_windows(Beam(64, 6, models), levels)
    np.testing.assert_array_equal(plain, found.labels)


def test_the_state_of_a_neural_model_is_carried_too():
    config = LmModelConfig(width=6, layers=2)
    neural = NeuralLM(init_lm(config, len(LETTERS), 0), config, len(LETTERS))
    models, levels = Fused(Fusion(neural, None, Weights(0.3))), recording(SAID)
    whole = prefix_beam_search(LOGITS[levels][None], np.array([len(levels)]), models.fusion, beam=8, candidates=3)
    found, programs = in_windows(Timed(Beam(8, 3, models)), levels)
    assert text_of(found.labels) == "".join(SAID) and programs == 1
    assert found.alternatives[0].score == pytest.approx(float(whole.scores[0, 0]), abs=1e-4)


def test_hypotheses_to_tune_on_are_scored_as_whole_texts():
    models, levels = fused("both"), recording(SAID, " ")
    found, _ = in_windows(NBestScores(Beam(16, 6, models)), levels)
    labels = found.labels[0]
    whole = prefix_beam_search(LOGITS[levels][None], np.array([len(levels)]), models.fusion, beam=64, candidates=6)
    judged = models.rescoring.judge(labels[None, None], np.array([[len(labels)]]))
    assert text_of(labels) == "".join(SAID)
    assert found.scores[0] == pytest.approx(float(whole.scores[0, 0]), abs=1e-4)
    assert found.log_probs[0] == pytest.approx(float(judged.log_probs[0, 0]), abs=1e-4)
    assert found.counts[0] == judged.counts[0, 0] == 9


def text_of(labels) -> str:
    return "".join(LETTERS[label] for label in labels)


def read_on_eight_devices():
    forward.merge = lambda structure, weights: TableModel()
    parts = SAID * 4
    found, programs = in_windows(Beam(16, 6, fused("labels")), recording(parts, " "))
    assert jax.device_count() == 8 and programs == 1
    assert text_of(found) == "".join(parts)


def test_pieces_that_devices_share_are_one_text_too():
    call_on_eight_devices("tests.decoding.test_pieces:read_on_eight_devices", UNOPTIMISED)
