"""Phonemes by espeak-ng, in each text's language, with word boundaries."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tqdm

from joint_st.data.units.cache import phoneme_cache
from joint_st.data.units.languages import find_voice
from joint_st.data.units.phonemizer import phonemizer
from joint_st.data.units.units import BOUNDARY, SPECIAL, UNKNOWN, write_description
from joint_st.errors import UserError

log = logging.getLogger(__name__)

TOGETHER = 1_000
"""Texts whose phonemes are written to the cache at once."""


class Phonemes:
    """One unit for each phoneme of an inventory, and one for the boundary between words.

    A phoneme is what espeak-ng writes as one, a diphthong or an affricate too. Stress is left out.
    """

    def __init__(self, inventory: Iterable[str], language: str, version: str):
        self.symbols = (*SPECIAL, *inventory)
        self.size = len(self.symbols)
        self.language = language
        """Tag of texts that do not say theirs."""
        self.version = version
        """Version of espeak-ng that the inventory is of."""
        self._ids = {symbol: i for i, symbol in enumerate(self.symbols)}
        self._voices: dict[str, str] = {}

    @classmethod
    def make(cls, language: str, examples: Iterable[tuple[str, str]]) -> Phonemes:
        """With the phonemes of the texts as inventory. Raises `UserError` where there is no text."""
        units = cls((), language, phonemizer().version)
        inventory = {BOUNDARY}
        examples = iter(tqdm.tqdm(examples, desc="phonemes", unit=" texts", delay=1, leave=False, disable=None))
        while some := list(itertools.islice(examples, TOGETHER)):
            units.prepare(some)
            inventory.update(symbol for example in some for word in units._spoken(*example) for symbol in word)
        if len(inventory) == 1:
            raise UserError("data: the training texts have no phonemes; correct data.train or data.normalizer")
        return cls(sorted(inventory), language, units.version)

    @classmethod
    def load(cls, description: dict) -> Phonemes:
        """What `save` described; warns where espeak-ng is of another version."""
        units = cls(description["symbols"], description["language"], description["version"])
        if units.version != phonemizer().version:
            log.warning(
                "the phonemes are those of espeak-ng %s, and this is %s: words may sound otherwise",
                units.version,
                phonemizer().version,
            )
        return units

    def encode(self, text: str, language: str = "") -> np.ndarray:
        return np.array([self._ids.get(symbol, UNKNOWN) for symbol, _ in self._units(text, language)], np.int32)

    def words(self, text: str, language: str = "") -> np.ndarray:
        return np.array([word for _, word in self._units(text, language)], np.int32)

    def prepare(self, examples: Iterable[tuple[str, str]]) -> None:
        cache = phoneme_cache(phonemizer().version)
        wanted = {(self._voice(language), text) for text, language in examples}
        missing = [(voice, text) for voice, text in wanted if cache.get(voice, text) is None]
        missing.sort()  # by voice: to change it takes as long as to speak some sentences
        if missing:
            cache.put((voice, text, _pack(phonemizer().words(text, voice))) for voice, text in missing)

    def save(self, folder: Path | str) -> None:
        inventory = list(self.symbols[len(SPECIAL) :])
        description = {"kind": "phonemes", "symbols": inventory, "language": self.language, "version": self.version}
        write_description(folder, description)

    def _units(self, text: str, language: str) -> list[tuple[str, int]]:
        """Each unit's symbol and word; a word that has no phonemes has no boundary either."""
        units: list[tuple[str, int]] = []
        for i, word in enumerate(self._spoken(text, language)):
            if word and units:
                units.append((BOUNDARY, -1))
            units += [(symbol, i) for symbol in word]
        return units

    def _spoken(self, text: str, language: str) -> list[list[str]]:
        """The phonemes of each word of `text.split()`."""
        if not text.split():
            return []
        cache, voice = phoneme_cache(phonemizer().version), self._voice(language)
        packed = cache.get(voice, text)
        if packed is None:
            packed = _pack(phonemizer().words(text, voice))
            cache.put([(voice, text, packed)])
        return [word.split() for word in packed.split("\n")]

    def _voice(self, language: str) -> str:
        if language not in self._voices:
            self._voices[language] = find_voice(language, self.language, phonemizer().voices)
        return self._voices[language]


def _pack(words: Iterable[Iterable[str]]) -> str:
    """A line for each word, white space between its phonemes."""
    return "\n".join(" ".join(word) for word in words)
