"""A private copy of espeak-ng's shared library, which the wheel `espeakng-loader` contains.

The library keeps its state in global variables. A copy has its own variables: nothing else in the process can change
them, and several copies can work at once.
"""

from __future__ import annotations

import _ctypes
import ctypes
import shutil
import tempfile
from pathlib import Path

DONT_EXIT = 0x8000
"""Option of `espeak_Initialize`: return an error instead of ending the process."""


class EspeakError(RuntimeError):
    """espeak-ng refused a call."""


def data_folder() -> Path:
    """Return the folder of espeak-ng's data: voices, dictionaries, phonemes."""
    import espeakng_loader

    return Path(espeakng_loader.get_data_path())


def voice_files(voice: str, data: Path) -> list[Path]:
    """Return the files that a voice, with or without a variant, needs in the folder of espeak-ng's data. Raises
    `EspeakError` where one is missing: three languages of the wheel have no dictionary, and their voices are silent."""
    language, plus, variant = voice.partition("+")
    needed = [Path("lang", language)]
    if plus:
        needed.append(Path("voices", "!v", variant))
    if (data / needed[0]).is_file():
        lines = (line.split() for line in (data / needed[0]).read_text("utf-8").splitlines())
        named = [words[1] for words in lines if words[:1] == ["dictionary"]]
        needed.append(Path((named or [needed[0].name.partition("-")[0]])[0] + "_dict"))
    for file in needed:
        if not (data / file).is_file():
            raise EspeakError(f"espeak-ng has no voice {voice!r}: there is no {file} in {data}")
    return needed


class EspeakCopy:
    """A folder that holds a copy of the library for as long as this object lives."""

    def __init__(self):
        import espeakng_loader

        self._temporary = tempfile.TemporaryDirectory(prefix="joint_st_espeak_")
        self.folder = Path(self._temporary.name)
        self._library = self.folder / "espeak-ng.so"
        shutil.copyfile(espeakng_loader.get_library_path(), self._library)
        self.all_data = data_folder()
        """espeak-ng's data: voices, dictionaries, phonemes."""

    def load(self) -> ctypes.CDLL:
        """Load the library with its variables in their initial state."""
        return ctypes.CDLL(str(self._library))

    @staticmethod
    def unload(library: ctypes.CDLL) -> None:
        """Unload a library that `load` returned; the next `load` starts from the initial state."""
        library.espeak_Terminate()
        _ctypes.dlclose(library._handle)


def initialize(library: ctypes.CDLL, output: int, buffer_ms: int, data: Path, options: int) -> int:
    """Call `espeak_Initialize`; return the sample rate in Hz. Raises `EspeakError`."""
    sample_rate = library.espeak_Initialize(output, buffer_ms, str(data).encode(), options | DONT_EXIT)
    if sample_rate <= 0:
        raise EspeakError(f"espeak_Initialize returned {sample_rate} for the data in {data}")
    return sample_rate


def set_voice(library: ctypes.CDLL, voice: str) -> None:
    """Select the voice with this identifier (`gmw/en-US`, `gmw/en-US+f3`). Raises `EspeakError`."""
    code = library.espeak_SetVoiceByName(voice.encode())
    if code:
        raise EspeakError(f"espeak-ng has no voice {voice!r} (espeak_SetVoiceByName returned {code})")
