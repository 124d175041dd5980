"""Augmentations of speech when it is loaded for training, drawn from the seed, the step and the row alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from joint_st.config import AugmentationConfig, Gain, Identity, Noise, Speed
from joint_st.data.audio import resample
from joint_st.kinds import Kinds

STREAM = 2
"""Number of the stream of its random draws, different from those of the plans."""


class Speech(NamedTuple):
    """An utterance on its way from its source to a batch."""

    audio: np.ndarray
    """int16 [samples]."""
    rate: int
    """Hz."""
    word_times: tuple[np.ndarray, np.ndarray] | None
    """When each word of the normalised text begins and ends, in seconds, float64 [words] each, as
    `joint_st.data.word_times.word_times` has them; None where unknown."""


class Kind(Protocol):
    """One kind of augmentation, made from its section of the configuration."""

    def longest(self, samples: np.ndarray) -> np.ndarray:
        """Return the most samples that utterances of `samples` [N] may have afterwards, whatever is drawn, int32 [N].

        Batches are planned with it, so that an utterance fits its bucket at every step.
        """
        ...

    def __call__(self, speech: Speech, random: np.random.Generator) -> Speech:
        """Return the augmented speech; the times of its words change with it."""
        ...


Maker = TypeVar("Maker", bound=Callable[[Any], Any])

KINDS = Kinds(thing="augmentation", section="data.augmentation of kind {}", decorator="augments")
"""Functions that make an augmentation from its section, by its kind."""


def augments(kind: str) -> Callable[[Maker], Maker]:
    """Register a class or a function that makes augmentations of a kind from their section; a decorator."""
    return KINDS.register(kind)


class _SameLength:
    """Base of augmentations that change neither the length nor the times of words."""

    def longest(self, samples: np.ndarray) -> np.ndarray:
        return samples


@augments("identity")
class Unchanged(_SameLength):
    """Leaves speech as it is."""

    def __init__(self, config: Identity):
        pass

    def __call__(self, speech: Speech, random: np.random.Generator) -> Speech:
        return speech


@augments("gain")
class Louder(_SameLength):
    """Multiplies the samples by a factor that is drawn for each utterance."""

    def __init__(self, config: Gain):
        self._config = config

    def __call__(self, speech: Speech, random: np.random.Generator) -> Speech:
        decibels = random.uniform(self._config.low_db, self._config.high_db)
        return speech._replace(audio=as_int16(speech.audio * 10 ** (decibels / 20)))


@augments("noise")
class Noisier(_SameLength):
    """Adds noise, drawn for each utterance, to a share of the utterances."""

    def __init__(self, config: Noise):
        self._config = config

    def __call__(self, speech: Speech, random: np.random.Generator) -> Speech:
        config = self._config
        drawn, decibels = random.uniform(), random.uniform(config.low_db, config.high_db)
        if drawn >= config.share or not len(speech.audio):
            return speech
        return speech._replace(audio=with_noise(speech.audio, decibels, config.colour, random))


@augments("speed")
class Faster:
    """Plays an utterance faster or slower; the times of its words move with it."""

    def __init__(self, config: Speed):
        self._thousandths = [round(1000 * factor) for factor in config.factors]

    def longest(self, samples: np.ndarray) -> np.ndarray:
        return -(-np.asarray(samples, np.int64) * 1000 // min(self._thousandths)).astype(np.int32)

    def __call__(self, speech: Speech, random: np.random.Generator) -> Speech:
        thousandths = self._thousandths[random.integers(len(self._thousandths))]
        times = speech.word_times
        if times is not None:
            times = times[0] * 1000 / thousandths, times[1] * 1000 / thousandths
        return Speech(resample(speech.audio, thousandths, 1000), speech.rate, times)


def as_int16(samples: np.ndarray) -> np.ndarray:
    """Round samples, and clip them at full scale."""
    return np.clip(np.rint(samples), -32768, 32767).astype(np.int16)


def with_noise(audio: np.ndarray, decibels: float, colour: str, random: np.random.Generator) -> np.ndarray:
    """Return audio int16 [samples] with `white` or `pink` noise, whose power is `decibels` dB below the audio's own."""
    noise = random.standard_normal(len(audio))
    if colour == "pink":
        spectrum = np.fft.rfft(noise)
        spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
        spectrum[0] = 0
        noise = np.fft.irfft(spectrum, n=len(audio))
    power = np.mean(np.square(audio, dtype=np.float64)) / 10 ** (decibels / 10)
    scale = np.sqrt(power / max(np.mean(np.square(noise)), 1e-30))
    return as_int16(audio + scale * noise)


class Augmentation:
    """Several augmentations, applied one after the other."""

    def __init__(self, kinds: Sequence[Kind]):
        self._kinds = tuple(kinds)

    def planned(self, lengths: np.ndarray) -> np.ndarray:
        """Return the most samples that utterances of `lengths` [N] samples may have when they are loaded, int32 [N]."""
        for kind in self._kinds:
            lengths = kind.longest(lengths)
        return lengths

    def __call__(self, speech: Speech, seed: int, step: int, row: int) -> Speech:
        """Return the speech of a row as the batch of a step contains it."""
        random = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, step, row, STREAM])))
        for kind in self._kinds:
            speech = kind(speech, random)
        return speech


def make_augmentation(sections: Sequence[AugmentationConfig]) -> Augmentation | None:
    """Make the augmentation of some sections of the configuration; None where they leave speech as it is."""
    kinds = [KINDS[section.kind](section) for section in sections if not isinstance(section, Identity)]
    return Augmentation(kinds) if kinds else None
