"""An utterance, and what is known of one without decoding its audio."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Utterance:
    """A piece of speech with its transcript, as its source holds it."""

    id: str
    """May be another's too; an index makes it unique (`joint_st.data.index`)."""
    audio: np.ndarray
    """int16 [samples], mono; no samples where the source is text alone."""
    sample_rate: int
    """Hz."""
    text: str
    """The transcript as written, not normalised."""
    language: str
    """BCP 47 tag; empty where the source does not say."""
    speaker: str
    """Empty where the source does not say."""
    corpus: str
    """Name of the corpus it comes from."""
    word_times: tuple[np.ndarray, np.ndarray] | None = None
    """When each word of `text.split()` begins and ends, in seconds of `audio`, float64 [words] each; None where the
    source does not say."""
    promised: float | None = None
    """Seconds of audio that its own file promises; None where that does not say."""
    extra: dict = field(default_factory=dict)
    """Further keys of a manifest, further features of a TFDS dataset."""

    def hash(self) -> str:
        """Changes with the samples and their rate."""
        rate = self.sample_rate.to_bytes(4)
        return hashlib.blake2b(self.audio.astype("<i2").tobytes(), digest_size=8, key=rate).hexdigest()


@dataclass(frozen=True)
class Entry:
    """What an index needs to know of an utterance; cheap to get."""

    id: str
    """May be another's too; an index makes it unique (`joint_st.data.index`)."""
    seconds: float
    """Length of the audio as the source states it; 0 where there is none."""
    text: str
    """The transcript as written, not normalised."""
    has_audio: bool
    language: str = ""
    """BCP 47 tag; empty where the source does not say."""
    speaker: str = ""
    """Empty where the source does not say."""
    noise: str = ""
    """Name of the noise or of the recording's condition; empty where the source does not say."""
    snr: float | None = None
    """Signal-to-noise ratio in dB; None where the source does not say."""
    timed_words: int = 0
    """Words whose times the source says."""
    problem: str = ""
    """Which file cannot be read and why, where that is known without decoding it."""
    full_id: str = ""
    """What the utterance is called where another has the same `id`; empty where its source gives it `id` as its own."""
