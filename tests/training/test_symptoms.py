"""Lines about a training that fails without an error: collapse to blanks, and overfitting."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from joint_st.losses.base import Column
from joint_st.runs.directory import RunDirectory
from joint_st.training.loop import DevResult, Recorder, Reporting
from joint_st.training.symptoms import Symptoms
from tests.tiny import tiny_config


def lines(evaluations, losses=(2.0,) * 99, rates=lambda step: {}, text_first_steps=0):
    """What is said after each evaluation, by its step, where something is."""
    symptoms, said = Symptoms(text_first_steps), {}
    for step, (rank, loss) in enumerate(zip(evaluations, losses), 1):
        for one in (loss + 0.5, loss - 0.5):
            symptoms.add_loss(one, step - 1)
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


def test_steps_on_text_alone_show_nothing():
    """The dev set is speech: its WER stays, and its texts are empty, while the loss of text falls."""
    standing, falling = [1.0] * 6, [5.0, 4.0, 3.0, 2.0, 1.0, 0.5]
    silent = collapsed(*range(1, 7))
    assert lines(standing, falling, silent).keys() == {2, 4}, "both warnings, where all steps are on speech"
    assert lines(standing, falling, silent, text_first_steps=6) == {}
    # With text alone until step 6, step 7 is the first that counts: nothing is compared with what was before it.
    wers, losses = [*standing, 1.0, 0.9, 0.9, 0.9, 0.9], [*falling, 9.0, 8.0, 8.0, 8.0, 8.0]
    assert lines(wers, losses, collapsed(*range(1, 8)), text_first_steps=6) == {}
    assert lines(wers, losses, collapsed(*range(1, 9)), text_first_steps=6).keys() == {8}
    losses[-3:] = [7.0, 5.0, 4.0]
    found = lines(wers, losses, text_first_steps=6)
    assert (
        found.keys() == {11}
        and "since step 8 (wer 90.00%), while the training loss fell from 8.000 to 4.000" in found[11][0]
    )


@pytest.mark.parametrize("text_first_steps, told", [(0, [5]), (2, [7]), (3, [9]), (4, [9]), (8, [13]), (12, [])])
def test_a_run_that_begins_with_text_alone_is_not_warned_of_it(text_first_steps, told, tmp_path, capsys):
    """It is evaluated after each step, with a row of metrics for each two, and never improves, while its loss is
    halved."""
    fields = {"training.steps": 15, "training.log_every": 2, "data.text_batch_size": 2, "data.units.kind": "phonemes"}
    config = tiny_config(
        tmp_path,
        {**fields, "losses.reconstruction.streaming": 1.0, "training.text_first_steps": text_first_steps},
    )
    columns = tuple(map(Column, ("loss", "gradient_norm", "weights_norm", "learning_rate")))
    run = RunDirectory(tmp_path / "run")
    run.root.mkdir()
    reporting = Reporting(columns, lambda step: 0.1, lambda *_: ({}, "fast"), None)
    recorder = Recorder(config, run, reporting, 0, None)
    try:
        for number in range(14):
            metrics = {column.name: (np.float32(2.0**-number), np.float32(1)) for column in columns[:3]}
            recorder.add(SimpleNamespace(number=number), metrics, None)
            recorder.log_dev(number + 1, DevResult(1.0, {}, "wer 100 %"))
    finally:
        recorder.close()
    warned = [line.split()[1] for line in capsys.readouterr().err.splitlines() if "the model overfits" in line]
    assert warned == [f"{step}:" for step in told]
