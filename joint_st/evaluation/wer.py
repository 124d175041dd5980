"""Word and character errors of hypotheses, in all and by subsets of the reference words.

References and hypotheses are normalised texts; words are what stands between white space, characters those of
the words joined by single spaces (as jiwer counts both), or by none next to a letter of a script without spaces: there
a space is no more than what a normaliser leaves of punctuation. The words are aligned by
`align_words`, the characters by RapidFuzz at the same costs.

Errors are attributed to subsets of the vocabulary (say, words heard in training) by the reference word that
they belong to, so that disjoint subsets share no error, and every error belongs to some word:

- a substitution or deletion belongs to its reference word;
- an insertion belongs to the reference word before it, or to the first one if it comes before all;
- character errors come from an alignment of the characters. A character belongs to its word, the space after
  a word to that word. An inserted character belongs to the word of the character before it, or, at the start
  of a word, to that word.

An empty reference has 0 words; all words of its hypothesis are insertions, which belong to no subset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein

from joint_st.data.scripts import written_with_space

ALL = "all"
"""The subset of all words."""


@dataclass(frozen=True, slots=True)
class Errors:
    """Counts of one utterance, or of many: they add up, and are divided once, at the end."""

    insertions: int = 0
    deletions: int = 0
    substitutions: int = 0
    words: int = 0
    """Number of words in the reference."""
    character_errors: int = 0
    """Number of insertions, deletions and substitutions of characters."""
    characters: int = 0
    """Number of characters in the reference, spaces between words included where their script has any."""

    def __add__(self, other: Errors) -> Errors:
        return Errors(
            self.insertions + other.insertions,
            self.deletions + other.deletions,
            self.substitutions + other.substitutions,
            self.words + other.words,
            self.character_errors + other.character_errors,
            self.characters + other.characters,
        )

    @property
    def word_errors(self) -> int:
        return self.insertions + self.deletions + self.substitutions

    @property
    def wer(self) -> float | None:
        """Word errors per reference word, a fraction that may exceed 1; None where there are no words."""
        return self.word_errors / self.words if self.words else None

    @property
    def cer(self) -> float | None:
        """Character errors per reference character; None where there are none."""
        return self.character_errors / self.characters if self.characters else None


def count_errors(
    reference: str, hypothesis: str, subset_of: Callable[[str], str | None] | None = None
) -> dict[str, Errors]:
    """Return the errors of an utterance under `all`, and under each subset that has a word in the reference.

    subset_of: the name of the subset a word is in, or None if it is in none.
    """
    words = reference.split()
    by_word = _errors_by_word(words, hypothesis.split())
    found = {ALL: total(by_word)}
    if subset_of:
        for word, errors in zip(words, by_word):
            subset = subset_of(word)
            if subset is not None:
                found[subset] = found.get(subset, Errors()) + errors
    return found


def total(errors: Iterable[Errors]) -> Errors:
    """Return the sum over words or utterances."""
    return sum(errors, Errors())


def _errors_by_word(reference: list[str], hypothesis: list[str]) -> list[Errors]:
    """Return the errors that belong to each reference word, or to an unnamed one of 0 words if the reference is
    empty."""
    words = max(len(reference), 1)
    insertions, deletions, substitutions, character_errors = ([0] * words for _ in range(4))

    position = 0
    for op in align_words(reference, hypothesis):
        if op.kind == INSERT:
            insertions[max(position - 1, 0)] += 1
            continue
        deletions[position] += op.kind == DELETE
        substitutions[position] += op.kind == SUBSTITUTE
        position += 1

    # The space after a word belongs to the word, and an insertion is at the character before which it comes.
    spelled = _with_spaces(reference)
    owners = [word for word, spelling in enumerate(spelled) for _ in spelling]
    owners.append(words - 1)  # an insertion at the end
    for _, position, _ in Levenshtein.editops("".join(spelled), "".join(_with_spaces(hypothesis))).as_list():
        character_errors[owners[position]] += 1

    characters = [len(spelling) for spelling in spelled] or [0]
    counted = [1] * len(reference) or [0]
    columns = insertions, deletions, substitutions, counted, character_errors, characters
    return [Errors(*row) for row in zip(*columns, strict=True)]


def _with_spaces(words: list[str]) -> list[str]:
    """Return each word with the space after it, if that counts as a character."""
    pairs = zip(words, words[1:])
    return [word + " " * written_with_space(word, after) for word, after in pairs] + words[-1:]


EQUAL, SUBSTITUTE, DELETE, INSERT = "equal", "substitute", "delete", "insert"


class Op(NamedTuple):
    """One step of the alignment of a reference with a hypothesis."""

    kind: str
    """`equal`, `substitute`, `delete` or `insert`."""
    reference: str | None
    """Word of the reference; None for an insertion."""
    hypothesis: str | None
    """Word of the hypothesis; None for a deletion."""


def align_words(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Op]:
    """Return the steps from the reference's words to the hypothesis's, in order; each word of either is in exactly one.

    It is RapidFuzz's alignment of least cost, with cost 1 for each insertion, deletion and substitution. If a
    substitution can come before or after an insertion (`so anna`, recognised as `so an na`), it comes before, so that
    the errors in one word are not attributed to its neighbour.
    """
    ops: list[Op] = []
    edits = Levenshtein.opcodes(reference, hypothesis).as_list()
    inserted = 0
    for (tag, start, end, heard, heard_end), after in zip(edits, [*edits[1:], None]):
        if tag == "insert" and after is not None and after[0] == "replace":
            # RapidFuzz inserts first where it could substitute first at the same cost.
            inserted = heard_end - heard
            continue
        # The first words of the hypothesis are substitutions, and the rest are insertions.
        said = hypothesis[heard - inserted : heard_end]
        words = reference[start:end]
        if tag == "delete":
            ops += [Op(DELETE, word, None) for word in words]
        else:
            kind = EQUAL if tag == "equal" else SUBSTITUTE
            ops += [Op(kind, word, other) for word, other in zip(words, said)]
            ops += [Op(INSERT, None, other) for other in said[len(words) :]]
        inserted = 0
    return ops
