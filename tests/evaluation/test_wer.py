"""Errors and alignments against jiwer, a textbook Levenshtein distance, and sentences counted by hand."""

import random
from collections import Counter

import jiwer
import pytest

from joint_st.evaluation.wer import ALL, Errors, align_words, count_errors, total

NAMES = {"anna", "lee", "oslo", "suzanna"}


def subset_of(word):
    if word == "unheard-of":
        return None
    return "text_only" if word in NAMES else "heard"


def words_wrong(errors):
    return errors.insertions, errors.deletions, errors.substitutions


def distance(a, b):
    """Levenshtein's distance by its recurrence."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            diagonal, row[j] = row[j], min(diagonal + (x != y), row[j] + 1, row[j - 1] + 1)
    return row[-1]


def random_pairs(count, seed=0):
    rng = random.Random(seed)
    words = ["so", "went", "to", "too", "two", "unheard-of", *NAMES]
    for _ in range(count):
        reference = rng.choices(words, k=rng.randint(0, 8))
        heard = [rng.choice([[word]] * 3 + [[], [word, "to"], ["an", "na"]]) for word in reference]
        hypothesis = sum(heard, [])
        yield " ".join(reference), " ".join(rng.choice([hypothesis, rng.choices(words, k=rng.randint(0, 8))]))


def test_counts_of_all_words_equal_jiwer():
    pairs = [(reference, hypothesis) for reference, hypothesis in random_pairs(500) if reference]
    references, hypotheses = map(list, zip(*pairs))
    found = total(count_errors(*pair)[ALL] for pair in pairs)
    words = jiwer.process_words(references, hypotheses)
    characters = jiwer.process_characters(references, hypotheses)
    assert words_wrong(found) == (words.insertions, words.deletions, words.substitutions)
    assert found.wer == words.wer and found.cer == characters.cer


def test_errors_are_the_least_possible():
    for reference, hypothesis in random_pairs(300, seed=1):
        found = count_errors(reference, hypothesis)[ALL]
        assert found.word_errors == distance(reference.split(), hypothesis.split())
        assert found.character_errors == distance(reference, hypothesis)
        assert (found.words, found.characters) == (len(reference.split()), len(reference))


def test_subsets_partition_errors_words_and_characters():
    for reference, hypothesis in random_pairs(500, seed=2):
        found = count_errors(reference, hypothesis, lambda word: subset_of(word) or "unknown")
        everything = found.pop(ALL)
        if reference:
            assert total(found.values()) == everything
            assert set(found) == {subset_of(word) or "unknown" for word in reference.split()}
        else:
            assert not found


@pytest.mark.parametrize(
    ("reference", "hypothesis", "heard", "text_only"),
    [
        # Insertions, deletions and substitutions of each subset.
        ("so anna went", "so anna went", (0, 0, 0), (0, 0, 0)),
        ("so anna went", "so hannah went", (0, 0, 0), (0, 0, 1)),
        ("so anna went", "so went", (0, 0, 0), (0, 1, 0)),
        ("so anna went", "no anna went", (0, 0, 1), (0, 0, 0)),
        # An insertion belongs to the word before it, or to the first.
        ("so anna went", "so anna he went", (0, 0, 0), (1, 0, 0)),
        ("so anna went", "so the anna went", (1, 0, 0), (0, 0, 0)),
        ("anna went", "the anna went", (0, 0, 0), (1, 0, 0)),
        ("anna went", "anna went to to", (2, 0, 0), (0, 0, 0)),
        # What was made of one word is not charged to the one before it.
        ("so anna went", "so an na went", (0, 0, 0), (1, 0, 1)),
        ("so went to oslo", "so went to as low", (0, 0, 0), (1, 0, 1)),
        ("anna went", "anna he wend", (1, 0, 1), (0, 0, 0)),
    ],
)
def test_attribution_of_word_errors(reference, hypothesis, heard, text_only):
    found = count_errors(reference, hypothesis, subset_of)
    assert words_wrong(found["heard"]) == heard
    assert words_wrong(found["text_only"]) == text_only


@pytest.mark.parametrize(
    ("reference", "hypothesis", "heard", "text_only"),
    [
        # Character errors and characters of each subset; a space is its left word's.
        ("so anna went", "so hanna went", (0, 7), (1, 5)),
        ("so anna went", "so annah went", (0, 7), (1, 5)),
        ("so anna went", "so an na went", (0, 7), (1, 5)),
        ("so anna went", "sow anna went", (1, 7), (0, 5)),
        ("so anna went", "so annawent", (0, 7), (1, 5)),
        ("so anna", "so na", (0, 3), (2, 4)),
        ("anna so", "anna soon", (2, 2), (0, 5)),
    ],
)
def test_attribution_of_character_errors(reference, hypothesis, heard, text_only):
    found = count_errors(reference, hypothesis, subset_of)
    assert (found["heard"].character_errors, found["heard"].characters) == heard
    assert (found["text_only"].character_errors, found["text_only"].characters) == text_only


def test_a_word_in_no_subset_counts_under_all_alone():
    found = count_errors("unheard-of anna", "unheard anna", subset_of)
    assert words_wrong(found[ALL]) == (0, 0, 1) and found[ALL].words == 2
    assert set(found) == {ALL, "text_only"} and found["text_only"].word_errors == 0


def test_empty_references_and_hypotheses():
    assert count_errors("", "", subset_of) == {ALL: Errors()}
    assert count_errors("", "so so", subset_of) == {ALL: Errors(insertions=2, character_errors=5)}
    found = count_errors("so anna", "", subset_of)
    assert found[ALL] == Errors(deletions=2, words=2, character_errors=7, characters=7)
    assert Errors(insertions=2).wer is None and Errors(character_errors=3).cer is None


CHINESE, THAI = "\u4eca\u5929\u5929\u6c14\u5f88\u597d", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35"


@pytest.mark.parametrize(
    "reference, hypothesis, errors, characters",
    [
        (f"{CHINESE} {CHINESE}", CHINESE * 2, 0, 12),  # what a normaliser leaves of a comma
        (CHINESE, " ".join(CHINESE), 0, 6),  # as a CTM of characters, or a trn
        (f"{CHINESE} iphone", f"{CHINESE}iphone", 0, 12),
        (f"iphone pro {CHINESE}", f"iphonepro{CHINESE}", 1, 16),  # the space between two Latin words is one
        (f"{THAI} {THAI}", THAI + THAI[:-1], 1, 12),
        ("\ud55c \uad6d", "\ud55c\uad6d", 1, 3),  # Korean has spaces between words
    ],
)
def test_spaces_next_to_letters_of_scripts_without_spaces_are_no_characters(reference, hypothesis, errors, characters):
    found = count_errors(reference, hypothesis, lambda word: word)
    assert (found["all"].character_errors, found["all"].characters) == (errors, characters)
    # Each belongs to a word.
    own = [one for name, one in found.items() if name != "all"]
    assert sum(one.character_errors for one in own) == errors and sum(one.characters for one in own) == characters


def test_white_space_is_no_error():
    assert count_errors("so  anna ", " so anna")[ALL] == Errors(words=2, characters=7)


def test_sums_are_divided_once():
    """The WER of a set is not the mean of its utterances' WERs."""
    wrong, long = count_errors("so", "to"), count_errors("so anna went to oslo", "so anna went to oslo")
    assert total([wrong[ALL], long[ALL]]).wer == 1 / 6


@pytest.mark.parametrize(
    "reference, hypothesis, expected",
    [
        ("", "", ""),
        ("a", "", "-a"),
        ("", "a", "+a"),
        ("so anna went", "so an na went", "so anna>an +na went"),
        ("b", "x y", "b>x +y"),
        ("a b c", "a c", "a -b c"),
        ("a b c d", "a x y z d", "a b>x c>y +z d"),
    ],
)
def test_by_hand(reference, hypothesis, expected):
    forms = {"equal": "{0}", "substitute": "{0}>{1}", "delete": "-{0}", "insert": "+{1}"}
    ops = align_words(reference.split(), hypothesis.split())
    assert " ".join(forms[kind].format(word, heard) for kind, word, heard in ops) == expected


def test_random_texts_are_aligned_at_the_least_cost():
    rng = random.Random(0)
    for _ in range(300):
        reference, hypothesis = (rng.choices("abcd", k=rng.randint(1, 9)) for _ in range(2))
        ops = align_words(reference, hypothesis)
        assert [op.reference for op in ops if op.reference is not None] == reference
        assert [op.hypothesis for op in ops if op.hypothesis is not None] == hypothesis
        for kind, word, heard in ops:
            expected = "insert" if word is None else "delete" if heard is None else None
            assert kind == (expected or ("equal" if word == heard else "substitute"))
        kinds = Counter(op.kind for op in ops)
        least = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
        assert len(ops) - kinds["equal"] == least.insertions + least.deletions + least.substitutions
