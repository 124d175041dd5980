"""The sentences and the voices of each split."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterator

from joint_st.data.corpora.spoken_grammar.grammar import sentences
from joint_st.data.corpora.spoken_grammar.names import Names
from joint_st.data.corpora.spoken_grammar.voices import ACCENTS, language, voices


@dataclasses.dataclass(frozen=True)
class Script:
    """A sentence, its voice and accent; an empty voice stands for text without audio."""

    id: str
    text: str
    voice: str
    language: str


def scripts(train: int, dev: int, test: int, text: int, names: Names) -> dict[str, list[Script]]:
    """Return a number of scripts for each split over some names, the same on every call. No sentence occurs twice.

    `train` has heard names; an utterance of `dev` or `test` has either heard names or text-only names; `text` mixes
    both, and has text-only names more often. Nobody speaks it, so its accents take turns.
    """
    splits = {  # held-out sentences come first: the splits after them go without those
        "test": (test, sentences("sentences of test", names, only_read_share=0.5, whole=True)),
        "dev": (dev, sentences("sentences of dev", names, only_read_share=0.5, whole=True)),
        "train": (train, sentences("sentences of train", names, only_read_share=0)),
        "text": (text, sentences("sentences of text", names, only_read_share=0.6)),
    }
    taken: set[str] = set()
    out: dict[str, list[Script]] = {}
    for split, (count, stream) in splits.items():
        if split == "text":
            speakers: Iterator[tuple[str, str]] = zip(itertools.repeat(""), itertools.cycle(ACCENTS.values()))
        else:
            speakers = ((voice, language(voice)) for voice in in_turns(voices(split), f"voices of {split}"))
        out[split] = []
        while len(out[split]) < count:
            sentence = next(stream)
            if sentence not in taken:
                taken.add(sentence)
                out[split].append(Script(f"{split}_{len(out[split]):05d}", sentence, *next(speakers)))
    return {split: out[split] for split in ("train", "dev", "test", "text")}


def in_turns(items: tuple[str, ...], seed: str) -> Iterator[str]:
    """Yield items without end: all of them in an order drawn from `seed`, then all in another order."""
    rng = random.Random(seed)
    while True:
        yield from rng.sample(items, len(items))
