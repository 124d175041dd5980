"""Greedy (best path) decoding of CTC: each frame's likeliest symbol, repeats collapsed, blanks dropped."""

from __future__ import annotations

import numpy as np


def greedy(frames: np.ndarray, lengths: np.ndarray, blank: int = 0) -> list[np.ndarray]:
    """What each utterance spells: B arrays int32 [labels].

    frames: the likeliest symbol of each frame, int [B, T] (so that only these need to leave the device), or
    the logits, float [B, T, V]. lengths: int [B], frames; what stands beyond them is not read.
    """
    frames, lengths = np.asarray(frames), np.asarray(lengths)
    if frames.ndim == 3:
        frames = frames.argmax(axis=2)
    starts_run = np.ones(frames.shape, bool)
    starts_run[:, 1:] = frames[:, 1:] != frames[:, :-1]
    in_audio = np.arange(frames.shape[1]) < lengths[:, None]
    kept = starts_run & in_audio & (frames != blank)
    return [row[keep].astype(np.int32) for row, keep in zip(frames, kept)]
