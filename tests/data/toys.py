"""A source, a mixture and an augmentation of a test's own: each is a section of the configuration and its class."""

import contextlib
import math
from typing import Literal

import numpy as np

from joint_st.config import AugmentationConfig, MixtureConfig, Source
from joint_st.data import augmentation, mixture
from joint_st.data.sources import corpus, opens
from joint_st.data.utterance import Entry, Utterance

RATE = 8000
TEXTS = ("one", "two two", "three")


@contextlib.contextmanager
def kinds():
    """The sections of three kinds of their own, registered as long as this lasts."""

    class Tones(Source):
        """Pure tones, made when they are asked for."""

        kind: Literal["tones"] = "tones"
        count: int
        """How many."""
        hz: float = 440.0
        """Pitch of the first; each next one is 10 Hz higher."""
        notes: dict[str, str] = {}
        """A field that cannot be hashed."""

    class Weighted(MixtureConfig):
        """Rows of each corpus by its weight; an epoch draws as many as there are."""

        kind: Literal["weighted"] = "weighted"
        weights: dict[str, float]
        """By the name of the corpus."""

    class Slower(AugmentationConfig):
        """Leaves an utterance as it is, or makes it `factor` times as long."""

        kind: Literal["slower"] = "slower"
        factor: int = 2

    opens("tones")(TonesCorpus)
    mixture.mixes("weighted")(WeightedMixture)
    augmentation.augments("slower")(SlowerSpeech)
    try:
        yield Tones, Weighted, Slower
    finally:
        for section in (Tones, Weighted, Slower):
            section.forget()
        for known, name in ((corpus.OPENERS, "tones"), (mixture.KINDS, "weighted"), (augmentation.KINDS, "slower")):
            known.forget(name)


class TonesCorpus:
    place = version = ""

    def __init__(self, config):
        self.name = f"tones-{config.hz:g}"
        self.count, self.hz = config.count, config.hz

    def __len__(self):
        return self.count

    def entry(self, i):
        return Entry(f"tone-{i}", self._samples(i) / RATE, TEXTS[i % 3], True, "en")

    def __getitem__(self, i):
        phase = 2 * math.pi * (self.hz + 10 * i) / RATE * np.arange(self._samples(i))
        times = (np.array([0.25]), np.array([0.5]))
        audio = (9000 * np.sin(phase)).astype(np.int16)
        return Utterance(f"tone-{i}", audio, RATE, TEXTS[i % 3], "en", "", self.name, times)

    def _samples(self, i):
        return RATE * (3 + i % 5) // 4


class WeightedMixture:
    def __init__(self, config, dataset):
        of_corpus = np.array([config.weights[name] for name in dataset.corpora])
        self.share = of_corpus[dataset.corpus_of]

    def size(self, rows):
        return len(rows)

    def draw(self, rows, random):
        return random.choice(rows, len(rows), p=self.share[rows] / self.share[rows].sum())


class SlowerSpeech:
    def __init__(self, config):
        self.factor = config.factor

    def longest(self, samples):
        return samples * self.factor

    def __call__(self, speech, random):
        if random.random() < 0.5:
            return speech
        times = speech.word_times and tuple(self.factor * seconds for seconds in speech.word_times)
        return speech._replace(audio=np.repeat(speech.audio, self.factor), word_times=times)
