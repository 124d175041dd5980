"""N-gram language models in the ARPA format, with back-off: read, written, and walked in plain Python.

A model may be over words or over the labels of a tokenizer; `symbols` says how a label is written as a token.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import io
import logging
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

from joint_st import storage
from joint_st.data import tokenizers
from joint_st.data.scripts import mostly_unspaced
from joint_st.data.tokenizers import BLANK, UNKNOWN_MARK, WORD, Characters, Tokenizer
from joint_st.errors import UserError

log = logging.getLogger(__name__)

START, END, UNKNOWN = "<s>", "</s>", "<unk>"

NEVER = -99.0
"""Number that stands for the logarithm of 0 in this format."""

MOST_BACKOFF = 99.0
"""Largest log10 back-off weight that is accepted; those of real models are far below."""

MOST = 10_000_000
"""Largest number of n-grams of a model: each takes some 600 bytes while it is read, and at most 24 on the device."""

_UNKNOWN_AS_WRITTEN = ("<UNK>", "[UNK]")


class NGramScores(NamedTuple):
    """The two numbers that a model has for an n-gram."""

    log10_prob: float
    """Log10 probability of the last token after the ones before it."""
    log10_backoff: float
    """Log10 back-off weight: it applies where the model has no n-gram that continues this one with the next token."""


@dataclasses.dataclass(frozen=True)
class Arpa:
    """A back-off model."""

    ngrams: tuple[dict[tuple[str, ...], NGramScores], ...]
    """N-grams by order, from 1 on. Single tokens include `<s>`, `</s>` and `<unk>`, and every token of an n-gram, and
    every n-gram's context, without its last token, is an n-gram too."""
    repeated: int = dataclasses.field(default=0, compare=False)
    """Number of n-grams in the file that repeat an earlier one; the earlier one counts."""

    @property
    def order(self) -> int:
        return len(self.ngrams)

    @property
    def tokens(self) -> list[str]:
        """All tokens except `<s>`, `</s>` and `<unk>`."""
        return [token for (token,) in self.ngrams[0] if token not in (START, END, UNKNOWN)]

    def log10_prob(self, token: str, before: Sequence[str]) -> float:
        """Log10 probability of a token after others, the first of which may be `<s>`.

        A token that the model lacks has the probability of `<unk>`.
        """
        known = [word if (word,) in self.ngrams[0] else UNKNOWN for word in (*before, token)]
        ngram, weight = tuple(known[-self.order :]), 0.0
        while ngram not in self.ngrams[len(ngram) - 1]:
            context, ngram = ngram[:-1], ngram[1:]
            weight += self.ngrams[len(context) - 1].get(context, NGramScores(0.0, 0.0)).log10_backoff
        return weight + self.ngrams[len(ngram) - 1][ngram].log10_prob

    def sentence(self, tokens: Sequence[str]) -> float:
        """Return the log10 probability of all tokens of a sentence and its end."""
        said = [START, *tokens, END]
        return sum(self.log10_prob(said[i], said[:i]) for i in range(1, len(said)))


def read_arpa(path: Path | str) -> Arpa:
    """Read an ARPA file, plain or gzipped (`.gz`).

    If an n-gram occurs more than once, for instance after lower-casing, the first counts, as in KenLM, and a warning
    says how many repeat one. A model without `<unk>` gets one of probability 0. Raises `UserError` where there is no
    such file, where it is broken (a probability is not a number, or above 1), and where it has more than `MOST`
    n-grams.
    """
    path = Path(path)
    if why := storage.why_no_file(path):
        raise UserError(f"{path}: {why}")
    try:
        with _open(path) as file:
            return _parse(path, file)
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error):
        raise UserError(f"{path}: no ARPA file, which is text in UTF-8") from None


def write_arpa(model: Arpa, path: Path | str, write: Callable[[Path, bytes], None] = storage.write_whole) -> None:
    """Write a model, gzipped where the path ends in `.gz`; a reader sees the whole file or none.

    write: what writes the file. Raises `OSError`, which names `path`, where it cannot be written; nothing is left behind
    then.
    """
    path, text = Path(path), io.StringIO()
    _write(model, text)
    content = text.getvalue().encode()
    write(path, gzip.compress(content) if path.suffix == ".gz" else content)


def _write(model: Arpa, file: TextIO) -> None:
    file.write("\\data\\\n")
    file.writelines(f"ngram {n}={len(of_order)}\n" for n, of_order in enumerate(model.ngrams, 1))
    for n, of_order in enumerate(model.ngrams, 1):
        file.write(f"\n\\{n}-grams:\n")
        for ngram, (log_prob, backoff) in of_order.items():
            end = "" if n == model.order or not backoff else f"\t{backoff:.7g}"
            file.write(f"{log_prob:.7g}\t{' '.join(ngram)}{end}\n")
    file.write("\n\\end\\\n")


@contextlib.contextmanager
def _open(path: Path) -> Iterator[TextIO]:
    opened = gzip.open if path.suffix == ".gz" else open
    # Lines end with a line feed only, because a token may hold other characters that Python takes for line ends.
    with opened(path, "rt", encoding="utf-8", newline="\n") as file:
        yield file


def _parse(path: Path, file: TextIO) -> Arpa:
    sizes, ngrams, order, repeated = {}, [], 0, Counter()
    for number, line in enumerate(file, 1):
        line = line.strip(" \t\r\n")
        try:
            if line == "\\end\\":
                break
            elif line.startswith("\\") and line.endswith("-grams:"):
                order = int(line[1:-7])
                if order != len(ngrams) + 1:
                    raise ValueError
                ngrams.append({})
                if sum(sizes.values()) > MOST:
                    raise UserError(f"{path}: {sum(sizes.values()):,} n-grams, at most {MOST:,} are read; prune it")
            elif order and line:
                ngram, entry = _ngram(line, order)
                if ngrams[-1].setdefault(ngram, entry) is not entry:
                    repeated[ngram] += 1
                elif len(ngrams[-1]) > sizes.get(order, 0):  # stop before it fills the memory
                    raise UserError(f"{path}: has more {order}-grams than the {sizes.get(order, 0)} that it announces")
            elif line.startswith("ngram "):
                n, size = line[6:].split("=")
                sizes[int(n)] = int(size)
        except _NoScore as error:
            raise UserError(f"{path}: line {number}: {error}: {line[:60]!r}; estimate the model again") from None
        except ValueError:
            raise UserError(f"{path}: line {number} is not of an ARPA file: {line[:60]!r}") from None
    else:
        raise UserError(f"{path}: an incomplete ARPA file: it lacks \\end\\")
    found = {n: len(of_order) for n, of_order in enumerate(ngrams, 1)}
    for ngram, times in repeated.items():
        found[len(ngram)] += times
    if not ngrams or sizes != found:
        raise UserError(f"{path}: announces n-grams {sizes} by order, and has {found}; is it cut short?")
    if missing := [token for token in (START, END) if (token,) not in ngrams[0]]:
        raise UserError(f"{path}: has no {missing[0]}, so it says nothing of sentences; estimate it with them")
    # Nothing is longer than the highest order. A file that was cut from a larger model still has its back-off weights.
    ngrams[-1].update(
        {ngram: NGramScores(own.log10_prob, 0.0) for ngram, own in ngrams[-1].items() if own.log10_backoff}
    )
    ngrams[0].setdefault((UNKNOWN,), NGramScores(NEVER, 0.0))
    if ngram := without_context(ngrams):
        raise UserError(f"{path}: has {' '.join(ngram)!r}, but not {' '.join(ngram[:-1])!r}")
    for of_order in ngrams[1:]:
        for ngram in of_order:
            if ngram[-1:] not in ngrams[0]:
                raise UserError(f"{path}: has {' '.join(ngram)!r}, but not {ngram[-1]!r}")
    if total := sum(repeated.values()):
        example = " ".join(next(iter(repeated)))
        log.warning("%s: %d n-grams, such as %r, repeat an earlier one, which counts", path, total, example)
    return Arpa(tuple(ngrams), total)


def without_context(ngrams: Sequence[dict[tuple[str, ...], NGramScores]]) -> tuple[str, ...] | None:
    """Return the first n-gram, by order, whose context is not an n-gram itself; None where there is none."""
    for shorter, of_order in zip(ngrams, ngrams[1:]):
        for ngram in of_order:
            if ngram[:-1] not in shorter:
                return ngram
    return None


class _NoScore(Exception):
    """Raised for a number that is neither a probability nor a back-off weight."""


def _ngram(line: str, order: int) -> tuple[tuple[str, ...], NGramScores]:
    """Parse a line; columns are split at tabs and spaces alone, since a token may hold other white space."""
    probability, *rest = line.replace("\t", " ").split(" ")
    if len(rest) not in (order, order + 1):
        raise ValueError
    backoff = _number(rest.pop()) if len(rest) > order else 0.0
    log_prob = _number(probability)
    if math.isnan(log_prob) or log_prob > 0:
        raise _NoScore(f"a log10 probability of {log_prob:g}, which must be at most 0")
    if math.isnan(backoff) or backoff > MOST_BACKOFF:
        raise _NoScore(f"a log10 back-off weight of {backoff:g}, which must be at most {MOST_BACKOFF:g}")
    tokens = tuple(UNKNOWN if token in _UNKNOWN_AS_WRITTEN else token for token in rest)
    # Some tools write "-inf", and the difference of two of them would be NaN.
    return tokens, NGramScores(max(log_prob, NEVER), max(backoff, NEVER))


def _number(text: str) -> float:
    """Parse a number as other programs write it; Python alone would also accept `1_0` and digits of other scripts."""
    if "_" in text or not text.isascii():
        raise ValueError
    return float(text)


SPACE = WORD
"""Character that stands for a space inside a token; SentencePiece writes it where a word begins."""


def spellings(tokenizer: Tokenizer) -> list[str]:
    """Return what each label [V] adds to a text: "" for the blank, `⁇` for the unknown one, with a space where a word
    ends."""
    if isinstance(tokenizer, Characters):
        return ["", UNKNOWN_MARK, *tokenizer.characters]
    written = [piece.replace(SPACE, " ") for piece in tokenizer.symbols()]
    written[BLANK], written[tokenizers.UNKNOWN] = "", UNKNOWN_MARK
    return written


def separates_words(tokenizer: Tokenizer) -> bool:
    """Return whether texts that the labels of a tokenizer spell have spaces between words.

    They do not where no label has a space, and where most letters of the labels are in scripts without spaces: there
    SentencePiece still has pieces with a space, because it puts one before each text.
    """
    written = spellings(tokenizer)[tokenizers.UNKNOWN + 1 :]
    return any(" " in spelling for spelling in written) and not mostly_unspaced(written)


def symbols(tokenizer: Tokenizer) -> list[str]:
    """Return the token of each label [V] in a language model over labels: its spelling, with `▁` for a space."""
    written = [spelling.replace(" ", SPACE) for spelling in spellings(tokenizer)]
    written[tokenizers.UNKNOWN] = UNKNOWN
    return written


def label_tokens(tokenizer: Tokenizer, text: str) -> Sequence[str]:
    """Return a normalised text as tokens of a language model over labels."""
    written = symbols(tokenizer)
    return [written[label] for label in tokenizer.encode(text)]
