"""Cuts a long recording into overlapping windows, so that memory and full attention stay within one window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from joint_st.config import FeaturesConfig
from joint_st.heads.base import Emissions, Head

Tree = TypeVar("Tree")

PAUSE_SECONDS = 0.2
"""A seam is a blank in the middle of the stretch of this length with the highest blank probability."""

SURE = float(np.log(0.5))
"""Log probability above which a frame is a blank, whatever else it may be."""


class Frames(NamedTuple):
    """What the frames of a window say of where it may end or begin."""

    blanks: np.ndarray
    """Log probability of the blank, float32 [..., F]."""
    symbols: np.ndarray
    """The symbol that greedy decoding takes, int32 [..., F]; 0 where it does not depend on the frame alone."""

    def of(self, *places: int) -> Frames:
        """Return what is at some places of the axes before the frames."""
        return Frames(self.blanks[places], self.symbols[places])

    def cut(self, first: int, last: int) -> Frames:
        """Return the frames from `first` to `last`."""
        return Frames(self.blanks[..., first:last], self.symbols[..., first:last])


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

    def seam(self, before: Frames, after: Frames, begin: int, after_begin: int) -> int:
        """Return the frame of the recording at which the next window takes over, in the middle half of the overlap.

        before, after: the frames of each window. begin, after_begin: frame of the recording at which each begins.
        """
        context = self.context // self.samples_per_frame
        low, high = after_begin + context // 2, after_begin + context + context // 2 + 1
        earlier = before.symbols[low - begin - 1 : high - begin - 1]
        before, after = before.cut(low - begin, high - begin), after.cut(low - after_begin, high - after_begin)
        both = before.blanks + after.blanks
        # The neighbours of a seam distinguish a pause from the blank between two labels.
        weights = np.ones(self.pause)
        weights[self.pause // 2] += self.pause
        around = np.convolve(both, weights[::-1], "valid")
        middle = slice(self.pause // 2, self.pause // 2 + len(around))
        # Above all, the seam itself is a blank in both windows. Fluent speech may have none: then no label may go on across
        # the seam, since the next window would emit it once more.
        sure = (np.minimum(before.blanks, after.blanks) > SURE)[middle]
        changes = (after.symbols == 0) | (after.symbols != earlier)
        for possible in (sure, changes[middle]):
            if possible.any():
                around = np.where(possible, around, -np.inf)
                break
        return low + int(np.argmax(around)) + self.pause // 2


def frames_of(head: Head, emissions: Emissions) -> Frames:
    """Return what emissions [B, F, ...] of a head say of seams, [B, F]."""
    return Frames(head.blank_scores(emissions), head.symbols(emissions))


def cut_frames(tree: Tree, first: jax.Array, count: jax.Array) -> tuple[Tree, jax.Array]:
    """Move the `count` [B] frames from `first` [B] on of arrays [B, T, ...] to the front; return also their mask [B,
    T]."""
    size = jax.tree.leaves(tree)[0].shape[1]
    frames = jnp.arange(size)
    places = jnp.minimum(first[:, None] + frames, size - 1)

    def cut(x):
        return jnp.take_along_axis(x, places.reshape(*places.shape, *[1] * (x.ndim - 2)), axis=1)

    return jax.tree.map(cut, tree), frames < count[:, None]
