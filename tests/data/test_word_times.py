"""Ends of units in frames, against numbers worked out by hand and against a slow reference."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from joint_st.data.utterance import Utterance
from joint_st.data.word_times import unit_ends, word_times


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


def test_times_count_only_where_the_normalised_words_are_as_many():
    times = np.array([0.0, 1.0]), np.array([0.5, 1.5])

    def utterance(word_times):
        return Utterance("a", np.zeros(0, np.int16), 8000, "Dr. Smith", "", "", "", word_times)

    assert word_times(utterance(times), "dr smith") == times
    assert word_times(utterance(times), "doctor john smith") is None
    assert word_times(utterance(None), "dr smith") is None
    assert word_times(utterance((np.zeros(0), np.zeros(0))), "") is None
