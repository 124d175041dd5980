"""An utterance, and what is known about it without decoding its audio."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


def ids_of_audio(
    path: str, offset: float | None = None, duration: float | None = None, channels: Sequence[int] | None = None
) -> tuple[str, str]:
    """Return the id that a line of a manifest has by its audio, and a longer one, where another line has the same.

    The id is the path without its ending, with offset and channels where it has them (no channel: the mean of all); the
    longer one has the ending and the duration too. Numbers are written in one way: 10 and 10.0 are the same.
    """
    short, full = os.path.splitext(path)[0], path
    if offset:
        short, full = f"{short}@{offset:.12g}", f"{full}@{offset:.12g}"
    if duration is not None:
        full += f"+{duration:.12g}"
    if channels is not None:
        names = f"#{','.join(map(str, channels)) or 'average'}"
        short, full = short + names, full + names
    return short, full


@dataclass(frozen=True)
class Utterance:
    """A piece of speech with its transcript, as in its source."""

    id: str
    """Name, which several utterances may share; an index makes it unique (`joint_st.data.index`)."""
    audio: np.ndarray
    """int16 [samples], mono; no samples where the source is text alone."""
    sample_rate: int
    """Hz."""
    text: str
    """The transcript as written, not normalised."""
    language: str
    """BCP 47 tag; empty where the source states none."""
    speaker: str
    """Name of the speaker; empty where the source states none."""
    corpus: str
    """Name of the corpus it comes from."""
    word_times: tuple[np.ndarray, np.ndarray] | None = None
    """When each word of `text.split()` begins and ends, in seconds of `audio`, float64 [words] each; None where the
    source states none."""
    promised: float | None = None
    """Seconds of audio that its own file promises; None where the file states no length."""
    extra: dict = field(default_factory=dict)
    """Further keys of a manifest, or further features of a TFDS dataset."""

    def hash(self) -> str:
        """Return a hash of the samples and their rate."""
        rate = self.sample_rate.to_bytes(4)
        return hashlib.blake2b(self.audio.astype("<i2").tobytes(), digest_size=8, key=rate).hexdigest()


@dataclass(frozen=True)
class Entry:
    """What an index needs to know about an utterance; this is cheap to get."""

    id: str
    """Name, which several utterances may share; an index makes it unique (`joint_st.data.index`)."""
    seconds: float
    """Length of the audio as the source states it; 0 where there is none."""
    text: str
    """The transcript as written, not normalised."""
    has_audio: bool
    language: str = ""
    """BCP 47 tag; empty where the source states none."""
    speaker: str = ""
    """Name of the speaker; empty where the source states none."""
    noise: str = ""
    """Name of the noise or of the recording's condition; empty where the source states none."""
    snr: float | None = None
    """Signal-to-noise ratio in dB; None where the source states none."""
    problem: str = ""
    """The file that cannot be read, and why, where that is known without decoding it."""
    full_id: str = ""
    """Name to use where another utterance has the same `id`; empty where the source itself states the id."""
    synthetic: bool = False
    """Whether the source states that a machine speaks."""
    channel: int = 1
    """Number of the channel of its file that the source names, counted from 1 as in a CTM; 1 where it names none or
    several."""
