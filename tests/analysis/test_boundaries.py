"""Word times implied by an alignment, on alignments written by hand."""

import numpy as np
import pytest

from joint_st.analysis.boundaries import boundary_errors, word_frames

#                 t  o     s   e   e     m   e
WORDS = np.array([0, 0, -1, 1, 1, 1, -1, 2, 2])


def test_a_word_lasts_from_its_first_frame_to_its_last():
    unit = [0, 0, 1, 2, 2, 3, 4, 5, 6, 7, 7, 8]
    assert word_frames(WORDS, unit).tolist() == [[0, 3], [5, 8], [9, 12]]


def test_a_word_without_frames_lies_where_it_is_passed_by():
    assert word_frames(WORDS, [0, 1, 2, 7, 8]).tolist() == [[0, 2], [3, 3], [3, 5]]
    assert word_frames(WORDS, [4, 4]).tolist() == [[0, 0], [0, 2], [2, 2]]


def test_boundaries_at_the_ends_of_the_text_belong_to_no_word():
    assert word_frames(np.array([-1, 0, 0, -1]), [0, 0, 1, 2, 3]).tolist() == [[2, 4]]


def test_without_boundaries_words_meet():
    assert word_frames(np.array([0, 0, 1]), [0, 1, 1, 2]).tolist() == [[0, 3], [3, 4]]


def test_a_text_of_boundaries_alone_has_no_words():
    assert word_frames(np.array([-1]), [0, 0]).shape == (0, 2)


def test_errors_are_in_seconds_between_the_anchored_ends():
    true = [[0.3, 0.12], [0.25, 0.3], [0.36, 0.6]]
    errors = boundary_errors(WORDS, [0, 0, 1, 2, 2, 3, 4, 5, 6, 7, 7, 8], true, 0.04)
    assert errors == pytest.approx([0, 0.05, 0.02, 0])
    assert boundary_errors(np.array([0, 0]), [0, 1], [[0.1, 0.2]], 0.04).size == 0
