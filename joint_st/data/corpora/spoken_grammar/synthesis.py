"""Synthesis of an utterance: a sentence in a voice, with silence around it, some noise, and the times of its words."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np

from joint_st.data.synthesis.espeak import Speech, Synthesizer
from joint_st.data.synthesis.speaking import SAMPLE_RATE, Manner, digitise, place, say

MANNER = Manner(rates=(120, 160), pitches=(35, 65))
"""How the sentences are spoken."""
NOISY_SHARE = 0.5
"""Share of utterances with noise."""
SNR_DB = (15.0, 40.0)
"""Power of the speech over power of the noise, in noisy utterances."""
MERGED = {"the": 2, "a": 1}
"""Words that espeak-ng joins to the word before (`on the` has one word event), and their phonemes."""


@dataclasses.dataclass(frozen=True)
class Spoken:
    """An utterance at `speaking.SAMPLE_RATE`."""

    audio: np.ndarray
    """int16 [samples]"""
    word_starts: np.ndarray
    """First sample of each word, int32 [words]."""
    word_ends: np.ndarray
    """Sample after the last of each word, int32 [words]."""


def speak(synthesizer: Synthesizer, key: str, text: str, voice: str) -> Spoken:
    """Speak `text` in a voice; rate, pitch, silence, gain and noise are drawn from `key`."""
    rng = np.random.default_rng(list(hashlib.sha256(key.encode()).digest()))
    speech = say(rng, synthesizer, text, voice, MANNER)
    starts, ends = word_times(speech, text)
    audio, before = place(rng, speech, MANNER, least=ends[-1])
    if rng.random() < NOISY_SHARE:
        noise = NOISES[rng.integers(len(NOISES))](rng, len(audio))
        audio += noise * (rms(audio) / rms(noise) * 10 ** (-rng.uniform(*SNR_DB) / 20))
    scale = SAMPLE_RATE / speech.sample_rate
    starts, ends = (before + np.rint(times * scale).astype(np.int32) for times in (starts, ends))
    return Spoken(digitise(rng, audio), starts, ends)


def rms(audio: np.ndarray) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(np.square(audio))))


def white_noise(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Return noise with the same power at every frequency, float32 [samples]."""
    return rng.standard_normal(samples, dtype=np.float32)


def pink_noise(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Return noise whose power falls as one over the frequency, float32 [samples]."""
    length = 1 << (samples - 1).bit_length()  # because the transform of a prime length is slow
    spectrum = np.fft.rfft(white_noise(rng, length))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum), dtype=np.float32))
    spectrum[0] = 0
    return np.fft.irfft(spectrum, length)[:samples]


def hum(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Return mains hum, 50 or 60 Hz with six overtones, float32 [samples]."""
    phase = (rng.choice((50.0, 60.0)) * 2 * np.pi / SAMPLE_RATE * np.arange(samples)).astype(np.float32)
    overtones = (np.sin(np.float32(k) * phase + np.float32(rng.uniform(0, 2 * np.pi))) / k for k in range(1, 8))
    return sum(overtones, np.zeros(samples, np.float32))


NOISES = (white_noise, pink_noise, hum)


def word_times(speech: Speech, text: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last sample (exclusive) of each word of `text`, int64 [words], at the rate of the
    speech.

    A word ends where the next begins, or where the pause between them begins. Raises `ValueError` where the
    events do not tell the words apart.
    """
    begun = {word.start: word.sample for word in speech.words}
    starts: list[int] = []
    position = 0
    words = text.split(" ")
    for i, word in enumerate(words):
        if position in begun:
            starts.append(begun.pop(position))
        elif word in MERGED:
            following = position + len(word) + 1
            until = begun.get(following, np.inf)
            group = [p.sample for p in speech.phonemes if p.symbol and starts[-1] <= p.sample < until]
            starts.append(group[-MERGED[word]])
        else:
            raise ValueError(f"espeak-ng gave no event for word {i} of {text!r}")
        position += len(word) + 1
    if begun or any(a >= b for a, b in zip(starts, starts[1:])):
        raise ValueError(f"espeak-ng's words do not match those of {text!r}")
    sounds = [p.sample for p in speech.phonemes if p.symbol]
    pauses = [p.sample for p in speech.phonemes if not p.symbol]
    ends = []
    for i in range(len(starts)):
        until = starts[i + 1] if i + 1 < len(starts) else len(speech.audio)
        last = max(sample for sample in sounds if sample < until)
        ends.append(min((sample for sample in pauses if last < sample <= until), default=until))
    return np.array(starts), np.array(ends)
