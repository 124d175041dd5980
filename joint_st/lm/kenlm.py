"""Reads tries in KenLM's binary form (github.com/kpu/kenlm, version 5 of the format) as lists of n-grams.

`read_ngrams` reads a file in either form, this one or ARPA's.

A *trie* leads from the last word of an n-gram back to its first one, bit-packed, a level an order, with probabilities
and back-off weights as numbers or as indices into a table (`-q`, `-b`). It holds some n-grams that the ARPA file lacks,
because a longer n-gram ends with them; their probability is the one that back-off gives, so they change nothing.

KenLM's default form, *probing* hash tables, has hashes in place of n-grams and is refused.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from joint_st import storage
from joint_st.errors import UserError
from joint_st.lm.arpa import MOST, MOST_BACKOFF, NEVER, Arpa, NGramScores, read_arpa, without_context

MAGIC = b"mmap lm http://kheafield.com/code"

_VERSION = MAGIC + b" format version 5\n\0"
_FIXED = struct.Struct("<B3xfI?3xI")
_FIXED_AT = 88
_PROBING, _QUANTIZED_TRIE = 0, 3
_OTHERS = {1: "with rest costs", 4: "a trie with compressed pointers (-a)", 5: "a trie with compressed pointers (-a)"}

_Order = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Word numbers of the n-grams, int [N, order], their log10 probabilities and their back-off weights, float32 [N]."""


def is_kenlm(path: Path) -> bool:
    """Return whether a file is in KenLM's binary form."""
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_kenlm(path: Path) -> Arpa:
    """Read a trie that `build_binary` made.

    Raises `UserError` for other versions and kinds, for a file without words, for one that is cut short, and for more
    than `MOST` n-grams.
    """
    # Mapped and not read, since a file that is refused may be larger than the memory.
    data = np.memmap(path, np.uint8, "r")
    raw = data.data
    if bytes(raw[: len(_VERSION)]) != _VERSION or len(data) < _FIXED_AT + _FIXED.size:
        raise UserError(f"{path}: not of version 5 of KenLM's binary form; build it again, or give the ARPA file")
    order, _, kind, has_words, _ = _FIXED.unpack_from(raw, _FIXED_AT)
    counts_at = _FIXED_AT + _FIXED.size
    if len(data) < counts_at + 8 * order:
        raise _broken(path)
    counts = struct.unpack_from(f"<{order}Q", raw, counts_at)
    if kind == _PROBING:
        raise UserError(
            f"{path}: a KenLM binary of hash tables (probing), which do not hold their n-grams; give the ARPA file "
            "that lmplz wrote, or make a trie of it: build_binary trie model.arpa model.bin"
        )
    if kind in _OTHERS or order < 2 or not has_words:
        what = _OTHERS.get(kind, "without its words (-v)" if order > 1 else "of one order")
        raise UserError(f"{path}: a KenLM binary {what} cannot be read; give the ARPA file")
    if sum(counts) > MOST:
        raise UserError(f"{path}: {sum(counts):,} n-grams, at most {MOST:,} are read; prune it")
    at = -(-(counts_at + 8 * order) // 8) * 8
    try:
        orders, at = _read_trie(data, at, counts, kind == _QUANTIZED_TRIE)
        words = bytes(raw[at:]).decode().split("\0")[:-1]
        _check(orders)
    except (ValueError, IndexError, OverflowError):
        raise _broken(path) from None
    if len(words) != len(orders[0][0]) or not {"<s>", "</s>"} <= set(words):
        raise UserError(f"{path}: its words are not those of a KenLM binary with <s> and </s>; give the ARPA file")
    ngrams = tuple(
        {
            tuple(words[n] for n in ngram): NGramScores(max(prob, NEVER), max(backoff, NEVER) + 0.0)
            for ngram, prob, backoff in zip(ngrams.tolist(), probs.tolist(), backoffs.tolist())
        }
        for ngrams, probs, backoffs in orders
    )
    if without_context(ngrams) is not None:
        raise _broken(path)
    return Arpa(ngrams)


def _broken(path: Path) -> UserError:
    return UserError(f"{path}: this KenLM binary is cut short or broken; give the ARPA file")


def _read_trie(data: np.ndarray, at: int, counts: tuple[int, ...], quantized: bool) -> tuple[list[_Order], int]:
    """Return the n-grams by order, and the offset of the words."""
    size, order = counts[0], len(counts)
    at += 8 + 8 * size
    tables, prob_bits, backoff_bits = [], 31, 32
    if quantized:
        prob_bits, backoff_bits = int(data[at + 1]), int(data[at + 2])
        at += 8
        for n in range(2, order + 1):
            for bits in (prob_bits, backoff_bits)[: 2 if n < order else 1]:
                tables.append(np.frombuffer(data, "<f4", 1 << bits, at))
                at += 4 << bits
    unigrams = np.frombuffer(data, [("prob", "<f4"), ("backoff", "<f4"), ("next", "<u8")], size + 1, at)
    at += 16 * (size + 2)
    ngrams, first = np.arange(size)[:, None], unigrams["next"].astype(np.int64)
    orders = [(ngrams, unigrams["prob"][:size], unigrams["backoff"][:size])]
    for n, count in enumerate(counts[1:], 2):
        longest = n == order
        values = prob_bits + (0 if longest else backoff_bits)
        before_next = size.bit_length() + values
        width = before_next + (0 if longest else counts[n].bit_length())
        starts = at * 8 + width * np.arange(count + 1)
        word = _bits(data, starts[:-1], size.bit_length())
        # Differences of numbers beyond the count might overflow and look as if they were in order.
        inside = (first >= 0).all() and (first <= count).all()
        if len(first) and (not inside or first[0] or first[-1] != count or (np.diff(first) < 0).any()):
            raise ValueError("pointers out of order")
        ngrams = np.column_stack([word, np.repeat(ngrams, np.diff(first), axis=0)])
        value_at = starts[:-1] + size.bit_length()
        backoffs = np.zeros(count, np.float32)
        if quantized:
            inner = 0 if longest else backoff_bits
            probs = tables[2 * (n - 2)][_bits(data, value_at + inner, prob_bits)]
            if not longest:
                backoffs = tables[2 * (n - 2) + 1][_bits(data, value_at, backoff_bits)]
        else:
            # All log probabilities are negative and stored without the sign bit.
            probs = -_bits(data, value_at, 31).astype(np.uint32).view(np.float32)
            if not longest:
                backoffs = _bits(data, value_at + 31, 32).astype(np.uint32).view(np.float32)
        if not longest:
            first = _bits(data, starts + before_next, width - before_next)
        orders.append((ngrams, probs, backoffs))
        at += ((count + 1) * width + 7) // 8 + 8
    return orders, at


def _check(orders: list[_Order]) -> None:
    """Raise `ValueError` where a word number or a score is invalid."""
    size = len(orders[0][0])
    for ngrams, probs, backoffs in orders:
        if ngrams.size and not (ngrams < size).all():
            raise ValueError("no such word")
        if not ((probs <= 0).all() and (backoffs <= MOST_BACKOFF).all()):  # this is true for NaN too
            raise ValueError("no probability")


def _bits(data: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Return numbers of `length` bits, at most 57, that begin at some bits of the file, int64 [N]."""
    wide = np.ndarray(len(data) - 7, "<u8", data, strides=(1,))
    if len(starts) and (starts[-1] >> 3) >= len(wide):
        raise ValueError("beyond the end")
    shifted = wide[starts >> 3] >> (starts & 7).astype(np.uint64)
    return (shifted & np.uint64((1 << length) - 1)).astype(np.int64)


def read_ngrams(path: Path) -> Arpa:
    """Read an ARPA file, plain or gzipped, or a trie in KenLM's binary form.

    Raises `UserError` where there is no such file, and as `read_arpa` and `read_kenlm` do.
    """
    if why := storage.why_no_file(path):
        raise UserError(f"{path}: {why}")
    return read_kenlm(path) if is_kenlm(path) else read_arpa(path)
