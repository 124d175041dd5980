"""Utterances by a synthesiser: what is drawn for each of them, and threads that speak several at once."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
import soxr

from joint_st.data.synthesis.espeak import Speech, Synthesizer

Item = TypeVar("Item")
Made = TypeVar("Made")

SAMPLE_RATE = 16_000
"""Hz."""

AHEAD = 64
"""Number of utterances that are made ahead of the one that is asked for."""

WORKERS = min(4, os.cpu_count() or 1)
"""Number of threads that speak, by default."""


@dataclasses.dataclass(frozen=True)
class Manner:
    """Ranges from which the delivery of each utterance is drawn evenly."""

    rates: tuple[int, int]
    """Words per minute."""
    pitches: tuple[int, int]
    """Pitch, on espeak-ng's scale from 0 to 100."""
    pitch_ranges: tuple[int, int] = (30, 70)
    """How far the pitch moves, on espeak-ng's scale from 0 to 100."""
    silence_s: tuple[float, float] = (0.05, 0.2)
    """Seconds of silence before the first and after the last word."""
    peaks: tuple[float, float] = (0.15, 0.8)
    """Peak of the speech over full scale."""


def say(rng: np.random.Generator, synthesizer: Synthesizer, text: str, voice: str, manner: Manner) -> Speech:
    """Speak a text in a voice, with a rate and a pitch that are drawn."""
    return synthesizer.speak(
        text,
        voice,
        rate=int(rng.integers(*manner.rates, endpoint=True)),
        pitch=int(rng.integers(*manner.pitches, endpoint=True)),
        pitch_range=int(rng.integers(*manner.pitch_ranges, endpoint=True)),
        seed=int(rng.integers(1 << 31)),
    )


def place(rng: np.random.Generator, speech: Speech, manner: Manner, least: int = 0) -> tuple[np.ndarray, int]:
    """Return speech at `SAMPLE_RATE` with silence around it and a peak that is drawn, float32 [samples] in units of the
    int16 range, and the sample at which it begins.

    The silence that the synthesiser leaves at the end is cut off, but not before sample `least` of the speech, which
    must hold a sample other than zero.
    """
    voiced = speech.audio[: max(least, np.flatnonzero(speech.audio)[-1] + 1)].astype(np.float32)
    resampled = soxr.resample(voiced, speech.sample_rate, SAMPLE_RATE, quality="HQ")
    before, after = (int(rng.uniform(*manner.silence_s) * SAMPLE_RATE) for _ in range(2))
    audio = np.zeros(before + len(resampled) + after, np.float32)
    gain = rng.uniform(*manner.peaks) * 32767 / np.abs(resampled).max()
    audio[before : before + len(resampled)] = gain * resampled
    return audio, before


def digitise(rng: np.random.Generator, audio: np.ndarray) -> np.ndarray:
    """Round samples in units of the int16 range to int16 [samples], with dither, so that there is no digital silence.

    audio: float32 [samples], which is changed.
    """
    dither = rng.random((2, len(audio)), np.float32)
    audio += dither[0] - dither[1]
    return np.rint(np.clip(audio, -32768, 32767)).astype(np.int16)


class Speakers(threading.local):
    """A synthesiser for each thread that asks for one."""

    def __init__(self):
        self.synthesizer = Synthesizer()


def in_order(work: Callable[[Item], Made], items: Iterable[Item], workers: int = WORKERS) -> Iterator[Made]:
    """Yield `work(item)` for each item, in order. Threads work ahead: espeak-ng and the resampler release the
    interpreter lock."""
    ahead: collections.deque[concurrent.futures.Future[Made]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                ahead.append(pool.submit(work, item))
                if len(ahead) > AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for waiting in ahead:  # there are some after an error, which they must not delay
                waiting.cancel()
