"""Turns words into phonemes in IPA by espeak-ng, and a BCP 47 tag into one of its voices."""

from __future__ import annotations

import ctypes
import difflib
import functools
import re
import string
import threading
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from joint_st.data.espeak import EspeakCopy, EspeakError, data_folder, initialize, set_voice, voice_files
from joint_st.data.languages import bcp_47
from joint_st.errors import UserError

RETRIEVAL = 1
"""Output of `espeak_Initialize` that opens no sound device."""
UTF8 = 1
IPA = 0x02
SEPARATOR = "\t"
"""Separator of phonemes; espeak-ng itself puts spaces between words."""
STRESS = "ˈˌ"
LANGUAGE_SWITCH = re.compile(r"\([a-z][\w-]*\)")
"""`(en)` before and `(fr)` after a word that is pronounced as in another language."""

PUNCTUATION = string.punctuation + "¡¿«»‹›„“”‘’…–—।。，、！？"

OTHER_NAMES = {"zh-hk": "yue", "zh-mo": "yue", "nn": "nb", "iw": "he"}
"""Tags that espeak-ng does not know, and the nearest it does: Hong Kong and Macao speak Cantonese."""

WRONG = {
    "sit/cmn": ("Mandarin", "tones 1 and 4 are the same"),
    "sit/cmn-Latn-pinyin": ("Mandarin", "tones 1 and 4 are the same"),
    "sit/hak": ("Hakka", "its characters are read as `Chinese letter`"),
    "jpx/ja": ("Japanese", "kanji are read as `Chinese letter`"),
    "tai/th": ("Thai", "its vowels are read as consonants"),
    "sit/my": ("Burmese", "its vowels are read as consonants"),
}
"""Voices whose phonemes are wrong: their language, and why."""

Words = list[tuple[str, ...]]
"""Phonemes of each word."""


class NoPhonemes(UserError):
    """Raised where there are no phonemes of a language."""


class Voice(NamedTuple):
    """A voice, and the tags of the languages it speaks with their priorities, the lower the better."""

    identifier: str
    languages: tuple[tuple[int, str], ...]


class _Voice(ctypes.Structure):
    """`espeak_VOICE` of speak_lib.h."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_void_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("xx1", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    ]


class Phonemizer:
    """espeak-ng as a dictionary of pronunciations; threads take turns."""

    def __init__(self):
        self._copy = EspeakCopy()
        self._library = self._copy.load()
        data = self._copy.folder / "espeak-ng-data"
        data.symlink_to(self._copy.all_data)  # the library takes no path longer than 160 bytes
        initialize(self._library, RETRIEVAL, 0, data, 0)
        self._library.espeak_Info.restype = ctypes.c_char_p
        self._library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
        self._lock = threading.Lock()
        self._voice = ""
        self.calls = 0
        """Number of calls of the library."""
        self.version = self._library.espeak_Info(None).decode()
        self.voices = tuple(self._list_voices())

    def words(self, text: str, voice: str) -> Words:
        """Return the phonemes of each word of `text.split()`, without stress; empty for a word that espeak-ng cannot
        pronounce.

        The text is spoken as a whole, so that a word sounds as it does among its neighbours. Where espeak-ng joins
        words (`of a`), the text is cut before the word that was joined. A word that is not made of letters alone
        (`cafe1`, `&`) is spoken by itself, and so is one that espeak-ng takes for several words, such as Chinese
        without spaces; its phonemes are put together.
        """
        words = text.split()
        found: Words = []
        with self._lock:
            if voice != self._voice:
                set_voice(self._library, voice)
                self._voice = voice
            while len(found) < len(words):
                found += self._longest(words[len(found) :])
        return found

    def _longest(self, words: list[str]) -> Words:
        """Return the phonemes of the first of `words`, and of as many after it as espeak-ng keeps apart."""
        odd = next((i for i, word in enumerate(words) if not _of_letters(word)), len(words))
        words = words[: max(odd, 1)]
        spoken = self._speak(words)
        if len(spoken) == len(words):
            return spoken
        best, fits, fails = [], 0, len(words)
        while fails - fits > 1:  # words may still be joined where others follow: halve the range that has the joint
            middle = (fits + fails) // 2
            spoken = self._speak(words[:middle])
            if len(spoken) == middle:
                best, fits = spoken, middle
            else:
                fails = middle
        return best or [tuple(phoneme for word in self._speak(words[:1]) for phoneme in word)]

    def _speak(self, words: list[str]) -> Words:
        """Return the words into which espeak-ng divides some words."""
        self.calls += 1
        # NUL would end the text; code points that are not characters have no bytes.
        spoken = " ".join(words).replace("\0", " ").encode("utf-8", "ignore")
        rest = ctypes.c_char_p(spoken)
        clauses = []
        while rest.value is not None:  # a clause at a time
            clause = self._library.espeak_TextToPhonemes(ctypes.byref(rest), UTF8, ord(SEPARATOR) << 8 | IPA)
            clauses.append((clause or b"").decode("utf-8", "ignore"))
        ipa = LANGUAGE_SWITCH.sub(SEPARATOR, " ".join(clauses)).translate(_NO_STRESS)
        separated = (tuple(filter(None, word.split(SEPARATOR))) for word in ipa.split(" "))
        return [word for word in separated if word]

    def _list_voices(self):
        """Return all voices with their languages. (A language is a byte of priority and a tag that ends with NUL; NUL
        ends the list.)"""
        listed = self._library.espeak_ListVoices(None)
        for i in range(1 << 16):
            if not listed[i]:
                return
            voice, languages = listed[i].contents, []
            at = voice.languages
            while priority := ctypes.string_at(at, 1)[0]:
                tag = ctypes.string_at(at + 1)
                languages.append((priority, tag.decode().lower()))
                at += len(tag) + 2
            yield Voice(voice.identifier.decode(), tuple(languages))


def _of_letters(word: str) -> bool:
    """Return whether a word consists of letters and their marks, apart from apostrophes and punctuation around it."""
    inner = word.strip(PUNCTUATION).replace("'", "").replace("’", "")
    return inner.isalpha() or {"L"} <= {unicodedata.category(character)[0] for character in inner} <= {"L", "M"}


_NO_STRESS = str.maketrans("", "", STRESS)


@functools.cache
def phonemizer() -> Phonemizer:
    """Return the phonemizer of this process."""
    return Phonemizer()


def find_voice(tag: str, default: str, voices: Sequence[Voice], where: str = "") -> str:
    """Return the identifier of the voice for a tag (`en`, `de-AT`, `zh-HK`), a code of three letters (`eng`) or a
    language's English name; empty means `default`.

    A tag without a region takes the region of the default if that has the same language. Otherwise the last parts of
    the tag are dropped until a voice matches (RFC 4647, 3.4). Raises `NoPhonemes` where none matches, and where the
    voice's phonemes are wrong or its dictionary is missing. where: place of the tag, for messages.
    """
    wanted = bcp_47(tag) or bcp_47(default)
    if bcp_47(default).split("-")[0] == wanted:
        wanted = bcp_47(default)
    where = where or ("a language of the data" if tag.strip() else "data.units.language")
    parts = wanted.split("-")
    while parts:
        name = "-".join(parts)
        name = OTHER_NAMES.get(name, name)
        having = [
            (priority, len(voice.identifier), voice.identifier)
            for voice in voices
            for priority, language in voice.languages
            if language == name
        ]
        if having:
            voice = min(having)[2]
            if voice in WRONG:
                language, why = WRONG[voice]
                raise NoPhonemes(f"{where}: espeak-ng has no right phonemes of {language} ({tag or default}): {why}")
            try:
                voice_files(voice, data_folder())
            except EspeakError:
                missing = f"espeak-ng has no dictionary of {tag or default!r} here"
                raise NoPhonemes(f"{where}: {missing}; leave its sentences out") from None
            return voice
        parts.pop()
    known = sorted({language for voice in voices for _, language in voice.languages})
    near = ", ".join(difflib.get_close_matches(wanted, known, n=3, cutoff=0))
    raise NoPhonemes(f"{where}: espeak-ng has no language {tag or default!r}, perhaps {near}; correct the tag (BCP 47)")
