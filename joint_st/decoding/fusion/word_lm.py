"""A language model over words, for labels that spell them.

A word is scored when it ends: at the label that begins the next word, or at the end. Until then, its labels lead
through a trie of the words that the model knows; once they leave the trie, the word is unknown, and its penalty counts
immediately.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from joint_st.decoding.fusion.ngram import Arcs, NGram
from joint_st.errors import UserError
from joint_st.lm.arpa import Arpa

NOTHING = -1e30
"""Log probability of what does not exist; finite, so that a weight of 0 makes it 0."""

_ROOT, _UNKNOWN = 0, 1
"""Special nodes of the trie: between words, and within a word that the model does not know."""


class WordLM(NamedTuple):
    """Scores words; the state of a prefix is the n-gram model's after its complete words, and the trie's node of its
    last word."""

    ngram: NGram
    trie: Arcs
    """Arcs of the trie by node and label."""
    words: jax.Array
    """The token of the word that ends at each node, int32 [N]; `<unk>` where none does."""
    ahead: jax.Array
    """Highest log probability, without context, of the words that go on from each node, float32 [N]; `NOTHING` where none
    does."""
    begins: jax.Array
    """Whether each label ends a word and begins the next, bool [V]."""

    @classmethod
    def of(cls, model: Arpa, spellings: Sequence[str]) -> WordLM:
        """Make it from a model. spellings: what each label [V] adds to a text, with a space only at the front.

        Raises `UserError` where a label has a space elsewhere, and where most words of the model cannot be spelled.
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
                "run's tokenizer; make it from texts that are normalised like the run's"
            )
        if not words:
            raise UserError("holds no word")
        children, ends = _trie(words)
        first, later = _labels_by_letters(spellings)
        starts = [(_ROOT, first), *((node, later) for node in children if node != _UNKNOWN)]
        arcs = {(node, label): target for node, labels in starts for label, target in _along(children, node, labels)}
        tokens = np.full(len(children), ngram.unknown, np.int32)
        tokens[list(ends)] = [ids[word] for word in ends.values()]
        ahead = np.full(len(children), NOTHING, np.float32)
        # A node is made before those below it.
        for node in reversed(range(len(children))):
            for child in children[node].values():
                own = math.log(10) * model.ngrams[0][ends[child],].log10_prob if child in ends else NOTHING
                ahead[node] = max(ahead[node], ahead[child], own)
        begins = np.array([spelling.startswith(" ") for spelling in spellings])
        return cls(ngram, Arcs.of(arcs, len(children))[0], tokens, ahead, begins)

    def start(self) -> tuple[jax.Array, jax.Array]:
        """Return the state [], [] of the empty prefix."""
        return jnp.int32(self.ngram.start), jnp.int32(_ROOT)

    def lengthen(self, states, labels, weight, bonus, unknown_penalty):
        """Return scores and states after each label, as `LabelLM.lengthen` does; the bonus is for a word."""
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
        """Return scores of the end of the text, as `LabelLM.finish` does."""
        of_word, after_word = self._end_word(states, weight, bonus, unknown_penalty)
        return of_word + weight * self.ngram.step(after_word, self.ngram.end)[0]

    def pending(self, states, weight, bonus, unknown_penalty):
        """Return what the last word of each prefix has yet to add, float32 [W]: if it ends here, or as the likeliest
        word, without context, that goes on."""
        contexts, nodes = states
        word = self.words[nodes]
        ends = (word != self.ngram.unknown) | (nodes == _UNKNOWN)
        log_prob = jnp.where(ends, self.ngram.step(contexts, word)[0], NOTHING)
        score = weight * jnp.maximum(log_prob, self.ahead[nodes]) + bonus
        return jnp.where(nodes != _ROOT, score, 0.0)

    def _end_word(self, states, weight, bonus, unknown_penalty):
        """Return what the end of each prefix's last word adds to its score [W], and the n-gram model's state after it
        [W]."""
        contexts, nodes = states
        word = self.words[nodes]
        log_prob, after = self.ngram.step(contexts, word)
        # A word that is only the beginning of a known one still has to get the penalty.
        unpaid = (word == self.ngram.unknown) & (nodes != _UNKNOWN)
        score = weight * (log_prob - unknown_penalty * unpaid) + bonus
        inside = nodes != _ROOT
        return jnp.where(inside, score, 0.0), jnp.where(inside, after, contexts)


def unspellable_words(model: Arpa, spellings: Sequence[str]) -> list[str]:
    """Return the words of a model that the labels cannot spell; the search never finds them."""
    letters = set("".join(spellings))
    return [word for word in model.tokens if not letters.issuperset(word)]


def _trie(words: Iterable[str]) -> tuple[dict[int, dict[str, int]], dict[int, str]]:
    """Return the letters that lead from each node to others, and the words by the nodes at which they end."""
    children, ends = {_ROOT: {}, _UNKNOWN: {}}, {}
    for word in words:
        node = _ROOT
        for letter in word:
            node = children[node].setdefault(letter, len(children))
            children.setdefault(node, {})
        ends[node] = word
    return children, ends


class _Labels:
    """Labels by their letters: the labels that end here, and where each letter leads."""

    def __init__(self) -> None:
        self.over: list[int] = []
        self.next: dict[str, _Labels] = {}


def _labels_by_letters(spellings: Sequence[str]) -> tuple[_Labels, _Labels]:
    """Return the labels that begin a word, without their space, and those that do not; the blank is in neither."""
    first, later = _Labels(), _Labels()
    for label, spelling in enumerate(spellings):
        here = first if spelling.startswith(" ") else later
        for letter in spelling.removeprefix(" "):
            here = here.next.setdefault(letter, _Labels())
        if spelling:
            here.over.append(label)
    return first, later


def _along(children: dict[int, dict[str, int]], node: int, labels: _Labels) -> Iterator[tuple[int, int]]:
    """Yield the labels whose letters lead from a node to another one, and that node."""
    pairs = [(node, labels)]
    while pairs:
        node, labels = pairs.pop()
        yield from ((label, node) for label in labels.over)
        ahead = children[node]
        pairs += [(ahead[letter], longer) for letter, longer in labels.next.items() if letter in ahead]
