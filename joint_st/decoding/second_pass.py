"""The second pass over a stream of any length: in windows that overlap, so that only the last one's frames are kept."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from joint_st.decoding.greedy import greedy
from joint_st.decoding.windows import Windows

FRAMES = 64
"""What is heard at once is padded to a multiple of this, so that a folder of utterances needs few compilations."""


class SecondPass:
    """The labels of one stream, as `joint_st.decoding.long` finds them: pieces of windows, parted at blanks.

    A stream no longer than a window is heard as a whole. Memory and the time of a pass are bounded by a window.
    """

    def __init__(self, hear: Callable, windows: Windows):
        """hear: from embeddings [1, F, D] and a mask [1, F] to the likeliest symbols and the blank's log probabilities,
        both [F]."""
        self._hear = hear
        self._windows = windows
        self._size = windows.size // windows.samples_per_frame
        self._labels: list[int] = []
        self._pieces: list[np.ndarray] = []
        self._length = 0
        self._count = 0
        # Of the window before: its symbols, blanks, the frame at which it begins, and that from which it is kept.
        self._before: tuple[np.ndarray, np.ndarray, int, int] | None = None

    @property
    def kept(self) -> int:
        """Frames whose embeddings are kept."""
        return sum(map(len, self._pieces))

    def add(self, embeddings: np.ndarray) -> None:
        """Take in what the streaming layers put out for the next frames, [C, D]."""
        self._pieces.append(embeddings)
        self._length += len(embeddings)
        while self._length - self._begin > self._size:
            x = np.concatenate(self._pieces)
            self._next_window(x[: self._size])
            left = self._begin - (self._length - len(x))
            # (A copy, so that the frames before it are let go.)
            self._pieces = [x[left:].copy()]

    def end(self) -> list[int]:
        """All labels, once the stream has ended."""
        if not self._length:
            return []
        self._next_window(np.concatenate(self._pieces))
        symbols, _, begin, first = self._before
        return self._labels + self._spelled(symbols[first - begin :])

    @property
    def _begin(self) -> int:
        """Frame at which the window that is waited for begins."""
        return self._windows.begin(self._count) // self._windows.samples_per_frame

    def _next_window(self, x: np.ndarray) -> None:
        """Hear a window, and spell what is kept of the one before it."""
        frames = len(x)
        padded = -(-frames // FRAMES) * FRAMES
        mask = np.arange(padded)[None] < frames
        symbols, blanks = self._hear(np.pad(x, ((0, padded - frames), (0, 0)))[None], mask)
        begin, first = self._begin, 0
        if self._before is not None:
            own, blanks_before, begin_before, first_before = self._before
            first = self._windows.seam(blanks_before, blanks, begin_before, begin)
            self._labels += self._spelled(own[first_before - begin_before : first - begin_before])
        self._before = symbols[:frames], blanks[:frames], begin, first
        self._count += 1

    @staticmethod
    def _spelled(symbols: np.ndarray) -> list[int]:
        return greedy(symbols[None], np.array([len(symbols)]))[0].tolist()
