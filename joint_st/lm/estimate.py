"""`joint-st data ngram`: n-gram models of texts by modified Kneser-Ney smoothing, interpolated.

Chen and Goodman, "An empirical study of smoothing techniques for language modeling", 1998, equations 26 to 28; in the
form in which KenLM estimates (Heafield et al., "Scalable modified Kneser-Ney language model estimation", ACL 2013):

- an n-gram of the highest order counts as often as it occurs, and so does one that begins with `<s>`; any other one
  counts with the number of different tokens that precede it;
- from a count of 1, 2, or 3 and more, `D1`, `D2` or `D3` is subtracted. The discounts of an order follow from the
numbers of n-grams that count 1, 2, 3 and 4 (`t1` to `t4`): `Dk = k - (k + 1) * t1 / (t1 + 2 * t2) * t(k + 1) / t(k)`.
If there are too few n-grams for that, as among the single characters of a text, they are 0.5, 1 and 1.5;
- what was subtracted after a context is shared among the tokens in proportion to their probabilities after the shorter
context; for single tokens it is shared evenly among all, including `<unk>` and `</s>`.
"""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

from joint_st import storage
from joint_st.config import Config
from joint_st.data.index import name_most_frequent
from joint_st.data.texts import train_tokenizer, training_texts
from joint_st.data.tokenizers import Tokenizer, load_tokenizer
from joint_st.errors import UserError
from joint_st.lm.arpa import END, NEVER, START, UNKNOWN, Arpa, NGramScores, label_tokens, write_arpa
from joint_st.runs.directory import RunDirectory

log = logging.getLogger(__name__)


def estimate_ngram(
    config: Config,
    place: Path,
    order: int,
    level: Literal["word", "label"],
    out: Path,
    write: Callable[[Path, bytes], None] = storage.write_whole,
) -> Arpa:
    """Estimate a model of `order` on the training texts of a config, paired and unpaired, and write it to `out` by `write`.

    place: path of the config. Where it is a run's directory, the labels are those of the run's tokenizer; otherwise
    those of the tokenizer that a run of the config would have. Over labels, `<unk>` stands for characters that the
    tokenizer cannot spell, which a warning counts and names. Raises `UserError` as `estimate` does.
    """
    texts = training_texts(config)
    if level == "word":
        model = estimate((text.split() for text in texts), order)
    else:
        spelled = _Spelled(_tokenizer(config, place))
        model = estimate(map(spelled, texts), order, of_labels=True)
        spelled.tell_unknown()
    write_arpa(model, out, write)
    return model


class _Spelled:
    """Writes texts as labels, and counts the characters that these cannot spell."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._texts = self._affected = 0
        self._unknown: Counter[str] = Counter()

    def __call__(self, text: str) -> Sequence[str]:
        """Return a text as tokens of a language model over labels."""
        tokens = label_tokens(self._tokenizer, text)
        self._texts += 1
        if UNKNOWN in tokens:
            self._affected += 1
            self._unknown.update(self._tokenizer.unknown(text))
        return tokens

    def tell_unknown(self) -> None:
        """Warn of the texts that hold characters that the tokenizer cannot spell."""
        if self._affected:
            log.warning(
                "%d of %d texts hold characters that the tokenizer cannot spell, and which are <unk> in the model: %s",
                *(self._affected, self._texts, name_most_frequent(self._unknown.most_common())),
            )


def _tokenizer(config: Config, place: Path) -> Tokenizer:
    own = RunDirectory(place).tokenizer
    return load_tokenizer(own) if own.is_dir() else train_tokenizer(config)


FALLBACK = (0.5, 1.0, 1.5)


def estimate(sentences: Iterable[Sequence[str]], order: int, of_labels: bool = False) -> Arpa:
    """Estimate a model of `order` 1 or more from sentences of tokens, without their `<s>` and `</s>`.

    of_labels: whether `<unk>` may be among the tokens, as the label of what a tokenizer cannot spell; it is then counted
    like any other. All n-grams are kept in memory, at some 300 bytes for each different one. Raises `UserError` where
    there is no sentence, or one holds `<s>`, `</s>` or, but for labels, `<unk>`.
    """
    counts = _counts(sentences, order)
    if not counts[0]:
        raise UserError("no text to estimate a language model from")
    if reserved := {(START,), *([] if of_labels else [(UNKNOWN,)])} & counts[0].keys():
        raise UserError(f"the texts hold {reserved.pop()[0]!r}, which a language model keeps for itself; remove it")
    adjusted = _adjusted(counts)
    vocabulary = len(counts[0].keys() | {(UNKNOWN,)})
    lower = {(): 1 / vocabulary}
    models = []
    for n, of_order in enumerate(adjusted, 1):
        probabilities, weights = _interpolated(of_order, lower)
        if n == 1 and (UNKNOWN,) not in probabilities:
            probabilities[UNKNOWN,] = weights[()] / vocabulary
        models.append((probabilities, weights))
        lower = probabilities
    ngrams = []
    for n, (probabilities, _) in enumerate(models, 1):
        backoffs = models[n][1] if n < order else {}
        entries = {
            ngram: NGramScores(math.log10(probability), math.log10(backoffs.get(ngram, 1.0)))
            for ngram, probability in probabilities.items()
        }
        if n == 1:
            entries[START,] = NGramScores(NEVER, math.log10(backoffs.get((START,), 1.0)))
        ngrams.append(dict(sorted(entries.items())))
    return Arpa(tuple(ngrams))


def _counts(sentences: Iterable[Sequence[str]], order: int) -> list[Counter]:
    """Return how often each n-gram occurs, by order; `<s>` alone is left out."""
    counts = [Counter() for _ in range(order)]
    for sentence in sentences:
        tokens = (START, *sentence, END)
        if END in sentence:
            raise UserError(f"the texts hold {END!r}, which a language model keeps for itself; remove it")
        for n in range(1, order + 1):
            # Lower orders count from the second token on, since `<s>` alone is never predicted.
            first = 1 if n == 1 else 0
            counts[n - 1].update(tokens[i : i + n] for i in range(first, len(tokens) - n + 1))
    return counts


def _adjusted(counts: list[Counter]) -> list[Counter]:
    """Return the adjusted count of each n-gram."""
    adjusted = []
    for n, of_order in enumerate(counts[:-1]):
        followers = Counter(ngram[1:] for ngram in counts[n + 1])
        adjusted.append(
            Counter({ngram: count if ngram[0] == START else followers[ngram] for ngram, count in of_order.items()})
        )
    return [*adjusted, counts[-1]]


def _interpolated(of_order: Counter, lower: dict) -> tuple[dict, dict]:
    """Return the probability of each n-gram, and the weight of the shorter context after each context."""
    taken = _discounts(of_order)
    totals, freed = defaultdict(int), defaultdict(float)
    for ngram, count in of_order.items():
        totals[ngram[:-1]] += count
        freed[ngram[:-1]] += taken[min(count, 3) - 1]
    weights = {context: freed[context] / total for context, total in totals.items()}
    probabilities = {
        ngram: (count - taken[min(count, 3) - 1]) / totals[ngram[:-1]]
        + weights[ngram[:-1]] * (lower[ngram[1:]] if len(ngram) > 1 else lower[()])
        for ngram, count in of_order.items()
    }
    return probabilities, weights


def _discounts(of_order: Counter) -> tuple[float, float, float]:
    """Return the discounts of n-grams that count 1, 2, or 3 and more."""
    t1, t2, t3, t4 = (sum(1 for count in of_order.values() if count == k) for k in (1, 2, 3, 4))
    if not (t1 and t2 and t3):
        return FALLBACK
    share = t1 / (t1 + 2 * t2)
    found = (1 - 2 * share * t2 / t1, 2 - 3 * share * t3 / t2, 3 - 4 * share * t4 / t3)
    return found if all(0 < discount < k for k, discount in enumerate(found, 1)) else FALLBACK
