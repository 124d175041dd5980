"""Cuts a long recording into overlapping windows, so that memory and full attention stay within one window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from joint_st.config import FeaturesConfig

Tree = TypeVar("Tree")

PAUSE_SECONDS = 0.2
"""A seam is a blank in the middle of the stretch of this length with the highest blank probability."""


@dataclass(frozen=True)
class Windows:
    """Windows of `size` samples; the frames of `context` samples on either side are not kept.

    Both are whole numbers of frames of `samples_per_frame`. The first window keeps its beginning, so that it looks
    ahead by two contexts, and the last one keeps its end. Speech at a seam has a context before it and after it.
    """

    size: int
    context: int
    samples_per_frame: int
    pause: int = 1
    """Frames of the stretch around a seam."""

    @classmethod
    def of_seconds(cls, size: float, context: float, features: FeaturesConfig) -> Windows:
        """Make windows of about the given seconds, including the context on either side."""
        frame = features.samples_per_frame
        size, context = (features.nearest_frames(seconds) * frame for seconds in (size, context))
        return cls(size, context, frame, max(features.nearest_frames(PAUSE_SECONDS), 1))

    @property
    def kept(self) -> int:
        """Samples of each window (except the last) whose frames are kept."""
        return self.size - 2 * self.context

    def groups(self, audio: np.ndarray, together: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield the windows of audio int16 [samples], `together` of them at a time.

        A group is int16 [together, size], with zeros after the end and for missing windows; the lengths int32
        [together]; and the frame at which each existing window begins.
        """
        begins = self.begins(len(audio))
        for k in range(0, len(begins), together):
            own = begins[k : k + together]
            rows = np.zeros((together, self.size), audio.dtype)
            lengths = np.zeros(together, np.int32)
            for row, begin in enumerate(own):
                piece = audio[begin : begin + self.size]
                rows[row, : len(piece)] = piece
                lengths[row] = len(piece)
            yield rows, lengths, np.array(own) // self.samples_per_frame

    def stitch(self, frames: np.ndarray, samples: int) -> np.ndarray:
        """Join results for the frames of each window, [windows, F, ...], to [T, ...] for audio of a number of
        samples."""
        begins = self.begins(samples)
        parts = []
        for k, begin in enumerate(begins):
            first = (k * self.kept - begin) // self.samples_per_frame
            last = first + self.kept // self.samples_per_frame if k + 1 < len(begins) else None
            parts.append(frames[k, first:last])
        return np.concatenate(parts)[: -(-samples // self.samples_per_frame)]

    def begins(self, samples: int) -> list[int]:
        """Return the sample at which each window begins, for audio of a number of samples; window `k` is kept from
        `k * kept` on."""
        begins = [0]
        while begins[-1] + self.size < samples:
            begins.append(self.begin(len(begins)))
        return begins

    def begin(self, k: int) -> int:
        """Return the sample at which window `k` begins."""
        return max(k * self.kept - self.context, 0)

    def seam(self, blanks: np.ndarray, after: np.ndarray, begin: int, after_begin: int) -> int:
        """Return the frame of the recording at which the next window takes over, in the middle half of the overlap.

        blanks, after: log probability of the blank in the frames of each, float32 [F]. begin, after_begin: frame of
        the recording at which each begins.
        """
        context = self.context // self.samples_per_frame
        low, high = after_begin + context // 2, after_begin + context + context // 2 + 1
        both = blanks[low - begin : high - begin] + after[low - after_begin : high - after_begin]
        # Above all, the seam itself must be a blank; its neighbours distinguish a pause from the blank between two
        # labels.
        weights = np.ones(self.pause)
        weights[self.pause // 2] += self.pause
        around = np.convolve(both, weights[::-1], "valid")
        return low + int(np.argmax(around)) + self.pause // 2


def cut_frames(tree: Tree, first: jax.Array, count: jax.Array) -> tuple[Tree, jax.Array]:
    """Move the `count` [B] frames from `first` [B] on of arrays [B, T, ...] to the front; return also their mask [B,
    T]."""
    size = jax.tree.leaves(tree)[0].shape[1]
    frames = jnp.arange(size)
    places = jnp.minimum(first[:, None] + frames, size - 1)

    def cut(x):
        return jnp.take_along_axis(x, places.reshape(*places.shape, *[1] * (x.ndim - 2)), axis=1)

    return jax.tree.map(cut, tree), frames < count[:, None]
