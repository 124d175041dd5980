"""Keeps decoded speech in memory, so that later epochs do not decode it again."""

from __future__ import annotations

import threading
from collections.abc import Callable

from joint_st.data.augmentation import Speech

GIB = 2**30


class KeptSpeech:
    """Speech of a data set's rows, as it is before augmentation, up to some GiB of samples; further rows are read again
    each time.

    Nothing that is kept makes room for another row: an epoch reads each row once, so that the row read longest ago is the
    one needed next.
    """

    def __init__(self, gib: float):
        self._left = int(gib * GIB)
        self._rows: dict[int, Speech] = {}
        self._lock = threading.Lock()

    def __call__(self, n: int, read: Callable[[int], Speech]) -> Speech:
        """Return the speech of row `n`, by `read(n)` if it is not kept. Its samples must not be changed in place."""
        kept = self._rows.get(n)
        if kept is not None:
            return kept
        speech = read(n)
        size = speech.audio.nbytes
        with self._lock:
            if size <= self._left and n not in self._rows:
                # A copy, because what was read may be a part of a longer array.
                audio = speech.audio.copy()
                audio.flags.writeable = False
                self._rows[n] = speech = speech._replace(audio=audio)
                self._left -= size
        return speech
