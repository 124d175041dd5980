"""Hot words: a bonus for words and phrases that the user expects.

Each occurrence of a hot phrase, as whole words, gets one bonus, or as many as its weight says. While the phrase is
being spelled, a share of the bonus counts in proportion to the letters spelled so far, so that the beam keeps it; the
share is taken back if the spelling diverges. The automaton is Aho and Corasick's ("Efficient string matching", 1975)
over letters, with a space before each phrase; its table has a row for each state and a column for each label. A space
after another changes nothing, because texts are written with single ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from joint_st.errors import UserError

MOST = 20_000_000
"""Cells, states by labels, of 8 bytes each."""


class HotWords(NamedTuple):
    """The state of a prefix is the longest suffix of its text that begins a hot phrase."""

    after: jax.Array
    """The state after each state and label, int32 [S, V]."""
    gains: jax.Array
    """Change of the score, in bonuses, float32 [S, V]."""
    ends: jax.Array
    """Change of the score at the end of the text, in bonuses, float32 [S]."""
    first: jax.Array
    """The state of the empty prefix, int32 []."""

    @classmethod
    def of(
        cls, phrases: Iterable[str], spellings: Sequence[str], weights: Mapping[str, float] = MappingProxyType({})
    ) -> HotWords:
        """Build the automaton. phrases: normalised, words separated by single spaces. spellings: what each label [V]
        adds to a text. weights: bonuses of the phrases that do not count for one.

        Raises `UserError` where a phrase cannot be spelled, and where there are too many.
        """
        phrases = sorted(set(phrases))
        letters = set("".join(spellings))
        for phrase in phrases:
            if not letters.issuperset(phrase):
                raise UserError(f"the hot word {phrase!r} cannot be spelled by the run's tokenizer; remove it")
        children, shares, over = _trie(phrases, weights)
        if (cells := len(children) * len(spellings)) > MOST:
            raise UserError(f"{len(phrases)} hot words need a table of {cells:,} cells; at most {MOST:,}: give fewer")
        back = _fall_back(children, shares, over)
        # Every text that ends with a space is in one of these.
        spaces = {after for letters in children for letter, after in letters.items() if letter == " "}

        def advance(state: int, letter: str) -> tuple[int, float]:
            """Return the state after a letter, and the worth of the phrases that ended before it."""
            if letter == " " and state in spaces:
                return state, 0.0
            done = over[state] if letter == " " else 0.0
            while state and letter not in children[state]:
                state = back[state]
            return children[state].get(letter, 0), done

        after = np.zeros((len(children), len(spellings)), np.int32)
        gains = np.zeros(after.shape, np.float32)
        for state in range(len(children)):
            for label, spelling in enumerate(spellings):
                reached, bonuses = state, 0.0
                for letter in spelling:
                    reached, done = advance(reached, letter)
                    bonuses += done
                after[state, label] = reached
                gains[state, label] = bonuses + shares[reached] - shares[state]
        ends = np.array(over, np.float32) - np.array(shares, np.float32)
        return cls(after, gains, ends, np.int32(children[0].get(" ", 0)))

    def start(self) -> jax.Array:
        """Return the state [] of the empty prefix."""
        return jnp.asarray(self.first)

    def lengthen(self, states, labels, bonus):
        """Return how much each label [K] changes the score of each prefix, float32 [W, K], and the states after it [W,
        K]."""
        cell = states[:, None], labels[None]
        return bonus * self.gains[cell], self.after[cell]

    def finish(self, states, bonus):
        """Return how much the end changes the score of each prefix, float32 [W]."""
        return bonus * self.ends[states]

    def pending(self, states, bonus):
        """Return what the labels of each prefix have yet to add, float32 [W]: nothing, since each counts at once."""
        return jnp.zeros(states.shape)


def _trie(
    phrases: Sequence[str], weights: Mapping[str, float]
) -> tuple[list[dict[str, int]], list[float], list[float]]:
    """Return the letters that lead from each state to others, the share of a phrase's worth that each state has
    spelled, and the worth of the phrase that ends in it."""
    children, shares, over = [{}], [0.0], [0.0]
    for phrase in phrases:
        state, worth = 0, weights.get(phrase, 1.0)
        for spelled, letter in enumerate(f" {phrase}"):
            if letter not in children[state]:
                children[state][letter] = len(children)
                children.append({})
                shares.append(0.0)
                over.append(0.0)
            state = children[state][letter]
            shares[state] = max(shares[state], worth * spelled / len(phrase))
        over[state] = worth
    return children, shares, over


def _fall_back(children: list[dict[str, int]], shares: list[float], over: list[float]) -> list[int]:
    """Return the state of the longest proper suffix of each state; completes `shares` and `over`.

    A state's share is the largest among its own and its suffixes'; all phrases that end there count.
    """
    back = [0] * len(children)
    queue = deque(children[0].values())
    while queue:
        state = queue.popleft()
        over[state] += over[back[state]]
        shares[state] = max(shares[state], shares[back[state]])
        for letter, child in children[state].items():
            suffix = back[state]
            while suffix and letter not in children[suffix]:
                suffix = back[suffix]
            back[child] = children[suffix].get(letter, 0)
            queue.append(child)
    return back
