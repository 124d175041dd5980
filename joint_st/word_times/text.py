"""From the text of an utterance to the labels that its audio is aligned with."""

from __future__ import annotations

import numpy as np

from joint_st.data.normalizers import Normalizer
from joint_st.data.tokenizers import UNKNOWN, Tokenizer
from joint_st.word_times.result import CannotAlign, Span


def labels_of(text: str, normalizer: Normalizer, tokenizer: Tokenizer) -> tuple[str, np.ndarray]:
    """The normalised text and its labels, int32 [U].

    Raises `CannotAlign` where no words are left of it, and where it has characters that the tokenizer does not spell.
    """
    if not text.strip():
        raise CannotAlign("its text is empty; write what is said")
    normalised = normalizer(text)
    if not normalised:
        raise CannotAlign(f"nothing is left of its text {_shown(text)} by the normaliser {normalizer}")
    labels = tokenizer.encode(normalised)
    if (labels == UNKNOWN).any():
        unknown = dict.fromkeys(c for c in normalised if UNKNOWN in tokenizer.encode(c))
        names = ", ".join(map(repr, unknown)) or "some characters"
        raise CannotAlign(f"the tokenizer of the run cannot spell {names} of its text; write it with other characters")
    return normalised, labels


def as_written(text: str, normalizer: Normalizer, words: tuple[Span, ...]) -> tuple[Span, ...]:
    """The spans of the words of `text` as it is written; `words` where the normaliser mixes words up.

    words: one span for each word of the normalised text. A written word may mean several (`1984`), or none, as a dash:
    it then stands with the word before it, or the one after where it is the first.
    """
    tokens = text.split()
    meant = [normalizer(token).split() for token in tokens]
    if [word for some in meant for word in some] != [span.text for span in words]:
        return words
    spans, first, before = [], 0, ""
    for token, some in zip(tokens, meant):
        if some:
            group = words[first : first + len(some)]
            first += len(some)
            confidence = sum(span.confidence for span in group) / len(group)
            spans.append(Span(before + token, group[0].start, group[-1].end, confidence, group[0].word))
            before = ""
        elif spans:
            spans[-1] = spans[-1]._replace(text=f"{spans[-1].text} {token}")
        else:
            before += f"{token} "
    return tuple(spans)


def _shown(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= 40 else f"{text[:39]}…")
