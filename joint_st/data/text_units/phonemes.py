"""Phonemes by espeak-ng, in each text's language, with or without word boundaries."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from joint_st.data.text_units import cache
from joint_st.data.text_units.cache import PhonemeCache, phoneme_cache
from joint_st.data.text_units.phonemizer import NoPhonemes, find_voice, phonemizer
from joint_st.data.text_units.units import BOUNDARY, SPECIAL, UNKNOWN, Gather, write_description
from joint_st.distributed.peers import current
from joint_st.errors import UserError

log = logging.getLogger(__name__)


class Phonemes:
    """Text units: one for each phoneme of an inventory, and one for the boundary between words where the inventory has it.

    A phoneme is what espeak-ng writes as one, including diphthongs and affricates. Stress is left out.
    """

    def __init__(self, inventory: Iterable[str], language: str, version: str):
        self.symbols = (*SPECIAL, *inventory)
        self.size = len(self.symbols)
        self.language = language
        """Language tag of texts that do not state theirs."""
        self.version = version
        """Version of espeak-ng that made the inventory."""
        self._ids = {symbol: i for i, symbol in enumerate(self.symbols)}
        self._boundaries = BOUNDARY in self._ids
        self._voices: dict[str, str | NoPhonemes] = {}

    @classmethod
    def make(cls, language: str, gather: Gather, *, boundaries: bool = True) -> Phonemes:
        """Make units whose inventory is the phonemes of the texts, and the boundary between words if it is to be a unit;
        texts in a language without phonemes are skipped.

        Raises `UserError` where no text has phonemes, and where there are none of `language`.
        """
        units = cls((), language, phonemizer().version)
        if why := units.refusal(""):
            raise UserError(f"{why}; name another one, or set data.units.kind to characters")
        inventory = gather(units.digest, units._phonemes)
        if not inventory:
            languages = gather(f"languages {units.digest}", lambda examples: {tag for _, tag in examples})
            if refusals := sorted(filter(None, map(units.refusal, languages))):
                raise UserError(f"{refusals[0]}; or set data.units.kind to characters")
            raise UserError("data: the training texts have no phonemes; correct data.train or data.normalizer")
        return cls(sorted(inventory | {BOUNDARY} if boundaries else inventory), language, units.version)

    @classmethod
    def load(cls, description: dict) -> Phonemes:
        """Load what `save` wrote; warns where espeak-ng has another version."""
        units = cls(description["symbols"], description["language"], description["version"])
        if units.version != phonemizer().version and current().is_first:
            log.warning(
                "the phonemes are those of espeak-ng %s, and this is %s: words may sound otherwise",
                units.version,
                phonemizer().version,
            )
        return units

    @property
    def digest(self) -> str:
        # Pronunciations come from the espeak-ng of this machine, not from the one that made the inventory.
        spoken_by = (phonemizer().version, cache.FORMAT)
        return hashlib.sha256(json.dumps((self.symbols, self.language, spoken_by)).encode()).hexdigest()[:16]

    def encode(self, text: str, language: str = "") -> np.ndarray:
        return np.array([self._ids.get(symbol, UNKNOWN) for symbol, _ in self._units(text, language)], np.int32)

    def words(self, text: str, language: str = "") -> np.ndarray:
        return np.array([word for _, word in self._units(text, language)], np.int32)

    def unknown(self, text: str, language: str = "") -> list[str]:
        return [symbol for symbol, _ in self._units(text, language) if symbol not in self._ids]

    def refusal(self, language: str) -> str:
        voice = self._voice(language)
        return str(voice) if isinstance(voice, NoPhonemes) else ""

    def prepare(self, examples: Iterable[tuple[str, str]]) -> None:
        keys = {key for example in examples if (key := self._key(*example)) is not None}
        missing = [key for key in keys if self._cache.get(*key) is None]
        missing.sort()  # sorted by voice, because changing it takes as long as speaking some sentences
        self._compute(missing)

    def _phonemes(self, examples: Sequence[tuple[str, str]]) -> set[str]:
        """Return all phonemes of some texts."""
        self.prepare(examples)
        return {symbol for example in examples for word in self._spoken(*example) for symbol in word}

    def save(self, folder: Path | str) -> None:
        inventory = list(self.symbols[len(SPECIAL) :])
        description = {"kind": "phonemes", "symbols": inventory, "language": self.language, "version": self.version}
        write_description(folder, description)

    def __reduce__(self):
        return Phonemes, (self.symbols[len(SPECIAL) :], self.language, self.version)

    @functools.cached_property
    def _cache(self) -> PhonemeCache:
        return phoneme_cache(phonemizer().version)

    def _units(self, text: str, language: str) -> list[tuple[str, int]]:
        """Return the symbol and the word of each unit; a word without phonemes has no boundary either."""
        units: list[tuple[str, int]] = []
        for i, word in enumerate(self._spoken(text, language)):
            if word and units and self._boundaries:
                units.append((BOUNDARY, -1))
            units += [(symbol, i) for symbol in word]
        return units

    def _spoken(self, text: str, language: str) -> list[list[str]]:
        """Return the phonemes of each word of `text.split()`; empty where the language has none."""
        key = self._key(text, language)
        if key is None:
            return []
        packed = self._cache.get(*key)
        if packed is None:
            [packed] = self._compute([key])
        return [word.split() for word in packed.split("\n")]

    def _compute(self, keys: list[tuple[str, str]]) -> list[str]:
        """Compute and store the phonemes of each (voice, text): a line for each word, spaces between phonemes."""
        spoken = [phonemizer().words(text, voice) for voice, text in keys]
        packed = ["\n".join(" ".join(word) for word in words) for words in spoken]
        if keys:
            self._cache.put((*key, phonemes) for key, phonemes in zip(keys, packed))
        return packed

    def _key(self, text: str, language: str) -> tuple[str, str] | None:
        """Return the voice and text under which phonemes are stored; None where the language has none."""
        voice = self._voice(language)
        # JSON may hold halves of surrogate pairs, which neither files nor libraries accept.
        return None if isinstance(voice, NoPhonemes) else (voice, text.encode("utf-8", "replace").decode())

    def _voice(self, language: str) -> str | NoPhonemes:
        if language not in self._voices:
            try:
                self._voices[language] = find_voice(language, self.language, phonemizer().voices)
            except NoPhonemes as error:
                self._voices[language] = error
        return self._voices[language]
