"""A report of made-up utterances, with everything that a page can hold, made without a model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from joint_st.analysis.pairs import ExamplePair
from joint_st.data.normalizers import normalizer
from joint_st.data.utterance import Entry
from joint_st.data.vocabulary import Vocabulary
from joint_st.evaluation.report import ScoredUtterance, score
from joint_st.reports.report import page_data
from joint_st.reports.samples import layer_maps, sound, words
from joint_st.runs.directory import RunDirectory
from joint_st.word_times.spans import Aligned, Span
from tests.tiny import tiny_config

RATE = 8000
WORDS = "anna", "met", "boris", "in", "riga", "at", "nine"
HOSTILE = "</script><script>alert(1)</script><!--"
"""What a transcript might hold."""
ONLY_READ = "riga"


def scored(count: int) -> list[ScoredUtterance]:
    """Utterance `n` has `n % 7 + 1` words; its head `full_context` makes an error in every third, of all kinds."""
    references = [" ".join(WORDS[: n % 7 + 1]) for n in range(count)]
    references[0] = f"{HOSTILE} anna"
    wrong = [[_spoil(text, n) if n % 3 == 0 or head else text for n, text in enumerate(references)] for head in (0, 1)]
    ids = [f"utterance {n:04}" for n in range(count)]
    entries = [Entry(one, 1.0, "", True, language="en-us", speaker=f"speaker {n % 4}") for n, one in enumerate(ids)]
    vocabulary = Vocabulary(frozenset(WORDS) - {ONLY_READ}, frozenset({ONLY_READ}))
    found = []
    for head, hypotheses in zip(("streaming", "full_context"), reversed(wrong)):
        found += score(
            ids,
            references,
            hypotheses,
            [1.0 + n % 5 for n in range(count)],
            split="test",
            head=head,
            subset_of=vocabulary.subset_of,
            entries=entries,
        )
    return found


def _spoil(text: str, n: int) -> str:
    first, *rest = text.split()
    return " ".join([["hanna", *rest], [first, *rest, "then"], [first, *rest[:-1]]][n // 3 % 3 if rest else 0])


def content(folder: Path, count: int = 60) -> dict:
    """Return the data of a page of `count` utterances."""
    run = RunDirectory(folder)
    run.metrics.write_text("step,loss,dev_streaming_wer,odd\n10,2.5,,\n20,1.5,,7\n20,,0.25,\n")
    trained = SimpleNamespace(
        config=tiny_config(folder),
        run=run,
        step=20,
        normalizer=normalizer("english"),
        units=object(),
        vocabulary=Vocabulary(frozenset(), frozenset({ONLY_READ, "never"})),
    )
    return page_data(trained, "test", scored(count), head="full_context", decoder="greedy")


def sample(reference: str, word_seconds: float = 0.4) -> dict:
    """Return a tone for each word, one after the other, aligned exactly, and a map of one layer."""
    said = reference.split()
    times = np.arange(int(len(said) * word_seconds * RATE)) / RATE
    audio = (9000 * np.sin(2 * np.pi * 300 * (1 + (times // word_seconds)) * times)).astype(np.int16)
    spans = tuple(Span(word, k * word_seconds, (k + 1) * word_seconds, 0.9, k) for k, word in enumerate(said))
    aligned = Aligned("one", len(audio) / RATE, reference, "full_context", -0.1, spans, spans)
    return sound(audio, RATE) | words(aligned) | {"maps": layer_maps(example(reference, word_seconds))}


def example(text: str, word_seconds: float = 0.4) -> ExamplePair:
    """Two frames and one unit for each word, nearest on the diagonal."""
    count = len(text.split())
    frames, units = np.arange(2 * count), np.arange(count)
    starts = units * word_seconds
    return ExamplePair(
        id="one",
        text=text,
        layers=("encoders",),
        costs=np.abs(frames[:, None] // 2 - units).astype(np.float32)[None],
        positions=(frames // 2)[None],
        unit=units,
        symbols=tuple("abcdefghij"[:count]),
        words=units,
        word_times=np.stack([starts, starts + word_seconds], axis=1),
        frame_seconds=word_seconds / 2,
    )
