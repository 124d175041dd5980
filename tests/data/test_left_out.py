"""What is said where a bound leaves out a good part of the data."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from joint_st.data.left_out import tell_too_long


@pytest.mark.parametrize(
    ("lengths", "most", "said"),
    [
        # 39 of 130 units are in the two longest.
        ([1] + [10] * 9 + [19, 20], 15, "leaves out the longest 2 of 12, with 30 % of all text units; 20 would"),
        ([1] * 1000 + [10] * 90 + [19, 700], 15, "leaves out the longest 2 of 1092, with 27 % of all text units; 700"),
        ([1] * 1000 + [10] * 90 + [19, 500], 15, ""),  # 21 %
        ([10] * 99 + [11], 10, ""),  # one of a hundred, and as much of the units
        ([10] * 9, 10, ""),
        ([], 10, ""),
    ],
)
def test_a_bound_that_leaves_out_much_is_named_with_one_that_does_not(caplog, lengths, most, said):
    with caplog.at_level(logging.WARNING):
        tell_too_long("data.max_text_units", np.array(lengths, np.int32), most, "text units")
    assert len(caplog.messages) == bool(said)
    if said:
        assert caplog.messages[0].startswith(f"data.max_text_units={most} {said}")


def test_the_proposed_bound_leaves_out_no_more_than_it_says(caplog):
    lengths = np.random.default_rng(0).exponential(5.0, 2000)
    with caplog.at_level(logging.WARNING):
        tell_too_long("data.max_seconds", lengths, 4.5, "seconds")
    (message,) = caplog.messages
    share = lengths[lengths > 4.5].sum() / lengths.sum()
    assert (
        f"data.max_seconds=4.5 leaves out the longest {(lengths > 4.5).sum()} of 2000, with {100 * share:.0f} %"
        in message
    )
    proposed = int(message.split("; ")[1].split()[0])
    assert 0 <= lengths[lengths > proposed].sum() <= 0.01 * lengths.sum() < lengths[lengths > proposed - 1.5].sum()
