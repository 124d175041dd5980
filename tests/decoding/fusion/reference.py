"""Scores of a whole text by a language model and hot words, in plain Python that walks the ARPA model."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from joint_st.lm.arpa import Arpa


def of_tokens(model: Arpa, tokens: Sequence[str], weight: float, bonus: float, penalty: float) -> float:
    unknown = sum(token == "<unk>" or (token,) not in model.ngrams[0] for token in tokens)
    return weight * (math.log(10) * model.sentence(tokens) - penalty * unknown) + bonus * len(tokens)


def of_hot_words(phrases: Sequence[str], text: str, bonus: float) -> float:
    padded = f" {' '.join(text.split())} "
    return bonus * sum(padded.startswith(f" {phrase} ", i) for i in range(len(padded)) for phrase in phrases)


def pruned(model: Arpa, share: float) -> Arpa:
    """Return the model without some n-grams that begin no other one: suffixes of others go too."""
    rng, ngrams = random.Random(0), [dict(of_order) for of_order in model.ngrams]
    for n in range(len(ngrams) - 1, 0, -1):
        begun = {ngram[:-1] for ngram in (ngrams[n + 1] if n + 1 < len(ngrams) else ())}
        for ngram in [ngram for ngram in ngrams[n] if ngram not in begun and rng.random() < share]:
            del ngrams[n][ngram]
    return Arpa(tuple(ngrams))
