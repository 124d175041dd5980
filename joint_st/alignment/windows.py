"""A long recording as windows that overlap: memory, and attention over everything, stay within one window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Windows:
    """Windows of `size` samples, of whose frames those of `context` samples on either side are not kept.

    Both are whole numbers of frames of `samples_per_frame`. The first window keeps its beginning, so that it looks
    ahead by two contexts; what is said at the seams is heard with a context before it and after it.
    """

    size: int
    context: int
    samples_per_frame: int

    @property
    def kept(self) -> int:
        """Samples of each window whose frames are kept."""
        return self.size - 2 * self.context

    def cut(self, audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Audio int16 [samples] as (int16 [windows, size] with zeros behind the end, lengths int32 [windows])."""
        begins = self._begins(len(audio))
        rows = np.zeros((len(begins), self.size), audio.dtype)
        lengths = np.zeros(len(begins), np.int32)
        for row, begin in enumerate(begins):
            piece = audio[begin : begin + self.size]
            rows[row, : len(piece)] = piece
            lengths[row] = len(piece)
        return rows, lengths

    def stitch(self, frames: np.ndarray, samples: int) -> np.ndarray:
        """What the frames of each window became, [windows, F, ...], as [T, ...] of audio of so many samples."""
        parts = []
        for k, begin in enumerate(self._begins(samples)):
            first = (k * self.kept - begin) // self.samples_per_frame
            parts.append(frames[k, first : first + self.kept // self.samples_per_frame])
        return np.concatenate(parts)[: -(-samples // self.samples_per_frame)]

    def _begins(self, samples: int) -> list[int]:
        return [max(begin - self.context, 0) for begin in range(0, samples, self.kept)]
