"""Voices: English accents of espeak-ng, combined with its speaker variants. Training, dev and test share accents, but
no variant."""

from __future__ import annotations

ACCENTS = {"gmw/en-US": "en-US", "gmw/en": "en-GB", "gmw/en-GB-x-rp": "en-GB-x-rp"}
"""General American, British, Received Pronunciation, as espeak-ng names them, with their language tags."""
VARIANTS = {
    "train": tuple(
        "m1 m2 m4 m5 m7 m8 Mario f1 f2 f4 linda Andrea Alex Alicia Gene Mike adam aunty belinda boris grandma "
        "grandpa ian john norbert pablo rob robert sandro shelby victor zac".split()
    ),
    "dev": ("m6", "f5"),
    "test": ("m3", "max", "f3", "Annie"),
}


def voices(split: str) -> tuple[str, ...]:
    """Return the voices of a split with audio, as espeak-ng names them."""
    return tuple(f"{accent}+{variant}" for accent in ACCENTS for variant in VARIANTS[split])


def language(voice: str) -> str:
    """Return the language tag of a voice's accent."""
    return ACCENTS[voice.partition("+")[0]]
