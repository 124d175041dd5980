"""What is said of a step whose loss or gradient is not finite."""

from types import SimpleNamespace

import numpy as np
import pytest

from joint_st.errors import UserError
from joint_st.training.asr import make_reporting
from joint_st.training.loop import check_finite
from tests.tiny import tiny_config

BATCH = SimpleNamespace(number=4, rows={"paired": np.array([0, 1]), "text": np.array([2, -1])})
CHECKPOINTS = SimpleNamespace(wait=lambda: None, latest=lambda: 3)


def test_the_loss_is_the_mean_that_is_logged():
    """A step of a language model gives a sum over labels and their number."""
    metrics = {"loss": (10_000.0, 4_000.0), "gradient_norm": (np.nan, 1.0), "weights_norm": (1.0, 1.0)}
    with pytest.raises(
        UserError, match=r"step 5: the loss is 2\.5, the norm of its gradient nan, utterances a; the checkp"
    ):
        check_finite(BATCH, metrics, {}, CHECKPOINTS, lambda batch, rows: ["a"])


def test_rows_of_text_are_named_where_no_loss_is_of_speech(tmp_path):
    data = SimpleNamespace(
        paired=SimpleNamespace(id=lambda n: f"said {n}"), text=SimpleNamespace(id=lambda n: f"line {n}")
    )
    rows = make_reporting(tiny_config(tmp_path), data).nonfinite_rows
    assert rows(BATCH, {"text_loss": np.array([np.nan, np.nan])}) == ["line 2"]
    assert rows(BATCH, {"text_loss": np.zeros(2)}) == ["said 0", "said 1"]
    both = {"utterance_loss": np.array([0, np.inf]), "text_loss": np.array([np.nan, 0])}
    assert rows(BATCH, both) == ["said 1", "line 2"]
