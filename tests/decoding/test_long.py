"""Long recordings, compared with their results in one window, and with those of their parts."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from joint_st.config import FeaturesConfig, override
from joint_st.data.symbols import SymbolSizes
from joint_st.decoding import forward
from joint_st.decoding.decoders import Beam, Greedy
from joint_st.decoding.long import LongRecordings, make_windows
from joint_st.decoding.windows import Frames, Windows
from joint_st.distributed.mesh import make_mesh
from joint_st.heads.ctc import CtcHead
from joint_st.passes import PASSES
from tests.tiny import tiny_config

FEATURES = FeaturesConfig(mels=16)
FRAME = FEATURES.samples_per_frame


class LocalModel:
    """Stands in for the joint model: a frame's symbol is that of its loudest sample, and near it, likewise.

    The streaming pass hears `reach` frames before a frame, the full-context pass as many after it, too.
    """

    reach = 3

    def first_pass(self, audio, lengths):
        level = jnp.abs(audio.astype(jnp.float32)).reshape(audio.shape[0], -1, FRAME).max(axis=2)
        return level, jnp.arange(level.shape[1]) < -(-lengths[:, None] // FRAME)

    def pass_over(self, name, level, mask):
        heard = [jnp.pad(level, ((0, 0), (k, 0)))[:, : level.shape[1]] for k in range(1, self.reach + 1)]
        if name == "full_context":
            heard += [jnp.pad(level, ((0, 0), (0, k)))[:, k:] for k in range(1, self.reach + 1)]
        return jax.nn.one_hot(level.astype(jnp.int32), 8) * 9 + jnp.sin(sum(heard)[..., None] * jnp.arange(8) / 100)

    def head(self, name):
        return LocalHead()


class LocalHead(CtcHead):
    """CTC whose logits are the outputs of the passes."""

    def __init__(self):
        pass

    def emissions(self, x):
        return x


@pytest.fixture
def local(monkeypatch):
    """Decoder of LocalModel in windows of 60 frames, of which 10 are context on either side."""
    monkeypatch.setattr(forward, "merge", lambda structure, weights: LocalModel())
    config = tiny_config("nowhere", {"model.features": FEATURES})
    mesh = make_mesh(config.parallel)
    seconds = {"window_seconds": 60 * FRAME / 16_000, "context_seconds": 10 * FRAME / 16_000}
    return LongRecordings(config, SymbolSizes(8), mesh, [Greedy(), Beam(4, 3)], PASSES, **seconds), mesh


def speech(frames: int, seed: int) -> np.ndarray:
    """Return a symbol a frame, blanks (0) between words of up to 5 frames, of which neighbours may be the same."""
    rng = np.random.default_rng(seed)
    symbols = []
    while len(symbols) < frames:
        symbols += [*rng.integers(1, 8, rng.integers(1, 6)), *[0] * rng.integers(1, 4)]
    return np.repeat(np.array(symbols[:frames], np.int16), FRAME)


@pytest.mark.parametrize("frames", [1, 59, 60, 61, 80, 101, 400])
def test_what_hears_little_context_is_not_changed_by_windows(local, frames):
    decode, mesh = local
    audio = speech(frames, frames)
    with jax.set_mesh(mesh):
        found = decode({}, audio[: len(audio) - FRAME // 2])
    spelled = [symbol for symbol, _ in itertools.groupby(audio[::FRAME]) if symbol]
    for decoder, head in itertools.product(("greedy", "beam 4"), PASSES):
        np.testing.assert_array_equal(found[decoder][head], spelled)


def test_no_array_grows_with_the_recording(local):
    decode, mesh = local
    shapes = set()

    def watched(run):
        def call(*arrays, **named):
            shapes.add(tuple(x.shape for x in jax.tree.leaves(arrays)))
            return run(*arrays, **named)

        return call

    decode._hear_windows = watched(decode._hear_windows)
    decode._decode_pieces = {name: list(map(watched, own)) for name, own in decode._decode_pieces.items()}
    with jax.set_mesh(mesh):
        for frames in (10, 100, 500):
            decode({}, speech(frames, 0))
    n = mesh.size
    assert shapes == {((n, 60 * FRAME), (n,)), ((n, 60, 8), (n,), (n,))}


def test_windows_are_of_the_length_of_what_was_trained_on():
    for longest, seconds in ((1.0, 8.0), (4.0, 8.0), (12.0, 24.0), (20.0, 30.0)):
        assert override(tiny_config("nowhere"), {"data.max_seconds": longest}).window_seconds == seconds
    for seconds, context in ((3.0, 0.76), (8.0, 2.0), (16.0, 4.0), (30.0, 4.0)):
        windows = make_windows(seconds, FEATURES)
        assert (windows.size, windows.context) == (seconds * 16_000, context * 16_000)


def test_seams_are_in_pauses():
    """A seam is in the stretch with the highest blank probability in both windows together, even if one of them prefers
    another."""
    windows = Windows(100 * FRAME, 20 * FRAME, FRAME, pause=3)
    own, after = (Frames(np.full(100, -5.0, np.float32), np.arange(100) % 7) for _ in range(2))
    # Overlap: frames 160 to 199 of the recording; its middle half: 170 to 190.
    own.blanks[[62, 63, 64]] = after.blanks[[2, 3, 4]] = 0
    own.blanks[[75, 76, 77]] = 0
    own.blanks[[82, 83, 84]] = after.blanks[[22, 23, 24]] = -0.1
    assert windows.seam(own, after, begin=100, after_begin=160) == 183


def collapsed(symbols) -> list[int]:
    return [symbol for symbol, _ in itertools.groupby(np.asarray(symbols).tolist()) if symbol]


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3])
def test_labels_on_both_sides_of_a_seam_are_those_of_the_stitched_frames(share):
    """Also where speech is so fluent that few frames of the overlap, or none, are blanks."""
    windows, sure = Windows(200, 50, 1, pause=5), 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        repeated = np.repeat(random.integers(1, 9, 300), random.integers(1, 4, 300))[:300]
        symbols = np.where(random.random(300) < share, 0, repeated)
        # Where a label is not sure, the blank is nearly as likely.
        blanks = np.where(symbols == 0, random.uniform(0.5, 1, 300), random.uniform(0, 0.45, 300))
        both = [Frames(np.log(blanks[b : b + 200]).astype(np.float32), symbols[b : b + 200]) for b in (0, 100)]
        both[1].symbols[:] = np.where(random.random(200) < 0.05, 0, both[1].symbols)  # windows seldom differ
        seam = windows.seam(*both, 0, 100)
        assert 125 <= seam < 176
        own, after = both[0].symbols[:seam], both[1].symbols[seam - 100 :]
        assert collapsed(own) + collapsed(after) == collapsed(np.concatenate([own, after]))
        sure += symbols[seam] == 0
    assert sure == 300 or share < 0.3


def test_a_seam_is_at_a_sure_blank_even_if_a_longer_stretch_without_one_is_quieter():
    windows = Windows(200, 50, 1, pause=5)
    blanks = np.where(np.arange(300) % 2, 0.999, 1e-5)
    blanks[149:156] = [0.999, 0.35, 0.35, 0.999, 0.999, 1e-5, 0.999]
    symbols = np.where(blanks > 0.5, 0, 1 + np.arange(300) // 2 % 20)
    symbols[150:152] = 7
    own, after = (Frames(np.log(blanks[b : b + 200]), symbols[b : b + 200]) for b in (0, 100))
    assert symbols[windows.seam(own, after, 0, 100)] == 0
