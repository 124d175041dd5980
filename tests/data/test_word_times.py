"""Ends of units in frames, against numbers worked out by hand and against a slow reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from joint_st.data.normalizers import normalizer
from joint_st.data.utterance import Utterance
from joint_st.data.word_times import states_times, timed_groups, unit_ends, word_times


def ends(words, spans, frames=1000):
    starts, stops = np.array(spans, float).T
    return unit_ends(np.array(words, int), starts, stops, 0.04, frames).tolist()


def test_units_share_their_word_and_boundaries_take_the_gap():
    # Seconds 0.4-0.8 are frames 10-20, 1.2-1.6 frames 30-40, 1.6-2.0 frames 40-50.5.
    spans = [(0.4, 0.8), (1.2, 1.6), (1.6, 2.02)]
    assert ends([0, 0, -1, 1, -1, 2, 2, 2, 2], spans) == [15, 20, 30, 40, 40, 43, 45, 48, 50]
    assert ends([0, 1, 2], spans) == [20, 40, 50]
    assert ends([-1, 0, 1, -1, 2, -1], spans) == [10, 20, 40, 40, 50, 50]
    assert ends([0, 0, -1, 2], spans) == [15, 20, 40, 50]  # a mute word
    assert ends([0, 0, -1, 1, 2], spans, frames=33) == [15, 20, 30, 33, 33]
    assert ends([], spans) == []


WORD = st.tuples(st.integers(0, 4), st.floats(0, 1), st.floats(0, 0.5))


@settings(max_examples=50, deadline=None)
@given(st.lists(WORD, min_size=1, max_size=6), st.booleans())
def test_it_is_what_the_definition_says(drawn, boundaries):
    """Words of so many units, so long, after a gap."""
    words, spans, expected, now = [], [], [], 0.0
    for n, (units, seconds, gap) in enumerate(drawn):
        start, now = now + gap, now + gap + seconds
        spans.append((start, now))
        if units and words and boundaries:
            words.append(-1)
            expected.append(start)
        for u in range(units):
            words.append(n)
            expected.append(start + seconds * (u + 1) / units)
    assert ends(words, spans) == np.rint(np.array(expected) / 0.04).astype(int).tolist()


def test_words_that_overlap_still_end_in_order():
    assert ends([0, -1, 1], [(0.0, 0.8), (0.4, 0.6)]) == [20, 20, 20]


def utterance(text, times):
    return Utterance("a", np.zeros(0, np.int16), 8000, text, "", "", "", times)


ENGLISH = normalizer("english")


def test_times_are_those_of_the_written_words_token_by_token():
    """The numbers of written and normalised words agree here, but the dash is no word and the number is two."""
    starts, stops = np.array([0.1, 0.4, 0.5, 0.9]), np.array([0.4, 0.5, 0.8, 1.5])
    found = word_times(utterance("Homer – came twenty-six.", (starts, stops)), "homer came twenty six", ENGLISH)
    np.testing.assert_array_equal(found, [[0.1, 0.5, 0.9, np.nan], [0.4, 0.8, np.nan, 1.5]])
    assert timed_groups(found[0]).tolist() == [0, 1, 2, 2]
    plain = word_times(utterance("Dr. Smith", (starts[:2], stops[:2])), "dr smith", ENGLISH)
    np.testing.assert_array_equal(plain, [starts[:2], stops[:2]])


@pytest.mark.parametrize(
    "written, count",
    [
        ("dr smith", 3),  # fewer words than times
        ("Homer ran 3 ½ miles", 5),  # the normaliser says "three and a half"
        ("...", 1),  # nothing is said
        ("", 0),
    ],
)
def test_times_that_cannot_be_matched_are_unknown(written, count):
    times = np.arange(count) * 0.5, np.arange(count) * 0.5 + 0.25
    one = utterance(written, times)
    assert word_times(one, ENGLISH(written), ENGLISH) is None and states_times(one) == bool(count)
    assert word_times(utterance(written, None), ENGLISH(written), ENGLISH) is None


def test_units_of_words_that_are_written_as_one_share_their_time():
    """`twenty six` from 0.4 s to 1.2 s, frames 10 to 30: its four units take five each, the boundary between none."""
    spans = [(0.4, np.nan), (np.nan, 1.2), (1.6, 2.0)]
    assert ends([0, 0, -1, 1, 1, -1, 2], spans) == [15, 20, 20, 25, 30, 40, 50]
