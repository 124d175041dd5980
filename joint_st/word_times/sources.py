"""One audio file and its text as a corpus."""

from __future__ import annotations

from pathlib import Path

from joint_st.data.audio import audio_seconds, read_audio
from joint_st.data.utterance import Entry, Utterance
from joint_st.errors import UserError


class OnePair:
    """A corpus of one utterance, whose id is the file's name without its ending. Raises `UnreadableAudio`."""

    def __init__(self, audio: Path, text: str):
        self.name = audio.name
        self._audio = audio
        self._text = text

    def __len__(self) -> int:
        return 1

    def entry(self, i: int) -> Entry:
        return Entry(id=self._audio.stem, seconds=audio_seconds(self._audio), text=self._text, has_audio=True)

    def __getitem__(self, i: int) -> Utterance:
        audio, rate = read_audio(self._audio)
        return Utterance(
            id=self._audio.stem,
            audio=audio,
            sample_rate=rate,
            text=self._text,
            language="",
            speaker="",
            corpus=self.name,
        )


def read_text(given: str) -> str:
    """The text that `given` names as a file, or is.

    Raises `UserError` for what looks like the path of a file and is none, and for a file that is not UTF-8.
    """
    path = Path(given)
    try:
        there = path.is_file()
    except OSError:  # longer than a path can be
        there = False
    if there:
        try:
            return path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not UTF-8 ({error.reason}); convert the file") from None
    one_word = len(given.split()) == 1
    if one_word and ("/" in given or Path(given.rstrip(".")).suffix):
        raise UserError(f"{given}: no such file; give a text file, or the text itself in quotes")
    return given
