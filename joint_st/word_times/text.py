"""The text of an utterance: where it comes from, and the labels that its audio is aligned with."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from joint_st import storage
from joint_st.data.audio import audio_seconds, read_audio
from joint_st.data.normalizers import Normalizer
from joint_st.data.scripts import tokens_of
from joint_st.data.tokenizers import UNKNOWN, Tokenizer
from joint_st.data.utterance import Entry, Utterance
from joint_st.data.word_times import words_of_each
from joint_st.errors import UserError
from joint_st.word_times.spans import CannotAlign, Span


def labels_of(text: str, normalizer: Normalizer, tokenizer: Tokenizer) -> tuple[str, np.ndarray]:
    """Return the normalised text and its labels, int32 [U].

    Raises `CannotAlign` where the normalised text has no words, lacks words that are spoken, or has characters that the
    tokenizer cannot spell.
    """
    if not text.strip():
        raise CannotAlign("its text is empty; write what is said")
    normalised = normalizer(text)
    if not normalised:
        raise CannotAlign(f"the normaliser {normalizer} leaves nothing of its text {_shown(text)}")
    if lost := _lost_words(text, normalizer):
        raise CannotAlign(
            f"the normaliser {normalizer} leaves nothing of {_named(lost)} in its text; write it with other characters"
        )
    labels = tokenizer.encode(normalised)
    if (labels == UNKNOWN).any():
        names = ", ".join(map(repr, dict.fromkeys(tokenizer.unknown(normalised)))) or "some characters"
        raise CannotAlign(f"the tokenizer of the run cannot spell {names} of its text; write it with other characters")
    return normalised, labels


def _lost_words(text: str, normalizer: Normalizer) -> list[str]:
    """Return the words of a text that have letters or digits and of which the normaliser leaves nothing, each once; those
    that no space separates are one."""
    lost: list[str] = []
    goes_on = False
    for token in tokens_of(text):
        gone = any(map(str.isalnum, token.text)) and not normalizer(token.text)
        if gone and goes_on and token.joined:
            lost[-1] += token.text
        elif gone:
            lost.append(token.text)
        goes_on = gone
    return list(dict.fromkeys(lost))


MOST_NAMED = 5
"""Number of words that are named where some are lost."""


def _named(words: Sequence[str]) -> str:
    rest = len(words) - MOST_NAMED
    return ", ".join(map(_shown, words[:MOST_NAMED])) + (f" and {rest} more words" if rest > 0 else "")


def as_written(text: str, normalizer: Normalizer, words: tuple[Span, ...]) -> tuple[Span, ...]:
    """Return the spans of the words of `text` as it is written, or `words` where the normaliser changes the order of
    words.

    words: one span for each word of the normalised text. A written word may stand for several normalised ones (`1984`),
    or for none, such as a dash, which then joins the word before it, or the word after it where it comes first.
    """
    tokens = tokens_of(text)
    counts = words_of_each(
        [token.text for token in tokens],
        normalizer,
        [span.text for span in words],
        lambda part: [token.text for token in tokens_of(part)],
    )
    if counts is None:
        return words
    spans, first, before = [], 0, ""
    for token, count in zip(tokens, counts.tolist()):
        space = "" if token.joined else " "
        if count:
            group = words[first : first + count]
            first += count
            confidence = sum(span.confidence for span in group) / len(group)
            ends = group[0].start, group[-1].end
            joined = token.joined and not before
            spans.append(Span(before + space * bool(before) + token.text, *ends, confidence, group[0].word, joined))
            before = ""
        elif spans:
            spans[-1] = spans[-1]._replace(text=f"{spans[-1].text}{space}{token.text}")
        else:
            before += space * bool(before) + token.text
    return tuple(spans)


def _shown(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= 40 else f"{text[:39]}…")


class OnePair:
    """A corpus of one utterance, whose id is the file's name without its ending. Raises `UnreadableAudio`."""

    def __init__(self, audio: Path, text: str, language: str = ""):
        self.name = storage.printable(audio.name)
        self._audio = audio
        self._text = text
        self._language = language

    def __len__(self) -> int:
        return 1

    def entry(self, i: int) -> Entry:
        return Entry(
            id=storage.printable(self._audio.stem),
            seconds=audio_seconds(self._audio),
            text=self._text,
            has_audio=True,
            language=self._language,
        )

    def where(self, i: int) -> str:
        return str(self._audio)

    def __getitem__(self, i: int) -> Utterance:
        audio, rate, promised = read_audio(self._audio)
        return Utterance(
            id=storage.printable(self._audio.stem),
            audio=audio,
            sample_rate=rate,
            text=self._text,
            language=self._language,
            speaker="",
            corpus=self.name,
            promised=promised,
        )


OF_TEXTS = (".txt", ".text", ".lab", ".trn")
"""Endings of files of texts: a name with one of them is that of a file, also where there is none."""


def read_text(given: str) -> str:
    """Return the text in the file `given`, which is told on stderr, or `given` itself if it is not a file.

    Raises `UserError` where `given` is one word, or a path with a slash, that ends as files of texts do (`OF_TEXTS`) and
    does not exist, and where the file is not UTF-8.
    """
    path = Path(given)
    try:
        there = path.is_file()
    except OSError:  # longer than a path can be
        there = False
    if there:
        print(f"joint-st: the text is read from the file {storage.printable(path)}", file=sys.stderr)
        try:
            return path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not UTF-8 ({error.reason}); convert the file") from None
    if path.suffix.lower() in OF_TEXTS and (len(given.split()) == 1 or "/" in given):
        raise UserError(
            f"{given}: no such file, and {path.suffix} is the ending of a file; correct the path, or end what is said "
            "with a full stop"
        )
    return given
