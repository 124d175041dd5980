"""A language model over words, for labels that spell them.

A word counts when it is over: at the label that begins the next one, or at the end. Until then, its labels lead through
a trie of the words that the model knows; once they lead out of it, the word is unknown, and its penalty counts at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from joint_st.decoding.fusion.ngram import Arcs, NGram
from joint_st.errors import UserError
from joint_st.lm.arpa import Arpa

_ROOT, _UNKNOWN = 0, 1
"""Nodes of the trie: between words, and within one that is none of the model's."""


class WordLM(NamedTuple):
    """The state of a prefix is that of the n-gram model after its whole words, and the node that its last one is at."""

    ngram: NGram
    trie: Arcs
    """By node and label."""
    words: jax.Array
    """The token of the word that ends at each node, int32 [N]; `<unk>` where none does."""
    begins: jax.Array
    """Whether each label ends a word and begins the next, bool [V]."""

    @classmethod
    def of(cls, model: Arpa, spellings: Sequence[str]) -> WordLM:
        """spellings: what each label [V] adds to a text, with a space only at the front.

        Raises `UserError` where a label has one elsewhere, and where most words of the model cannot be spelled.
        """
        if odd := [spelling for spelling in spellings if " " in spelling[1:]]:
            raise UserError(f"the run's tokenizer has the piece {odd[0]!r}: a word LM needs words to begin with pieces")
        ngram, ids = NGram.of(model)
        letters = set("".join(spellings))
        words = [word for word in model.tokens if letters.issuperset(word)]
        unspellable = unspellable_words(model, spellings)
        if len(unspellable) > len(words):
            raise UserError(
                f"{len(unspellable)} of its {len(model.tokens)} words, such as {unspellable[0]!r}, cannot be spelled by the "
                "run's tokenizer; make it of texts that are normalised as the run's"
            )
        if not words:
            raise UserError("holds no word")
        children, ends = _trie(words)
        first, later = _labels_by_letters(spellings)
        starts = [(_ROOT, first), *((node, later) for node in children if node != _UNKNOWN)]
        arcs = {(node, label): target for node, labels in starts for label, target in _along(children, node, labels)}
        tokens = np.full(len(children), ngram.unknown, np.int32)
        tokens[list(ends)] = [ids[word] for word in ends.values()]
        begins = np.array([spelling.startswith(" ") for spelling in spellings])
        return cls(ngram, Arcs.of(arcs, len(children))[0], tokens, begins)

    def start(self) -> tuple[jax.Array, jax.Array]:
        """The state [], [] of the empty prefix."""
        return jnp.int32(self.ngram.start), jnp.int32(_ROOT)

    def lengthen(self, states, labels, weight, bonus, unknown_penalty):
        """Scores and states after each label, as `LabelLM.lengthen` gives them; the bonus is for a word."""
        contexts, nodes = states
        of_word, after_word = self._end_word(states, weight, bonus, unknown_penalty)
        begins = self.begins[labels]
        before = jnp.where(begins, _ROOT, nodes[:, None])
        found, arc = self.trie.find(before, labels)
        after = jnp.where(found, self.trie.targets[arc], _UNKNOWN)
        left = (after == _UNKNOWN) & (before != _UNKNOWN)
        gain = jnp.where(begins, of_word[:, None], 0.0) - weight * unknown_penalty * left
        return gain, (jnp.where(begins, after_word[:, None], contexts[:, None]), after)

    def finish(self, states, weight, bonus, unknown_penalty):
        """Scores of the end of the text, as `LabelLM.finish` gives them."""
        of_word, after_word = self._end_word(states, weight, bonus, unknown_penalty)
        return of_word + weight * self.ngram.step(after_word, self.ngram.end)[0]

    def _end_word(self, states, weight, bonus, unknown_penalty):
        """What the end of each prefix's last word adds to its score [W], and the n-gram model's state then [W]."""
        contexts, nodes = states
        word = self.words[nodes]
        log_prob, after = self.ngram.step(contexts, word)
        # Of a word that only begins as a known one does, the penalty is still to be paid.
        unpaid = (word == self.ngram.unknown) & (nodes != _UNKNOWN)
        score = weight * (log_prob - unknown_penalty * unpaid) + bonus
        inside = nodes != _ROOT
        return jnp.where(inside, score, 0.0), jnp.where(inside, after, contexts)


def unspellable_words(model: Arpa, spellings: Sequence[str]) -> list[str]:
    """The words of a model that labels cannot spell; the search never finds them."""
    letters = set("".join(spellings))
    return [word for word in model.tokens if not letters.issuperset(word)]


def _trie(words: Iterable[str]) -> tuple[dict[int, dict[str, int]], dict[int, str]]:
    """The letters that lead from each node to others, and the words by the nodes that they end at."""
    children, ends = {_ROOT: {}, _UNKNOWN: {}}, {}
    for word in words:
        node = _ROOT
        for letter in word:
            node = children[node].setdefault(letter, len(children))
            children.setdefault(node, {})
        ends[node] = word
    return children, ends


class _Labels:
    """Labels by their letters: those that are over here, and where each letter leads."""

    def __init__(self) -> None:
        self.over: list[int] = []
        self.next: dict[str, _Labels] = {}


def _labels_by_letters(spellings: Sequence[str]) -> tuple[_Labels, _Labels]:
    """The labels that begin a word, without their space, and those that do not; neither has the blank."""
    first, later = _Labels(), _Labels()
    for label, spelling in enumerate(spellings):
        here = first if spelling.startswith(" ") else later
        for letter in spelling.removeprefix(" "):
            here = here.next.setdefault(letter, _Labels())
        if spelling:
            here.over.append(label)
    return first, later


def _along(children: dict[int, dict[str, int]], node: int, labels: _Labels) -> Iterator[tuple[int, int]]:
    """The labels whose letters lead from a node to another one, and that one."""
    pairs = [(node, labels)]
    while pairs:
        node, labels = pairs.pop()
        yield from ((label, node) for label in labels.over)
        ahead = children[node]
        pairs += [(ahead[letter], longer) for letter, longer in labels.next.items() if letter in ahead]
