"""Speech synthesis by espeak-ng, through the shared library of the wheel `espeakng-loader`.

espeak-ng keeps its state (the phase of its flutter, its random numbers) in global variables from one utterance to the
next, and has no way to reset it. The samples of an utterance shall depend on nothing but the call, so each utterance
gets a fresh library: a `Synthesizer` loads a private copy of it, speaks and unloads it, which costs about half a
millisecond. Private copies also let several threads speak at once.
"""

from __future__ import annotations

import ctypes
import dataclasses
import pathlib

import numpy as np

from joint_st.data.espeak import EspeakCopy, EspeakError, initialize, set_voice, voice_files

SYNCHRONOUS = 2
PHONEME_EVENTS = 0x0001
PHONEME_IPA = 0x0002
UTF8 = 1
CHARACTERS = 1
RATE, PITCH, RANGE = 1, 3, 4
LIST_END, WORD, PHONEME = 0, 1, 7
BUFFER_MS = 1_000


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    """`espeak_EVENT` of speak_lib.h."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclasses.dataclass(frozen=True)
class Word:
    """A word event: the word at character `start` of the text begins at `sample`."""

    start: int
    sample: int


@dataclasses.dataclass(frozen=True)
class Phoneme:
    """A phoneme event: the IPA symbol (empty for a pause) begins at `sample`."""

    symbol: str
    sample: int


@dataclasses.dataclass(frozen=True)
class Speech:
    """Synthesised audio, int16 [samples], and its events in order of time."""

    audio: np.ndarray
    sample_rate: int
    words: tuple[Word, ...]
    phonemes: tuple[Phoneme, ...]


class Synthesizer:
    """espeak-ng for one thread at a time."""

    def __init__(self):
        self._copy = EspeakCopy()
        self._all_data = self._copy.all_data
        self._data = self._copy.folder / "espeak-ng-data"
        # All dictionaries, because a voice may take a second one (for a word in Latin letters).
        dictionaries = (file.name for file in self._all_data.glob("*_dict"))
        for file in ("phondata", "phonindex", "phontab", "intonations", *dictionaries):
            self._link(pathlib.Path(file))

    def speak(
        self, text: str, voice: str, *, rate: int = 175, pitch: int = 50, pitch_range: int = 50, seed: int = 0
    ) -> Speech:
        """Speak `text` in a voice: the identifier of a language, with or without a variant (`gmw/en-US+f3`).

        `rate` in words per minute, 80 to 450; `pitch` and `pitch_range` from 0 to 100; `seed` for the noise of breath.
        Raises `EspeakError` for a voice or variant that is unknown: the library itself would keep the voice it had.
        """
        self._add(voice)
        library = self._copy.load()
        try:
            return self._speak(library, text, voice, rate, pitch, pitch_range, seed)
        finally:
            self._copy.unload(library)

    def _add(self, voice: str) -> None:
        """Link the data of one voice only: at each start the library reads all voice files that it sees."""
        for file in voice_files(voice, self._all_data):
            self._link(file)

    def _link(self, file: pathlib.Path) -> None:
        """Make a file of espeak-ng's data visible to the library."""
        link = self._data / file
        if not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(self._all_data / file)

    def _speak(self, library, text, voice, rate, pitch, pitch_range, seed) -> Speech:
        sample_rate = initialize(library, SYNCHRONOUS, BUFFER_MS, self._data, PHONEME_EVENTS | PHONEME_IPA)
        set_voice(library, voice)
        for parameter, value in ((RATE, rate), (PITCH, pitch), (RANGE, pitch_range)):
            library.espeak_SetParameter(parameter, value, 0)
        library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        chunks: list[np.ndarray] = []
        words: list[Word] = []
        phonemes: list[Phoneme] = []

        def receive(samples, count, events) -> int:
            if samples and count > 0:
                chunks.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
            i = 0
            while events[i].type != LIST_END:
                event = events[i]
                if event.type == WORD:
                    words.append(Word(event.text_position - 1, event.sample))
                elif event.type == PHONEME:
                    phonemes.append(Phoneme(event.id.string.decode(), event.sample))
                i += 1
            return 0  # go on

        callback = _Callback(receive)
        library.espeak_SetSynthCallback(callback)
        spoken = text.encode() + b"\0"
        size, zero, flags = ctypes.c_size_t(len(spoken)), ctypes.c_uint(0), ctypes.c_uint(UTF8)
        code = library.espeak_Synth(spoken, size, zero, CHARACTERS, zero, flags, None, None)
        if code:
            raise EspeakError(f"espeak_Synth returned {code} for {text!r}")
        audio = np.concatenate([np.zeros(0, np.int16), *chunks])
        return Speech(audio, sample_rate, tuple(words), tuple(phonemes))
