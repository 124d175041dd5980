"""Lines about a training that fails without an error: collapse to blanks, and overfitting."""

from __future__ import annotations

import pytest

from joint_st.training.symptoms import Symptoms


def lines(evaluations, losses=(2.0,) * 99, rates=lambda step: {}):
    """What is said after each evaluation, by its step, where something is."""
    symptoms, said = Symptoms(), {}
    for step, (rank, loss) in enumerate(zip(evaluations, losses), 1):
        for one in (loss + 0.5, loss - 0.5):
            symptoms.add_loss(one)
        if found := symptoms.found(step, rank, f"wer {rank:.2%}", rates(step)):
            said[step] = found
    return said


def collapsed(*steps, length=0.01, blanks=0.999):
    """Rates of a full-context head that emits next to nothing at some steps."""

    def rates(step):
        own = (length, blanks) if step in steps else (0.9, 0.8)
        names = ("length_ratio", "blank_share")
        return {
            **{f"dev_full_context_{name}": value for name, value in zip(names, own)},
            **{f"dev_streaming_{name}": value for name, value in zip(names, (0.9, 0.8))},
        }

    return rates


def test_a_collapse_is_told_once_it_lasts():
    falling = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]
    assert lines(falling, rates=collapsed(1)) == {}, "every CTC begins so"
    found = lines(falling, rates=collapsed(2, 3, 4))
    assert found.keys() == {3} and found[3][0].startswith(
        "the full-context head still emits almost nothing (blanks on 99.9% of the frames, 1.0% of the references' length)"
    )
    assert "optimizer.peak_learning_rate" in found[3][0]
    assert lines(falling, rates=collapsed(1, 2, 4, 5)).keys() == {2, 5}, "again after it had recovered"
    assert lines(falling, rates=collapsed(1, 2, 3, length=0.3)) == {}, "some text is there"
    assert lines(falling, rates=collapsed(1, 2, 3, blanks=0.9)) == {}, "long labels on few frames"


@pytest.mark.parametrize(
    ("wers", "losses", "told"),
    [
        ([0.9, 0.6, 0.6, 0.61, 0.6], [3, 2, 1.5, 1.2, 1.0], {5}),
        ([0.9, 0.6, 0.599, 0.598, 0.597], [3, 2, 1.5, 1.2, 1.0], {5}),  # less by next to nothing
        ([0.9, 0.6, 0.6, 0.61, 0.6], [3, 2, 1.99, 1.98, 1.97], set()),  # the loss stands too: it has converged
        ([0.9, 0.6, 0.6, 0.61, 0.5], [3, 2, 1.5, 1.2, 1.0], set()),
        ([0.9, 0.6, 0.6, 0.61, 0.62, 0.63, 0.64, 0.65], [3, 2, 1.5, 1.2, 1.0, 0.9, 0.8, 0.7], {5}),  # told once
        ([0.6, 0.6, 0.6, 0.6, 0.5, 0.5, 0.5, 0.5], [3, 2, 1.5, 1.2, 1.0, 0.9, 0.8, 0.7], {4, 8}),
    ],
)
def test_overfitting_is_told_where_the_dev_set_stands_and_the_loss_falls(wers, losses, told):
    found = lines(wers, losses)
    assert found.keys() == told


def test_the_line_names_step_and_losses():
    (line,) = lines([0.9, 0.6, 0.6, 0.61, 0.6], [3, 2, 1.5, 1.2, 1.0])[5]
    assert line.startswith(
        "the dev set has not improved since step 2 (wer 60.00%), while the training loss fell from 2.000 to 1.000:"
    )
