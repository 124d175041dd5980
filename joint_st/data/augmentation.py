"""What is done to speech when it is loaded to train on, drawn from the seed, the step and the row alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from joint_st.config import AugmentationConfig, Identity

STREAM = 2
"""Number of the stream of its draws, beside those of the plans."""


class Speech(NamedTuple):
    """An utterance on its way from its source to a batch."""

    audio: np.ndarray
    """int16 [samples]."""
    rate: int
    """Hz."""
    word_times: tuple[np.ndarray, np.ndarray] | None
    """When each word of the normalised text begins and ends, in seconds, float64 [words] each; None where unknown."""


class Kind(Protocol):
    """One kind of augmentation, made of its section of the configuration."""

    def longest(self, samples: np.ndarray) -> np.ndarray:
        """The most samples that utterances of so many [N] may have afterwards, whatever is drawn, int32 [N].

        Batches are planned by it: buckets hold an utterance at every step.
        """
        ...

    def __call__(self, speech: Speech, random: np.random.Generator) -> Speech:
        """The speech as it is trained on this time; times of words move along."""
        ...


Maker = TypeVar("Maker", bound=Callable[[Any], Any])

KINDS: dict[str, Callable[[Any], Kind]] = {}
"""What makes an augmentation of its section, by its kind."""


def augments(kind: str) -> Callable[[Maker], Maker]:
    """Declares a class or a function as what makes augmentations of a kind of their section."""

    def declare(maker: Maker) -> Maker:
        KINDS[kind] = maker
        return maker

    return declare


@augments("identity")
class Unchanged:
    """Leaves speech as it is."""

    def __init__(self, config: Identity):
        pass

    def longest(self, samples: np.ndarray) -> np.ndarray:
        return samples

    def __call__(self, speech: Speech, random: np.random.Generator) -> Speech:
        return speech


class Augmentation:
    """Kinds of augmentation, one after the other."""

    def __init__(self, kinds: Sequence[Kind]):
        self._kinds = tuple(kinds)

    def planned(self, lengths: np.ndarray) -> np.ndarray:
        """The most samples that utterances of so many [N] may have when they are loaded, int32 [N]."""
        for kind in self._kinds:
            lengths = kind.longest(lengths)
        return lengths

    def __call__(self, speech: Speech, seed: int, step: int, row: int) -> Speech:
        """The speech of a row as the batch of a step holds it."""
        random = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, step, row, STREAM])))
        for kind in self._kinds:
            speech = kind(speech, random)
        return speech


def make_augmentation(sections: Sequence[AugmentationConfig]) -> Augmentation | None:
    """What some sections of the configuration say; None where they leave speech as it is."""
    kinds = [KINDS[section.kind](section) for section in sections if not isinstance(section, Identity)]
    return Augmentation(kinds) if kinds else None
